"""Augmentation inside tf.data, from core Keras layers, on any backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_FLIPS = {
    None: (),
    "horizontal": ("horizontal",),
    "vertical": ("vertical",),
    # One RandomFlip for both axes flips both or neither; two are independent.
    "horizontal_and_vertical": ("horizontal", "vertical"),
}


@dataclass(frozen=True)
class Augment:
    """What to do to training images.

    All modalities of one source get the same transform, so that aligned images
    stay aligned. An absent (all-zero) image stays absent. Values stay in 0..255.
    Empty space is filled by reflection.

    Label maps move with the images, each pixel taking the label of the nearest one.
    RandAugment, MixUp and CutMix are for tasks with one label an image.

    Args:
        flip: "horizontal", "vertical", "horizontal_and_vertical" (each by its own
            coin) or None.
        rotation: largest rotation, as a fraction of a full turn (0.1 is 36
            degrees), either way.
        translation: largest shift, as a fraction of the image, either way.
        rand_augment: apply `keras.layers.RandAugment`: two operations a batch,
            with their strength drawn for each image.
        mixup: alpha of `keras.layers.MixUp`; 0 is off. Labels are mixed alike.
        cutmix: alpha of `keras.layers.CutMix`, at most 1; 0 is off. With both, a
            coin for each batch says which.
    """

    flip: str | None = None
    rotation: float = 0.0
    translation: float = 0.0
    rand_augment: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self):
        if self.flip not in _FLIPS:
            raise ValueError(
                f"flip={self.flip!r} is unknown: expected one of "
                f"{', '.join(repr(key) for key in _FLIPS)}."
            )
        for name, most in (
            ("rotation", 1.0),
            ("translation", 1.0),
            ("mixup", float("inf")),
            ("cutmix", 1.0),
        ):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 <= value <= most:
                limit = f"0 to {most:g}" if most < float("inf") else "0 or more"
                raise ValueError(f"{name}={value!r} is not usable: expected {limit}.")
        if not isinstance(self.rand_augment, bool):
            raise ValueError(
                f"rand_augment={self.rand_augment!r} is not usable: expected True or "
                "False."
            )

    @property
    def active(self) -> bool:
        """Whether anything is to be done."""
        return any(getattr(self, name) for name in self.__dataclass_fields__)

    def build(self) -> Callable:
        """Make the function that the pipeline maps over batches.

        Returns:
            `f(images, targets, weights, seed)` for one source: dicts of uint8
            images (B, H, W, C), one-hot targets (B, K) or, of label maps, (B, H, W,
            K), and weights (B,), and an int32 seed (2,) that decides everything
            random; returns the first three. A map none of whose known pixels is
            still in view gets weight 0. To be called inside `tf.data.Dataset.map`
            only.
        """
        return _Augmenter(self)


class _Augmenter:
    """The layers of one `Augment`, driven by a stateless seed."""

    def __init__(self, settings: Augment):
        import keras

        # Whatever the global policy is, pixels are transformed in float32.
        options = {"dtype": "float32", "data_format": "channels_last"}
        layers = keras.layers
        flips = [layers.RandomFlip(mode, **options) for mode in _FLIPS[settings.flip]]
        # Each with the layer that does the same to label maps.
        self._moves = [(flip, flip) for flip in flips]
        if settings.rotation:
            self._moves.append(
                tuple(
                    layers.RandomRotation(
                        settings.rotation,
                        fill_mode="reflect",
                        interpolation=interpolation,
                        **options,
                    )
                    for interpolation in ("bilinear", "nearest")
                )
            )
        if settings.translation:
            shift = layers.RandomTranslation(
                settings.translation,
                settings.translation,
                fill_mode="reflect",
                # Whole pixels: a second interpolation after the rotation's would
                # blur training images against test images.
                interpolation="nearest",
                **options,
            )
            self._moves.append((shift, shift))
        self._colour = []
        if settings.rand_augment:
            layer = layers.RandAugment(value_range=(0, 255), **options)
            layer.equalization = _equalization(options)
            self._colour.append(layer)
        self._mixers = []
        if settings.mixup:
            self._mixers.append(layers.MixUp(float(settings.mixup), **options))
        if settings.cutmix:
            # A single number would be an upper bound from which alpha is drawn.
            alpha = float(settings.cutmix)
            self._mixers.append(layers.CutMix((alpha, alpha), **options))
        self._seeds = _step_seeds()
        moves = [layer for both in self._moves for layer in both]
        for layer in [*moves, *self._colour, *self._mixers]:
            _drive(layer, self._seeds)

    def __call__(self, images, targets, weights, seed):
        import tensorflow as tf

        self._seeds.start(seed)
        images = {name: tf.cast(image, tf.float32) for name, image in images.items()}
        present = {
            name: tf.cast(tf.reduce_any(image > 0, axis=[1, 2, 3]), tf.float32)
            for name, image in images.items()
        }
        maps = {k: target for k, target in targets.items() if target.shape.rank == 4}
        for layer, nearest in self._moves:
            drawn = _draw(layer, images)
            images = _apply(layer, drawn, images)
            maps = _apply(nearest, drawn, maps)
        for layer in self._colour:
            coloured = {name: _rgb(image) for name, image in images.items()}
            coloured = _apply(layer, _draw(layer, coloured), coloured)
            images = {
                name: coloured[name][..., : image.shape[-1]]
                for name, image in images.items()
            }
        in_view = {
            task: weights[task] * tf.reduce_max(labels, axis=[1, 2, 3])
            for task, labels in maps.items()
        }
        targets, weights = {**targets, **maps}, {**weights, **in_view}
        if len(self._mixers) == 2:
            coin = tf.random.stateless_uniform([], self._seeds.next()) < 0.5
            first, second = (
                _mix(mixer, images, targets, weights, present) for mixer in self._mixers
            )
            images, targets, weights = tf.nest.map_structure(
                lambda a, b: tf.where(coin, a, b), first, second
            )
        elif self._mixers:
            images, targets, weights = _mix(
                self._mixers[0], images, targets, weights, present
            )
        images = {
            name: tf.cast(
                tf.round(tf.clip_by_value(image, 0.0, 255.0))
                * present[name][:, None, None, None],
                tf.uint8,
            )
            for name, image in images.items()
        }
        return images, targets, weights


def _step_seeds():
    """A seed generator whose seeds depend only on the one it was started with.

    The layers' own generators count calls in a variable: in a parallel map the
    order of those calls is not fixed, and a resumed run could not go back to it.
    """
    import keras

    class StepSeeds(keras.random.SeedGenerator):
        def __init__(self):  # holds no state that Keras would have to track
            self._seed, self._drawn = None, 0

        def start(self, seed):
            self._seed, self._drawn = seed, 0

        def next(self, ordered=True):
            import tensorflow as tf

            self._drawn += 1
            return tf.random.fold_in(self._seed, self._drawn)

    return StepSeeds()


def _equalization(options):
    """Keras' Equalization, counting grey levels with one TensorFlow operation.

    When JAX is the backend Keras counts in a loop over 256 levels, unrolled into
    thousands of operations, which takes a minute to trace. The counts are the same.
    """
    import keras
    import tensorflow as tf

    class Equalization(keras.layers.Equalization):
        def _custom_histogram_fixed_width(self, values, value_range, nbins):
            low, high = (tf.cast(value, tf.float32) for value in value_range)
            place = tf.cast((values - low) * (nbins - 1) / (high - low), tf.int32)
            place = tf.clip_by_value(tf.reshape(place, [-1]), 0, nbins - 1)
            return tf.math.bincount(place, minlength=nbins, maxlength=nbins)

    return Equalization(value_range=(0, 255), **options)


def _drive(layer, seeds) -> None:
    """Let a layer, and layers inside it, draw from `seeds` on TensorFlow."""
    import keras

    layer.backend.set_backend("tensorflow")
    layer._get_seed_generator = lambda backend=None: seeds
    for inner in list(vars(layer).values()):
        if isinstance(inner, keras.layers.Layer) and inner is not layer:
            _drive(inner, seeds)


def _rgb(images):
    import tensorflow as tf

    return images if images.shape[-1] == 3 else tf.repeat(images, 3, axis=-1)


def _draw(layer, images):
    """One transformation for all modalities."""
    return layer.get_random_transformation(next(iter(images.values())), training=True)


def _apply(layer, drawn, images):
    return {
        name: layer.transform_images(image, drawn, training=True)
        for name, image in images.items()
    }


def _mix(layer, images, targets, weights, present):
    """Mix images and labels of one source within the batch.

    Targets are mixed times their weights and then brought back to sum to one, so
    that `weight * cross_entropy(target)` is the mixture of both images' own
    weighted losses; an unknown label (weight 0) then adds nothing.
    """
    import tensorflow as tf

    # One channel, so that a mask drawn for it fits any number of them.
    drawn = layer.get_random_transformation(
        next(iter(images.values()))[..., :1], training=True
    )

    def blend(values):
        return layer.transform_labels(values, drawn, training=True)

    # Beta draws with a small alpha can be 0/0; such a row keeps what it has.
    valid = tf.math.is_finite(
        blend(tf.ones_like(next(iter(present.values())))[:, None])
    )
    mixed_images = {}
    for name, image in images.items():
        # A partner whose image is absent would only darken this one.
        both = valid & (blend(present[name][:, None]) > present[name][:, None] - 1e-6)
        mixed = layer.transform_images(image, drawn, training=True)
        mixed_images[name] = tf.where(both[:, :, None, None], mixed, image)
    mixed_targets, mixed_weights = {}, {}
    for task, target in targets.items():
        own = target * weights[task][:, None]
        mass = tf.where(valid, blend(own), own)
        total = tf.reduce_sum(mass, axis=-1)
        mixed_targets[task] = tf.math.divide_no_nan(mass, total[:, None])
        mixed_weights[task] = total
    return mixed_images, mixed_targets, mixed_weights
