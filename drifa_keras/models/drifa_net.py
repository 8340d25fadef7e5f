"""DRIFA-Net: Fig. 1 and Algorithm 1."""

import functools
import warnings

import keras

from drifa_keras.layers import MFA, MIFA, RRABlock
from drifa_keras.models.backbones import (
    CutBackbone,
    ResNet,
    check_choice,
    cut_inception,
)
from drifa_keras.models.multimodal_model import check_modalities
from drifa_keras.models.staged_model import StagedModel, as_switch, optional, plain

# Stands for all modalities; no modality can be called so.
_ANY = "*"
MFA_ARGUMENTS = ("hifa", "clia", "omega_d", "omega_l", "omega_c", "activation")
MIFA_ARGUMENTS = (
    "mgifa",
    "mlifa",
    "omega_d",
    "omega_l",
    "omega_c",
    "local_window",
    "shared_fc",
)


@keras.saving.register_keras_serializable(package="drifa_keras")
class DRIFANet(StagedModel):
    """DRIFA-Net on any backbone, for any number of modalities and tasks.

    One branch a modality. On `"resnet18"` it is a stem, then stages of two
    `RRABlock`s with an `MFA` behind each; any other backbone is cut where its stages
    end, and an `MFA` follows each stage. `MIFA` joins the branches; the streams are
    concatenated, pooled, and read by one softmax head a task.

    Reference: Dhar et al., *Multimodal Fusion Learning with Dual Attention for
    Medical Imaging*, WACV 2025, Fig. 1 and Algorithm 1. Where an Inception-v3 is cut
    the paper does not say.

    Args:
        modalities: Dict of modality name to image shape `(height, width,
            channels)`, with 1 or 3 channels. Sizes must lead to equal maps.
        tasks: Dict of task name to number of classes.
        backbone: `"resnet18"`, `"inception_v3"` (`keras.applications.InceptionV3`, for
            images of at least 75 px), a Functional model with one input and one
            output, or a dict of such models by modality. The network uses copies, with
            the weights and the frozen layers of what was given.
        mfa: `True`, `False` (no `MFA` anywhere) or a dict of arguments of `MFA`.
        mifa: `True`, `False` (no `MIFA`) or a dict of arguments of `MIFA`.
        fusion: Where `MIFA` stands: `"last"` (after the last block, as in
            Algorithm 1), `"every_stage"` or `"every_block"`.
        dropout: Rate of every dropout layer; 0 leaves them out.
        filters: Channels of each stage of `"resnet18"`; as many stages as entries.
        stem: Of `"resnet18"`: `"resnet"` (7x7 convolution of stride 2, then a pool of
            stride 2) or `"small"` (3x3 of stride 1, then a pool of stride 2), for
            images of 32 to 64 px.
        dropout_after: Where dropout stands beside the fused map: a stage `s`, for
            the end of that stage, or a pair `(s, b)` for a block of it, counted
            from 0. It comes before the `MFA` behind that block. By default behind
            the second and the third stage.
        final_mfa: Whether an `MFA` follows the very last block.
        stages: Names of the layers of the backbone where stages end, or a dict of
            such lists by modality. By default `mixed2`, `mixed7` and `mixed10` of an
            Inception-v3, and otherwise what
            `drifa_keras.models.stage_ends(backbone)` returns.
        shared_backbone: Whether all modalities go through one copy of the backbone,
            with an `MFA` of their own.
        weights: `"imagenet"` for an Inception-v3 that was trained on ImageNet
            (downloaded by Keras), `None` for fresh weights.
        norm_momentum: Momentum of the running statistics of batch normalisation; a
            backbone of yours keeps its own. 0.99 is what the released code uses; runs
            of a few hundred steps need less, or the statistics lag behind the weights.
        modality_dropout: Probability with which training blanks a modality.
        rescaling: Factor on the pixels; `None` takes them as they come. A backbone
            of yours gets what is left: pass 1.0 for one that rescales by itself, as
            EfficientNet and MobileNetV3 of `keras.applications` do.
        dtype: Dtype policy of the network; heads are float32.
        **kwargs: `name` and `trainable`.

    Call arguments:
        inputs: Dict of images `(batch, height, width, channels)`, pixels 0..255. An
            image of zeros counts as absent.

    Returns:
        Dict of float32 probabilities `(batch, classes)` keyed by task.

    Example:
    ```python
    model = DRIFANet(
        modalities={"dermoscopy": (128, 128, 3), "mri": (128, 128, 1)},
        tasks={"skin_lesion": 7, "tumor": 4},
    )
    ```
    """

    def __init__(
        self,
        modalities,
        tasks,
        backbone="resnet18",
        mfa=True,
        mifa=True,
        fusion="last",
        dropout=0.25,
        *,
        filters=(64, 128, 256, 512),
        stem="resnet",
        dropout_after=None,
        final_mfa=True,
        norm_momentum=0.99,
        stages=None,
        shared_backbone=False,
        weights=None,
        modality_dropout=0.0,
        rescaling=1 / 255,
        dtype=None,
        **kwargs,
    ):
        gate = optional(MFA, mfa, MFA_ARGUMENTS)
        if isinstance(backbone, str):
            check_choice("backbone", backbone, ("resnet18", "inception_v3"))
        check_choice("weights", weights, (None, "imagenet"))
        if weights and backbone != "inception_v3":
            raise ValueError(
                '`weights` is for `backbone="inception_v3"`. Pass a backbone of yours '
                "with its weights in it."
            )
        if backbone == "resnet18":
            if stages is not None or shared_backbone:
                raise ValueError(
                    '`stages` and `shared_backbone` are not for `backbone="resnet18"`, '
                    "whose blocks hold attention. Received: "
                    f"stages={stages!r}, shared_backbone={shared_backbone!r}."
                )
            branches = ResNet(
                filters,
                stem,
                functools.partial(RRABlock, mfa=mfa),
                gate,
                norm_momentum,
                dtype,
            )
        elif backbone == "inception_v3":
            branches = cut_inception(
                check_modalities(modalities),
                weights,
                stages,
                shared=shared_backbone,
                rescaling=rescaling,
                norm_momentum=norm_momentum,
                dtype=dtype,
            )
        else:
            branches = CutBackbone(
                _by_modality(backbone, modalities),
                stages,
                shared_backbone,
                dtype=dtype,
            )
            _warn_of_rescaling(branches.models, rescaling)
        super().__init__(
            modalities,
            tasks,
            branches=branches,
            gate=gate,
            final_gate=final_mfa,
            fuse=optional(MIFA, mifa, MIFA_ARGUMENTS),
            fusion=fusion,
            dropout=dropout,
            dropout_after=dropout_after,
            modality_dropout=modality_dropout,
            rescaling=rescaling,
            dtype=dtype,
            **kwargs,
        )

        # === Config ===
        # A model as an attribute would be tracked as a layer.
        self.backbone = _serialized(backbone)
        self.mfa = as_switch(mfa)
        self.mifa = as_switch(mifa)
        self.filters = tuple(filters)
        self.stem = stem
        self.final_mfa = bool(final_mfa)
        self.norm_momentum = norm_momentum
        self.stages = None if backbone == "resnet18" else branches.stages
        self.shared_backbone = bool(shared_backbone)

    def get_config(self):
        # `weights` are where training began, not what the network is.
        return {
            **super().get_config(),
            "backbone": plain(self.backbone),
            "mfa": as_switch(self.mfa),
            "mifa": as_switch(self.mifa),
            "filters": list(self.filters),
            "stem": self.stem,
            "final_mfa": self.final_mfa,
            "norm_momentum": self.norm_momentum,
            "stages": plain(self.stages),
            "shared_backbone": self.shared_backbone,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        backbone = config.get("backbone")
        if isinstance(backbone, dict):
            models = {
                name: keras.saving.deserialize_keras_object(
                    model, custom_objects=custom_objects
                )
                for name, model in backbone.items()
            }
            config = {**config, "backbone": models.get(_ANY, models)}
        return super().from_config(config, custom_objects=custom_objects)


def _by_modality(backbone, modalities):
    modalities = check_modalities(modalities)
    if not isinstance(backbone, dict):
        return dict.fromkeys(modalities, backbone)
    if set(backbone) != set(modalities):
        raise ValueError(
            f"`backbone` as a dict must name the modalities {list(modalities)}. "
            f"Received: {sorted(backbone)}."
        )
    return {name: backbone[name] for name in modalities}


def _warn_of_rescaling(models, rescaling):
    if rescaling in (None, 1.0):
        return
    for model in models.values():
        for layer in model.layers:
            if isinstance(layer, keras.layers.Rescaling):
                warnings.warn(
                    f"The backbone {model.name!r} rescales pixels itself ("
                    f"{layer.name!r}), and gets them multiplied by {rescaling:.3g} "
                    "already. Pass `rescaling=1.0`.",
                    stacklevel=4,
                )
                return


def _serialized(backbone):
    if isinstance(backbone, str):
        return backbone
    models = backbone if isinstance(backbone, dict) else {_ANY: backbone}
    return {
        name: plain(
            keras.saving.serialize_keras_object(
                keras.Model(model.inputs, model.outputs, name=model.name)
            )
        )
        for name, model in models.items()
    }
