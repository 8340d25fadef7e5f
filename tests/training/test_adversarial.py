"""Adversarial training: what `fit` sees, and what comes of it."""

import keras
import numpy as np
import pytest

from drifa_keras.configs import parse_config
from drifa_keras.layers import AttentionNoise
from drifa_keras.models import MultimodalModel
from drifa_keras.robustness import PGD
from drifa_keras.training import adversarial_training, compile_model, fit
from harness import as_numpy

L = keras.layers

SHAPES = {"ct": (8, 8, 1), "skin": (8, 8, 3)}
TASKS = {"x": 2, "y": 3}
EPS = 4 / 255


class Recording(MultimodalModel):
    """Keeps the batches that a training step is made of."""

    def train_step(self, *arguments):  # of JAX, (state, data)
        self.__dict__.setdefault("batches", []).append(arguments[-1])
        return super().train_step(*arguments)


def make_model(cls=MultimodalModel, shapes=SHAPES, tasks=TASKS, noise=0.0, **compiled):
    keras.utils.set_random_seed(4)
    inputs, streams, _ = cls.open_streams(shapes)
    maps = [L.Conv2D(4, 3, name=f"{name}_conv")(x) for name, x in streams.items()]
    x = L.Concatenate()(maps) if len(maps) > 1 else maps[0]
    x = L.ReLU()(L.BatchNormalization(momentum=0.9, name="norm")(x))
    x = AttentionNoise(noise)(x) if noise else x
    model = cls(inputs, L.Flatten()(x), shapes, tasks)
    options = {"loss": dict.fromkeys(tasks, "categorical_crossentropy")}
    optimizer = keras.optimizers.SGD(compiled.pop("learning_rate", 0.1))
    model.compile(optimizer, **{**options, **compiled})
    return model


def make_data(count=12, seed=0, shapes=SHAPES, tasks=TASKS):
    generator = np.random.default_rng(seed)
    images = {
        name: generator.integers(1, 256, (count, *shape)).astype("float32")
        for name, shape in shapes.items()
    }
    targets = {
        task: np.eye(n, dtype="float32")[generator.integers(0, n, count)]
        for task, n in tasks.items()
    }
    return images, targets


def seen_in_fit(
    model, images, targets, weights=None, epochs=1, batch_size=4, **options
):
    """The images of every step of `fit`."""
    model.__dict__["batches"] = []
    with adversarial_training(model, **{"eps": EPS, "steps": 3, **options}):
        model.fit(
            images,
            targets,
            sample_weight=weights,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=False,
            verbose=0,
        )
    return [
        {name: as_numpy(x) for name, x in batch[0].items()} for batch in model.batches
    ]


def recording(**options):
    return make_model(Recording, run_eagerly=True, **options)


def joined(batches):
    return {name: np.concatenate([x[name] for x in batches]) for name in SHAPES}


def loss_in_training(model, images, targets):
    """Cross-entropy of one batch with its own statistics, which moves the model's."""
    logits = model.logits_model(images, training=True)
    total = 0.0
    for task, z in logits.items():
        z = as_numpy(z).astype("float64")
        z -= z.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        total -= np.sum(targets[task] * log_p)
    return total


def test_what_fit_sees():
    images, targets = make_data()
    images["ct"][3:6] = 0
    seen = joined(seen_in_fit(recording(learning_rate=0.0), images, targets))
    for name, clean in images.items():
        change = np.abs(seen[name] - clean)
        assert change.max() <= 4 + 1e-4
        assert seen[name].min() >= 0 and seen[name].max() <= 255
        there = clean.any(axis=(1, 2, 3))
        assert change[there].mean() > 2  # an attack ends near its limits
        assert not change[~there].any()
    assert (images["skin"] < 4).any() and (images["skin"] > 251).any()


def test_bounds():
    images, targets = make_data()
    images = {name: 100 + x / 10 for name, x in images.items()}
    seen = joined(
        seen_in_fit(
            recording(learning_rate=0.0), images, targets, eps=0.5, bounds=(99, 126)
        )
    )
    for name, clean in images.items():
        assert seen[name].min() == 99 and seen[name].max() == 126
        assert np.abs(seen[name] - clean).max() <= 13.5 + 1e-4


def test_what_fit_sees_is_harder_than_noise():
    images, targets = make_data()
    model = recording()
    model.fit(images, targets, epochs=10, verbose=0)
    model.optimizer.learning_rate = 0.0
    (seen,) = seen_in_fit(model, images, targets, batch_size=12)
    generator = np.random.default_rng(0)
    clean = loss_in_training(model, images, targets)
    attacked = loss_in_training(model, seen, targets)
    noises = []
    for _ in range(10):
        noise = {
            name: np.clip(x + 4 * generator.choice([-1, 1], x.shape), 0, 255)
            for name, x in images.items()
        }
        noises.append(loss_in_training(model, noise, targets))
    assert attacked > max(noises)
    assert attacked > clean + 2 * (max(noises) - clean)


def test_samples_of_weight_nothing_do_not_matter():
    images, targets = make_data()
    weights = {task: np.ones(12, "float32") for task in TASKS}
    weights["x"][::2] = 0
    other = {task: y.copy() for task, y in targets.items()}
    other["x"][::2] = other["x"][::2, ::-1]
    changed = {task: y.copy() for task, y in targets.items()}
    changed["x"][1::2] = changed["x"][1::2, ::-1]
    seen = [
        joined(seen_in_fit(recording(), images, labels, weights))
        for labels in (targets, other, changed)
    ]
    for name in SHAPES:
        np.testing.assert_array_equal(seen[0][name], seen[1][name])
    assert any((seen[0][name] != seen[2][name]).any() for name in SHAPES)


@pytest.mark.parametrize(
    ("noise", "step_size"),
    [
        (0.0, 0.25),  # where the random start shows
        (3.0, 100.0),  # where the sign of a gradient under noise alone shows
    ],
)
def test_follows_from_seed_and_iteration(noise, step_size):
    images, targets = make_data(4)

    def run(start=0, seed=0, epochs=2):
        model = recording(learning_rate=0.0, noise=noise)
        model.optimizer.iterations.assign(start)
        options = {"steps": 1, "step_size": step_size, "seed": seed}
        return seen_in_fit(model, images, targets, epochs=epochs, **options)

    first, second = run()
    again = run()
    resumed = run(start=1, epochs=1)
    others = run(seed=1)
    for name in SHAPES:
        np.testing.assert_array_equal(first[name], again[0][name])
        np.testing.assert_array_equal(second[name], again[1][name])
        np.testing.assert_array_equal(second[name], resumed[0][name])
        assert (first[name] != second[name]).mean() > 0.1
        assert (first[name] != others[0][name]).mean() > 0.1


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_statistics_move_once_a_step_and_seeds_as_always(noise):
    images, targets = make_data(6)
    model = recording(learning_rate=0.0, noise=noise)
    (seen,) = seen_in_fit(model, images, targets, batch_size=6)
    maps = [
        as_numpy(model.get_layer(f"{name}_conv")(seen[name] / 255)) for name in SHAPES
    ]
    mean = np.concatenate(maps, axis=-1).mean(axis=(0, 1, 2))
    moving = as_numpy(model.get_layer("norm").moving_mean)
    np.testing.assert_allclose(moving, 0.1 * mean, atol=1e-5)

    plain = recording(learning_rate=0.0, noise=noise)
    plain.fit(images, targets, batch_size=6, verbose=0)
    for one, other in zip(
        model.non_trainable_variables, plain.non_trainable_variables, strict=True
    ):
        if "norm" not in one.path:
            np.testing.assert_array_equal(as_numpy(one), as_numpy(other), one.path)


def test_tiny_changes_are_plain_training():
    images, targets = make_data()
    plain, attacked = make_model(), make_model()
    before = [as_numpy(v) for v in plain.variables]
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    plain.fit(images, targets, **options)
    with adversarial_training(attacked, eps=1e-7, steps=2):
        attacked.fit(images, targets, **options)
    for start, one, other in zip(
        before, plain.variables, attacked.variables, strict=True
    ):
        np.testing.assert_allclose(
            as_numpy(one), as_numpy(other), atol=1e-3, err_msg=one.path
        )
        if one.path.endswith("kernel"):
            assert np.abs(as_numpy(one) - start).max() > 1e-2


def test_afterwards_the_model_is_as_it_was(tmp_path):
    images, targets = make_data()
    model = make_model(run_eagerly=True)
    with adversarial_training(model, eps=EPS, steps=1) as same:
        assert same is model
        assert "train_step" in vars(model)
        model.fit(images, targets, verbose=0)
        model.save(tmp_path / "inside.keras")
    assert "train_step" not in vars(model)
    with pytest.raises(RuntimeError), adversarial_training(model, EPS):
        raise RuntimeError
    assert model.train_step.__func__ is type(model).train_step
    for name in ("inside", "after"):
        if name == "after":
            model.save(tmp_path / "after.keras")
        loaded = keras.saving.load_model(tmp_path / f"{name}.keras")
        np.testing.assert_allclose(
            loaded.predict(images, verbose=0)["x"],
            model.predict(images, verbose=0)["x"],
            atol=1e-6,
        )
    # And what it trains on is clean again.
    model = recording()
    seen_in_fit(model, images, targets)
    model.batches.clear()
    model.fit(images, targets, batch_size=12, shuffle=False, verbose=0)
    np.testing.assert_array_equal(as_numpy(model.batches[0][0]["ct"]), images["ct"])


def test_validation_is_clean():
    images, targets = make_data()
    model = make_model(learning_rate=0.0)
    with adversarial_training(model, eps=0.2, steps=2):
        history = model.fit(
            images, targets, validation_data=(images, targets), verbose=0
        ).history
    clean = model.evaluate(images, targets, verbose=0, return_dict=True)["loss"]
    assert history["val_loss"][0] == pytest.approx(clean, rel=1e-5)


def shortcut_data(count, seed):
    """Two classes that a faint pattern tells for sure, and brightness mostly.

    The pattern has 3 grey levels, which a change of 6 turns round; brightness differs
    by 60, and has a spread of its own.
    """
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 2, count)
    sign = (2 * label - 1)[:, None, None]
    board = (-1) ** np.add.outer(np.arange(8), np.arange(8))
    level = generator.normal(0, 20, (count, 1, 1))
    images = 128 + 30 * sign + level + 3 * sign * board
    images = images + generator.normal(0, 1, (count, 8, 8))
    images = np.clip(np.round(images), 1, 255).astype("float32")[..., None]
    return {"ct": images}, {"x": np.eye(2, dtype="float32")[label]}


def test_robust_accuracy_rises():
    shapes, tasks = {"ct": SHAPES["ct"]}, {"x": 2}
    images, targets = shortcut_data(200, 0)
    test_images, test_targets = shortcut_data(200, 1)
    labels = test_targets["x"].argmax(axis=1)
    found = {}
    for eps in (None, 6 / 255):
        model = make_model(shapes=shapes, tasks=tasks)
        options = {"epochs": 15, "batch_size": 20, "shuffle": False, "verbose": 0}
        if eps is None:
            model.fit(images, targets, **options)
        else:
            with adversarial_training(model, eps, steps=3):
                model.fit(images, targets, **options)
        attacked = PGD(10)(model, test_images, labels, 6 / 255, batch_size=200)
        found[eps] = [
            np.mean(model.predict(x, verbose=0)["x"].argmax(axis=1) == labels)
            for x in (test_images, attacked)
        ]
    (clean, broken), (_, robust) = found.values()
    assert clean > 0.9
    assert robust > broken + 0.2
    assert robust > 0.6


def test_in_the_recipe():
    import tensorflow as tf

    images, targets = make_data()
    weights = {task: np.ones(12, "float32") for task in TASKS}
    data = tf.data.Dataset.from_tensor_slices((images, targets, weights)).batch(4)
    model = recording()
    compile_model(model)
    model.run_eagerly = True
    model.__dict__["batches"] = []
    history = fit(
        model,
        data,
        data,
        epochs=2,
        schedule="constant",
        adversarial={"eps": EPS, "steps": 2, "step_size": None, "seed": 7},
        verbose=0,
    )
    assert np.isfinite(history.history["loss"]).all()
    assert len(model.batches) == 6
    seen = joined(
        [{n: as_numpy(x) for n, x in batch[0].items()} for batch in model.batches[:3]]
    )
    change = np.abs(seen["skin"] - images["skin"])
    assert change.mean() > 1 and change.max() <= 4 + 1e-4
    assert "train_step" not in vars(model)


def configured(adversarial):
    return parse_config(
        {
            "name": "tiny",
            "data": {"sources": [{"reader": "phantoms"}]},
            "training": {"adversarial": adversarial},
        }
    ).training.adversarial


def test_in_a_configuration():
    found = configured({"eps": "4/255", "steps": 3})
    assert found.eps == 4 / 255
    assert (found.steps, found.step_size) == (3, None)
    assert configured({"eps": 0.1}).steps == 10
    assert configured(None) is None
    for bad in ({}, {"eps": 0}, {"eps": "4"}, {"eps": 0.1, "steps": 0}, {"eps": "x/y"}):
        with pytest.raises(ValueError, match="adversarial"):
            configured(bad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 0}, "above 0 and at most 1; four grey levels are 4/255.*eps=0"),
        ({"eps": 4}, "at most 1; four grey levels are 4/255.*eps=4"),
        ({"eps": -0.1}, "above 0"),
        ({"eps": float("nan")}, "above 0"),
        ({"eps": EPS, "steps": 0}, "`steps` must be an integer of at least 1.*0"),
        ({"eps": EPS, "steps": 2.5}, "`steps` must be an integer"),
        ({"eps": EPS, "step_size": 0.0}, "`step_size` must be above 0"),
    ],
)
def test_bad_arguments(options, message):
    model = make_model()
    with (
        pytest.raises(ValueError, match=message),
        adversarial_training(model, **options),
    ):
        pass
    assert "train_step" not in vars(model)
