"""Attacks against closed forms, and what holds of every attack."""

import keras
import numpy as np
import pytest

from drifa_keras import RobustMAILNet
from drifa_keras.layers import (
    AttentionNoise,
    RandomProjectionConv2D,
    freeze_randomness,
)
from drifa_keras.robustness import (
    APGD,
    BIM,
    FGSM,
    MIFGSM,
    PGD,
    Attack,
    RandomNoise,
    Square,
)
from drifa_keras.robustness._problem import Problem
from drifa_keras.robustness._victim import Victim, victim_of
from harness import as_numpy
from harness_robustness import SHAPES, Linear, pixels, softmax, vectors_of

L = keras.layers

EPS = 4 / 255
ATTACKS = {
    "FGSM": FGSM(),
    "BIM": BIM(3),
    "MI-FGSM": MIFGSM(3),
    "PGD": PGD(3, restarts=2),
    "PGD-DLR": PGD(3, loss="dlr"),
    "APGD-CE": APGD("ce", 5),
    "APGD-DLR": APGD("dlr", 5),
    "Square": Square(20),
    "noise": RandomNoise(restarts=2),
}
FROM_CLEAN = ("FGSM", "BIM", "MI-FGSM")
L2 = [name for name in ATTACKS if name != "Square"]


@pytest.fixture(scope="module")
def noisy():
    """A small network that draws a kernel and noise anew in every call."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((8, 8, 3), name="image")
    x = RandomProjectionConv2D(4, 3, random_ratio=0.5)(L.Rescaling(1 / 255)(inputs))
    x = L.Flatten()(AttentionNoise(0.2)(x))
    return keras.Model(inputs, L.Dense(3, name="kind")(x))


def image_and_labels(count=7, seed=1):
    x = pixels(count, {"image": (8, 8, 3)}, 1, 256, seed)["image"]
    return x, np.arange(count) % 3


def all_wrong_labels(model, x):
    """Labels that no answer of a fixed model agrees with, so that nothing is left."""
    return (model.predict(x, verbose=0).argmax(axis=1) + 1) % 3


# -- Closed forms ----------------------------------------------------------------------


def test_fgsm_is_exact(linear):
    x = pixels(6, low=1, high=256)  # some are cut at the bounds
    y = linear.labels(x)
    changed = FGSM()(linear.model, x, y, EPS)
    wanted = vectors_of(x) + np.float32(4) * np.sign(linear.gradient(x, y))
    assert (np.clip(wanted, 0, 255) != wanted).any()
    found = vectors_of(changed)
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, np.clip(wanted, 0, 255).astype("float32"))


def test_one_modality_leaves_the_other_alone(linear):
    x = pixels(6)
    y = linear.labels(x)
    for name, other in (("a", "b"), ("b", "a")):
        changed = FGSM()(linear.model, x, y, EPS, modalities=[name])
        np.testing.assert_array_equal(changed[other], x[other])
        both = FGSM()(linear.model, x, y, EPS)
        np.testing.assert_array_equal(changed[name], both[name])
        assert (changed[name] != x[name]).all()


def test_one_task_alone(linear):
    x = pixels(6)
    y = linear.labels(x)
    signs = {}
    for task in ("t", "u"):
        changed = FGSM()(linear.model, x, y, EPS, tasks=[task])
        alone = Linear({"t": 3, "u": 4})
        alone.kernels = {task: linear.kernels[task]}
        signs[task] = np.sign(alone.gradient(x, y))
        np.testing.assert_array_equal(
            vectors_of(changed), vectors_of(x) + 4 * signs[task]
        )
        # A task of unknown labels is the same as one that is left out.
        unknown = dict.fromkeys(y, np.full(6, -1)) | {task: y[task]}
        for labels in (unknown, {task: y[task]}):
            again = FGSM()(linear.model, x, labels, EPS)
            np.testing.assert_array_equal(vectors_of(again), vectors_of(changed))
    assert (signs["t"] != signs["u"]).any()


@pytest.mark.parametrize("name", ATTACKS)
def test_blank_images_stay_blank(linear, name):
    x = pixels(6)
    x["a"][:2], x["b"][2:4] = 0, 0
    changed = ATTACKS[name](linear.model, x, linear.labels(x), EPS)
    assert not changed["a"][:2].any()
    assert not changed["b"][2:4].any()
    assert (changed["a"] != x["a"]).any()
    assert (changed["b"] != x["b"]).any()


def test_l2_change_follows_the_gradient(linear):
    x = pixels(6)
    y = linear.labels(x)
    changed = FGSM()(linear.model, x, y, 0.25, norm="l2")
    change = (vectors_of(changed) - vectors_of(x)) / 255
    np.testing.assert_allclose(np.linalg.norm(change, axis=1), 0.25, rtol=1e-4)
    gradient = linear.gradient(x, y)
    gradient /= np.linalg.norm(gradient, axis=1, keepdims=True)
    np.testing.assert_allclose(change, 0.25 * gradient, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_steps_are_the_papers(linear, norm, monkeypatch):
    """BIM: Kurakin et al., Eq. 3; MI-FGSM: Dong et al., Eq. 6 and 7."""
    asked, gradient = [], Victim.gradient

    def asking(self, images, *rest):
        asked.append(vectors_of(images)[0])
        return gradient(self, images, *rest)

    monkeypatch.setattr(Victim, "gradient", asking)
    eps = 16 / 255 if norm == "linf" else 0.5
    order = np.inf if norm == "linf" else 2
    paths = {0.0: {}, 1.0: {}}
    for seed in range(6):
        x = pixels(1, seed=seed)
        y, clean = linear.labels(x), vectors_of(x)[0].astype("float64")
        for momentum, attack in ((0.0, BIM(4)), (1.0, MIFGSM(4))):
            asked.clear()
            attack(linear.model, x, y, eps, norm=norm, batch_size=1)
            vector, velocity = clean, 0.0
            for step, found in enumerate(asked):  # until the classifier errs
                np.testing.assert_allclose(found, vector, atol=1e-2)
                paths[momentum][seed, step] = found
                (slope,) = linear.gradient(as_images(vector), y)
                if momentum:
                    slope = slope / np.abs(slope).mean()
                velocity = momentum * velocity + slope
                unit = np.sign(velocity)
                if norm == "l2":
                    unit = velocity / np.linalg.norm(velocity)
                change = vector + 2.5 / 4 * 255 * eps * unit - clean
                if norm == "linf":
                    change = np.clip(change, -255 * eps, 255 * eps)
                else:
                    change *= min(1, 255 * eps / np.linalg.norm(change))
                vector = np.clip(clean + change, 0, 255)
                assert np.linalg.norm(change, order) <= 255 * eps * 1.001
    plain, heavy = paths.values()
    both = [key for key in plain if key in heavy]
    assert len(both) > 12
    assert max(np.abs(plain[key] - heavy[key]).max() for key in both) > 0.5


def as_images(vector):
    """The two inputs of one sample."""
    a, b = (SHAPES[name] for name in "ab")
    cut = np.prod(a)
    return {"a": vector[None, :cut].reshape(1, *a), "b": vector[cut:].reshape(1, *b)}


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_worst_case_of_a_linear_classifier(two_class, levels):
    """Least margin within eps of all changes: margin - eps |w|_1."""
    x = pixels(60)
    y = two_class.labels(x)
    worst = two_class.worst_margin(x, y, "t", levels)
    assert np.abs(worst).min() > 1e-4
    robust = worst > 0
    assert 0.1 < robust.mean() < 0.95

    def right(attack):
        changed = attack(two_class.model, x, y, levels / 255, batch_size=60)
        return two_class.logits(changed)["t"].argmax(axis=1) == y["t"]

    for attack in (FGSM(), PGD(10), BIM(10), MIFGSM(10), APGD("ce", 10)):
        np.testing.assert_array_equal(right(attack), robust, str(attack))
    if levels == 4:
        found = right(Square(300))
        assert (found >= robust).all()
        assert found.mean() - robust.mean() < 0.1
        assert right(RandomNoise(restarts=10)).mean() > found.mean()


@pytest.mark.parametrize(
    "attack", [PGD(20), MIFGSM(20), APGD("ce", 20), APGD("dlr", 20)], ids=str
)
def test_a_lost_task_spares_no_other(attack):
    """Every pixel counts ten times as much for one task as for the other."""
    both = Linear({"t": 3, "u": 3})
    kernel = 10 * both.kernels["u"]
    both.kernels["u"], both.biases["u"] = kernel, -128 * kernel.sum(axis=0)
    both.model.get_layer("u").set_weights([kernel, both.biases["u"]])
    x = pixels(20)
    y = both.labels(x)
    eps = 24 / 255
    changed = attack(both.model, x, y, eps)
    found = both.logits(changed)
    alone = both.logits(attack(both.model, x, y, eps, tasks=["t"]))
    for task in ("t", "u"):
        assert (alone["t"].argmax(axis=1) != y["t"]).all()
        assert (found[task].argmax(axis=1) != y[task]).all(), task


def test_logits_ratio_is_the_papers():
    generator = np.random.default_rng(0)
    z = generator.standard_normal((12, 5)).astype("float32")
    y = generator.integers(0, 5, 12)
    y[:4] = z[:4].argmax(axis=1)
    inputs = keras.Input((5,), name="z")
    model = keras.Model(inputs, L.Activation("linear", name="kind")(inputs))
    losses, gradients, _ = victim_of(model).gradient({"z": z}, {"kind": y}, 0, "dlr")
    # -(z_y - max over i != y of z_i) / (z_pi1 - z_pi3)
    wanted = []
    for row, label in zip(z.astype("float64"), y, strict=True):
        first, _, third = np.sort(row)[::-1][:3]
        wanted.append(-(row[label] - np.delete(row, label).max()) / (first - third))
    np.testing.assert_allclose(as_numpy(losses), wanted, rtol=1e-4)
    # It does not depend on the scale of the logits.
    scaled, _, _ = victim_of(model).gradient({"z": 100 * z}, {"kind": y}, 0, "dlr")
    np.testing.assert_allclose(as_numpy(scaled), wanted, rtol=1e-4)
    # Right answers have a gradient to be led away by.
    assert as_numpy(gradients["z"])[:4].any(axis=1).all()


# -- Every attack ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ATTACKS)
def test_within_reach_and_reproducible(convnet, name):
    x, y = image_and_labels()
    y = convnet.predict(x, verbose=0).argmax(axis=1)
    before = [as_numpy(v) for v in convnet.variables]

    def attack(seed=0, **options):
        return ATTACKS[name](convnet, x, y, EPS, seed=seed, **options)

    changed = attack()
    assert changed.shape == x.shape and changed.dtype == "float32"
    assert np.abs(changed - x).max() <= 4 + 1e-4
    assert changed.min() >= 0 and changed.max() <= 255
    assert (changed != x).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(attack(), changed)
    assert np.array_equal(attack(seed=1), changed) == (name in FROM_CLEAN)
    for batch_size in (2, 7):
        # Sums in another order may turn the sign of a gradient of almost nothing.
        other = attack(batch_size=batch_size)
        assert (np.abs(other - changed) > 1e-3).mean() < 0.01
    for variable, value in zip(convnet.variables, before, strict=True):
        np.testing.assert_array_equal(as_numpy(variable), value, variable.path)


@pytest.mark.parametrize("name", L2)
def test_within_reach_in_l2(convnet, name):
    x, _ = image_and_labels()
    y = convnet.predict(x, verbose=0).argmax(axis=1)
    changed = ATTACKS[name](convnet, x, y, 0.2, norm="l2")
    lengths = np.linalg.norm((changed - x).reshape(len(x), -1) / 255, axis=1)
    assert lengths.max() <= 0.2 + 1e-5
    assert lengths.min() > 0.05
    assert changed.min() >= 0 and changed.max() <= 255


@pytest.mark.parametrize("name", ["PGD", "APGD-CE", "APGD-DLR", "Square"])
def test_stronger_than_noise(convnet, name):
    x, _ = image_and_labels(20)
    y = convnet.predict(x, verbose=0).argmax(axis=1)

    def loss(changed):
        p = softmax(convnet.predict(changed, verbose=0).astype("float64"))
        return -np.log(p[np.arange(20), y]).mean()

    noise = RandomNoise(restarts=5)(convnet, x, y, 1 / 255)
    attack = Square(80) if name == "Square" else ATTACKS[name]
    attacked = attack(convnet, x, y, 1 / 255)
    assert loss(attacked) > loss(noise) > loss(x)


def test_square_of_one_image_of_two_inputs(linear):
    """Each query leaves one of the inputs alone, and none fools the classifier."""
    x, eps = pixels(1), EPS / 1000
    changed = Square(4)(linear.model, x, linear.labels(x), eps)
    for name, images in changed.items():
        assert 0 < np.abs(images - x[name]).max() <= 255 * eps + 1e-4


def test_more_steps_and_restarts_find_more(convnet):
    x, _ = image_and_labels(20)
    y = convnet.predict(x, verbose=0).argmax(axis=1)

    def fooled(attack):
        changed = attack(convnet, x, y, 2 / 255)
        return (convnet.predict(changed, verbose=0).argmax(axis=1) != y).sum()

    assert fooled(Square(2)) < fooled(Square(60))
    assert fooled(RandomNoise()) <= fooled(RandomNoise(restarts=20))


@pytest.mark.parametrize("kind", ["dict", "list", "tuple"])
def test_structure_of_several_inputs(linear, kind):
    x = pixels(3)
    y = linear.labels(x)
    given = x if kind == "dict" else {"list": list, "tuple": tuple}[kind](x.values())
    changed = FGSM()(linear.model, given, y, EPS)
    if kind == "dict":
        assert list(changed) == list(SHAPES)
    else:
        assert isinstance(changed, list)
        changed = dict(zip(SHAPES, changed, strict=True))
    wanted = FGSM()(linear.model, x, y, EPS)
    for name in SHAPES:
        np.testing.assert_array_equal(changed[name], wanted[name])


def test_structure_of_one_input(convnet):
    x, y = image_and_labels()
    array = FGSM()(convnet, x, y, EPS)
    assert isinstance(array, np.ndarray)
    for given in ({"image": x}, [x], x.astype("uint8")):
        changed = FGSM()(convnet, given, {"kind": y}, EPS)
        if isinstance(given, dict):
            changed = changed["image"]
        elif isinstance(given, list):
            (changed,) = changed
        np.testing.assert_array_equal(changed, array)


def test_bounds_of_the_pixels():
    """The same model of pixels from -1 to 1 is attacked in the same way."""
    shapes = {"a": (6, 6, 3)}
    x = pixels(5, shapes, 1, 256)["a"]
    of_bytes, of_units = Linear({"t": 3}, shapes), Linear({"t": 3}, shapes)
    kernel = of_bytes.kernels["t"]
    bias = of_bytes.biases["t"] + 127.5 * kernel.sum(axis=0)
    of_units.model.get_layer("t").set_weights([127.5 * kernel, bias])
    y = of_bytes.labels({"a": x})
    changed = FGSM()(of_bytes.model, x, y, EPS)
    scaled = FGSM()(of_units.model, x / 127.5 - 1, y, EPS, bounds=(-1, 1))
    np.testing.assert_allclose((scaled + 1) * 127.5, changed, atol=1e-3)


def test_nothing_changes_within_nothing(linear):
    x = pixels(3)
    for attack in ATTACKS.values():
        changed = attack(linear.model, x, linear.labels(x), 0.0)
        np.testing.assert_array_equal(vectors_of(changed), vectors_of(x))


# -- Random classifiers ----------------------------------------------------------------


def counted(monkeypatch):
    """The seeds with which gradients are asked for, as they come."""
    seeds, gradient = [], Victim.gradient

    def counting(self, x, y, seed, loss):
        seeds.append(seed)
        return gradient(self, x, y, seed, loss)

    monkeypatch.setattr(Victim, "gradient", counting)
    return seeds


def test_a_fixed_classifier_is_asked_once(convnet, monkeypatch):
    x, y = image_and_labels()
    wanted = BIM(3)(convnet, x, y, EPS)
    seeds = counted(monkeypatch)
    found = BIM(3)(convnet, x, y, EPS, draws=7)
    assert len(seeds) <= 3 + 1
    np.testing.assert_array_equal(found, wanted)


def test_a_random_classifier_is_asked_anew_in_every_step(noisy, monkeypatch):
    x, y = image_and_labels()
    seeds = counted(monkeypatch)
    BIM(3)(noisy, x, y, EPS, draws=5)
    assert len(seeds) == (3 + 1) * 5
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(("draws", "steps"), [(4, 4), (5, 1)])
def test_beyond_doubt_a_random_classifier_is_not_asked_again(monkeypatch, draws, steps):
    alone = Linear({"t": 2}, {"a": (3, 3, 1)}, scale=1.0)
    logits = AttentionNoise(0.5, name="noisy")(alone.model.output["t"])
    model = keras.Model(alone.inputs, {"t": logits})
    x = pixels(6, {"a": (3, 3, 1)})
    wrong = 1 - alone.labels(x)["t"]
    assert (np.abs(np.diff(alone.logits(x)["t"])) > 9).all()
    seeds = counted(monkeypatch)
    BIM(3)(model, x, wrong, EPS, draws=draws)
    assert len(seeds) == steps * draws


def test_images_without_a_label_are_not_asked_about(noisy, convnet, monkeypatch):
    x, y = image_and_labels()
    seeds = counted(monkeypatch)
    for model in (noisy, convnet):
        found = BIM(3)(model, x, np.full_like(y, -1), EPS, draws=5)
        np.testing.assert_array_equal(found, x)
    assert not seeds


def test_gradient_is_the_mean_of_the_draws():
    """Under noise on two logits: E[sigmoid], by Gauss and Hermite's quadrature."""
    draws, stddev, shapes = 100, 1.5, {"a": (3, 3, 1)}
    alone = Linear({"t": 2}, shapes)
    logits = AttentionNoise(stddev, name="noisy")(alone.model.output["t"])
    model = keras.Model(alone.inputs, {"t": logits})
    x = pixels(8, shapes)
    y = alone.labels(x)
    problem = Problem(victim_of(model), x, y, EPS, draws=draws)
    assert problem.is_random
    first, second = (problem.assess(problem.clean, np.arange(8)) for _ in range(2))
    assert (first.gradient != second.gradient).any()

    z = alone.logits(x)["t"]
    gap = z[np.arange(8), 1 - y["t"]] - z[np.arange(8), y["t"]]
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    gaps = gap[:, None] + np.sqrt(2) * stddev * nodes
    weights = weights / weights.sum()
    p = 1 / (1 + np.exp(-gaps))  # of the other class
    w = alone.kernels["t"]
    direction = np.where(y["t"][:, None] == 0, w[:, 1] - w[:, 0], w[:, 0] - w[:, 1])
    for values, measured, unit in (
        (p, first.gradient, direction),
        (np.logaddexp(0, gaps), first.loss[:, None], np.ones((8, 1))),
    ):
        mean = values @ weights
        spread = np.sqrt((values**2) @ weights - mean**2) / np.sqrt(draws)
        # One draw, or too few, would not all be as near as the mean of many.
        error = measured - mean[:, None] * unit
        assert (np.abs(error) <= 5 * spread[:, None] * np.abs(unit)).all()


def test_frozen_victim_is_one_network(noisy):
    x = {"image": image_and_labels()[0]}
    victim = victim_of(noisy)
    assert victim.is_random(x)
    free = [victim.probabilities(x, seed)["kind"] for seed in (1, 2, 1)]
    assert np.abs(free[0] - free[1]).max() > 1e-3
    np.testing.assert_array_equal(free[0], free[2])
    frozen = victim.frozen(3)
    assert not frozen.is_random(x)
    held = frozen.probabilities(x, 1)["kind"]
    np.testing.assert_array_equal(held, frozen.probabilities(x, 2)["kind"])
    with freeze_randomness(noisy, 3):
        wanted = softmax(noisy.predict(x["image"], verbose=0).astype("float64"))
    np.testing.assert_allclose(held, wanted, atol=1e-6)
    assert np.abs(victim.frozen(4).probabilities(x, 1)["kind"] - held).max() > 1e-3
    assert victim.is_random(x)  # the victim itself goes on drawing


def test_reproducible_and_unmoved_if_random():
    model = RobustMAILNet(
        {"a": (16, 16, 3)}, {"t": 2}, filters=(16,), groups=4, dropout_after=()
    )
    x = pixels(3, {"a": (16, 16, 3)})
    before = [as_numpy(v) for v in model.variables]
    first, again, other = (
        PGD(2)(model, x, np.zeros(3, int), EPS, draws=2, seed=seed)["a"]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert np.abs(first - x["a"]).max() <= 4 + 1e-4
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(as_numpy(variable), value, variable.path)


def test_straight_through_finds_a_way_past_clips():
    inputs = keras.Input((4, 4, 1), name="a")
    # Far outside 0..1, so that the clip cuts everywhere.
    x = AttentionNoise(0.1, released=True)(L.Rescaling(1 / 16, offset=5.0)(inputs))
    model = keras.Model(inputs, L.Dense(3, name="t")(L.Flatten()(x)))
    x, y = {"a": pixels(4, {"a": (4, 4, 1)})["a"]}, {"t": np.arange(4) % 3}
    _, blocked, p = victim_of(model).gradient(x, y, 1, "ce")
    assert not as_numpy(blocked["a"]).any()
    _, through, same = victim_of(model, straight_through=True).gradient(x, y, 1, "ce")
    np.testing.assert_array_equal(p["t"], same["t"])
    # The gradient of what comes after, times 1/16.
    kernel = as_numpy(model.get_layer("t").kernel)
    residual = p["t"] - np.eye(3)[y["t"]]
    wanted = (residual @ kernel.T).reshape(4, 4, 4, 1) / 16
    np.testing.assert_allclose(as_numpy(through["a"]), wanted, atol=1e-6)


# -- Bad input -------------------------------------------------------------------------


def probabilities_model():
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.Dense(3, activation="softmax", name="kind")(L.Flatten()(inputs))
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eps": -0.1}, "from 0 to 1; four grey levels of 255 are 4/255.*-0.1"),
        ({"eps": 4}, "from 0 to 1; four grey levels of 255 are 4/255.*eps=4"),
        ({"eps": "4/255"}, "eps='4/255'"),
        ({"eps": -1.0, "norm": "l2"}, "Euclidean length.*at least 0.*eps=-1.0"),
        ({"eps": float("inf"), "norm": "l2"}, "Euclidean length.*inf"),
        ({"norm": "l1"}, r"one of \('linf', 'l2'\).*'l1'"),
        ({"bounds": (255, 0)}, "lowest and the highest value.*255, 0"),
        (
            {"x": np.full((2, 8, 8, 3), 300.0)},
            "'image' has pixels from 300 to 300, out",
        ),
        ({"x": np.full((2, 8, 8, 3), -1.0)}, "outside 0..255. Pass the range.*bounds"),
        ({"x": np.full((2, 8, 8, 3), 0.5)}, "no pixel above 1.*scaled to 0..1"),
        ({"x": np.full((2, 8, 8, 3), np.nan)}, "'image' holds NaN"),
        ({"x": np.ones((2, 8, 8, 1))}, r"takes arrays of shape \(None, 8, 8, 3\)"),
        ({"x": {"scan": np.ones((2, 8, 8, 3))}}, "Missing input 'image'|Unknown input"),
        ({"y": np.array([0, 3])}, "'kind' must lie in 0..2, or be -1.*0 to 3"),
        ({"y": np.array([-2, 0])}, "'kind' must lie in 0..2.*-2 to 0"),
        ({"y": np.array([0.0, 1.0])}, "must be 2 integers.*float64"),
        ({"y": np.eye(3, dtype=int)[:2]}, r"must be 2 integers.*shape \(2, 3\)"),
        ({"y": {"sort": np.zeros(2, int)}}, r"`y` names one or more of \['kind'\]"),
        ({"modalities": ["mri"]}, r"`modalities` names.*\['image'\].*\['mri'\]"),
        ({"modalities": []}, "`modalities` names one or more"),
        ({"tasks": ["sort"]}, r"`tasks` names.*\['kind'\].*\['sort'\]"),
        ({"draws": 0}, "`draws` must be an integer of at least 1.*0"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
    ],
)
def test_bad_calls(convnet, changes, message):
    x, y = image_and_labels(2)
    arguments = {"x": x, "y": y, "eps": EPS, **changes}
    with pytest.raises(ValueError, match=message):
        PGD(2)(convnet, **arguments)


def test_labels_of_several_tasks_are_a_dict(linear):
    x = pixels(2)
    with pytest.raises(ValueError, match=r"dict of labels keyed by task.*\['t', 'u'\]"):
        PGD(2)(linear.model, x, np.zeros(2, int), EPS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PGD(0), "`steps` must be an integer of at least 1. Received: 0"),
        (lambda: PGD(2.0), "`steps` must be an integer"),
        (lambda: PGD(True), "`steps` must be an integer"),
        (lambda: APGD(steps=0), "`steps` must be an integer of at least 1"),
        (lambda: PGD(restarts=0), "`restarts` must be an integer of at least 1"),
        (lambda: PGD(step_size=0.0), "`step_size` must be above 0"),
        (lambda: PGD(loss="mse"), r"`loss` must be one of \('ce', 'dlr'\).*'mse'"),
        (lambda: APGD("margin"), r"`loss` must be one of \('ce', 'dlr'\)"),
        (lambda: Square(queries=0), "`queries` must be an integer of at least 1"),
        (lambda: Square(share=1.5), "`share` must be above 0 and at most 1"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_probabilities_are_refused():
    x, y = image_and_labels(2)
    with pytest.raises(
        ValueError, match="'kind' holds probabilities.*model of the log"
    ):
        PGD(2)(probabilities_model(), x, y, EPS)


def test_other_outputs_are_refused(convnet):
    x, y = image_and_labels(2)
    maps = keras.Model(convnet.input, convnet.layers[2].output)
    with pytest.raises(ValueError, match=r"logits \(batch, classes\).*6, 6, 6"):
        PGD(2)(maps, x, y, EPS)


def test_a_model_without_a_graph_is_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    x, y = image_and_labels(2)
    for model in (Subclassed(), keras.Sequential([L.Dense(3)])):
        with pytest.raises(ValueError, match="Functional model or a built Sequential"):
            PGD(2)(model, x, y, EPS)


def test_logits_ratio_needs_three_classes():
    mixed = Linear({"t": 2, "u": 3})
    x = pixels(3)
    y = mixed.labels(x)
    for attack in (APGD("dlr", 2), PGD(2, loss="dlr")):
        with pytest.raises(ValueError, match="three classes. Task 't' has 2.*\"ce\""):
            attack(mixed.model, x, y, EPS)
        changed = attack(mixed.model, x, y, EPS, tasks=["u"])
        assert (changed["a"] != x["a"]).any()


def test_square_is_for_images_in_the_maximum_norm(convnet):
    x, y = image_and_labels(2)
    with pytest.raises(ValueError, match="maximum norm.*'l2'. Use PGD or APGD"):
        Square(2)(convnet, x, y, 0.5, norm="l2")
    vectors = Linear({"t": 2}, {"a": (5,)})
    with pytest.raises(ValueError, match=r"Input 'a' has the shape \(5,\)"):
        Square(2)(vectors.model, pixels(2, {"a": (5,)}), np.zeros(2, int), EPS)


def test_the_base_searches_nothing(convnet):
    x, _ = image_and_labels(2)
    y = convnet.predict(x, verbose=0).argmax(axis=1)
    with pytest.raises(NotImplementedError):
        Attack()(convnet, x, y, EPS)
