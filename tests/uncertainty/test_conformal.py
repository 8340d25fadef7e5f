"""Prediction sets: by hand, and whether they keep their promise."""

import numpy as np
import pytest

from drifa_keras.uncertainty import (
    SplitConformal,
    class_coverage,
    coverage,
    split_groups,
)

METHODS = ["thr", "aps", "raps"]


def draw(n, classes=5, sharpness=1.0, seed=0, concentration=0.6):
    """Labels drawn from probabilities, of which only a distorted version is given."""
    generator = np.random.default_rng(seed)
    p = generator.dirichlet(np.full(classes, concentration), n)
    y_true = (generator.random((n, 1)) > p.cumsum(axis=1)[:, :-1]).sum(axis=1)
    given = np.maximum(p, 1e-9) ** sharpness
    return y_true, given / given.sum(axis=1, keepdims=True)


def scores_by_hand(p, method, u, penalty=0.1, penalty_from=1):
    scores = np.empty(len(p))
    for k in range(len(p)):
        if method == "thr":
            scores[k] = 1 - p[k]
            continue
        before = sum(q for q in p if q > p[k])
        rank = 1 + sum(q > p[k] for q in p)
        scores[k] = before + p[k] - u * p[k]
        if method == "raps":
            scores[k] += penalty * max(0, rank - penalty_from)
    return scores


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("alpha", [0.1, 0.25])
def test_sets_by_hand(method, alpha):
    y_true, p = draw(57)
    y_test, p_test = y_true[40:], p[40:]
    y_true, p = y_true[:40], p[:40]
    arguments = {"penalty": 0.3, "penalty_from": 2}
    conformal = SplitConformal(method, alpha, randomized=False, **arguments)
    sets = conformal.fit(p, y_true).predict(p_test)
    of_true = sorted(
        scores_by_hand(row, method, 0, **arguments)[y]
        for row, y in zip(p, y_true, strict=True)
    )
    # 41 * 0.9 = 36.9 and 41 * 0.75 = 30.75: the 37th and the 31st of 40.
    threshold = of_true[{0.1: 37, 0.25: 31}[alpha] - 1]
    assert conformal.threshold == pytest.approx(threshold, abs=1e-12)
    expected = [
        scores_by_hand(row, method, 0, **arguments) <= threshold + 1e-12
        for row in p_test
    ]
    assert sets.dtype == bool
    assert np.array_equal(sets, expected)
    hits = [row[y] for row, y in zip(sets, y_test, strict=True)]
    assert coverage(sets, y_test) == pytest.approx(np.mean(hits))


def test_rounding_costs_no_rank():
    # 10 * 0.3 is three, and a hair more in floating point.
    p = np.linspace(0.1, 0.9, 9)
    conformal = SplitConformal("thr", alpha=0.7)
    conformal.fit(np.stack([1 - p, p], axis=1), np.ones(9, int))
    assert conformal.threshold == pytest.approx(1 - p[6])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sharpness", [1.0, 4.0, 0.3], ids=lambda s: f"sharpness{s}")
def test_coverage_whatever_the_model(method, sharpness):
    found = []
    for seed in range(20):
        y_true, p = draw(3000, sharpness=sharpness, seed=seed)
        conformal = SplitConformal(method, alpha=0.1, seed=seed)
        sets = conformal.fit(p[:1000], y_true[:1000]).predict(p[1000:])
        found.append(coverage(sets, y_true[1000:]))
    assert np.mean(found) == pytest.approx(0.9, abs=0.01)
    assert np.std(found) < 0.02


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_coverage_from_few_samples(method, alpha):
    # The quantile of the scores themselves, without the `+ 1`, would fall short by
    # two to five percent.
    found = []
    for seed in range(600):
        y_true, p = draw(119, sharpness=3.0, seed=seed)
        conformal = SplitConformal(method, alpha, seed=seed).fit(p[:19], y_true[:19])
        found.append(coverage(conformal.predict(p[19:]), y_true[19:]))
    assert np.mean(found) == pytest.approx(1 - alpha, abs=0.01)


def test_better_sets_are_smaller():
    y_true, p = draw(4000)
    size = {}
    for method in METHODS:
        for randomized in (True, False):
            conformal = SplitConformal(method, randomized=randomized)
            sets = conformal.fit(p[:2000], y_true[:2000]).predict(p[2000:])
            size[method, randomized] = sets.sum(axis=1).mean()
    assert size["thr", True] == size["thr", False] < size["raps", True]
    assert size["raps", True] < size["aps", True] < size["aps", False]


def test_sets_may_be_empty_and_a_penalty_shortens_the_longest():
    y_true, p = draw(4000, sharpness=0.5, concentration=0.1)
    sizes = {}
    for name, arguments in {
        "aps": {"method": "aps"},
        "raps": {"method": "raps", "penalty": 0.2, "penalty_from": 2},
        "no penalty": {"method": "raps", "penalty": 0.0},
    }.items():
        conformal = SplitConformal(**arguments).fit(p[:2000], y_true[:2000])
        sizes[name] = conformal.predict(p[2000:]).sum(axis=1)
    assert (sizes["aps"] == 0).any()
    assert np.array_equal(sizes["aps"], sizes["no penalty"])
    assert sizes["raps"].max() < sizes["aps"].max()


def test_class_conditional():
    generator = np.random.default_rng(0)
    y_true = generator.integers(3, size=9000)
    # Class 2 is hard.
    strength = np.array([4.0, 3.0, 0.5])[y_true, None] * np.eye(3)[y_true]
    p = np.exp(strength + generator.normal(0, 1, (9000, 3)))
    p /= p.sum(axis=1, keepdims=True)
    for method in METHODS:
        per_class = {}
        for conditional in (False, True):
            conformal = SplitConformal(method, class_conditional=conditional)
            sets = conformal.fit(p[:4500], y_true[:4500]).predict(p[4500:])
            per_class[conditional] = class_coverage(sets, y_true[4500:])
        assert np.shape(conformal.threshold) == (3,)
        assert per_class[False][2] < 0.85 < 0.92 < per_class[False][0]
        np.testing.assert_allclose(per_class[True], 0.9, atol=0.03)


def test_class_coverage_by_hand():
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]], bool)
    assert coverage(sets, [0, 1, 0, 0]) == 2 / 4
    np.testing.assert_array_equal(
        class_coverage(sets, [0, 1, 0, 0]), [1 / 3, 1, np.nan]
    )


def test_the_seed_decides():
    y_true, p = draw(400)
    sets = [
        SplitConformal("aps", seed=seed).fit(p[:200], y_true[:200]).predict(p[200:])
        for seed in (3, 3, 4)
    ]
    assert np.array_equal(sets[0], sets[1])
    assert not np.array_equal(sets[0], sets[2])
    conformal = SplitConformal("aps", seed=3).fit(p[:200], y_true[:200])
    assert np.array_equal(conformal.predict(p[200:]), conformal.predict(p[200:]))
    # The same images get other draws in calibration than in prediction.
    assert not np.array_equal(
        conformal._scores(p, stream=0), conformal._scores(p, stream=1)
    )


@pytest.mark.parametrize(("alpha", "least"), [(0.1, 10), (0.05, 20), (0.3, 4)])
def test_too_few_calibration_samples(alpha, least):
    y_true, p = draw(least)
    SplitConformal(alpha=alpha).fit(p, y_true)
    with pytest.raises(ValueError, match=rf"at least {least}.*Received: {least - 1}"):
        SplitConformal(alpha=alpha).fit(p[1:], y_true[1:])


def test_too_few_calibration_samples_of_a_class():
    _, p = draw(60, classes=3)
    y_true = np.repeat([0, 1, 2], [30, 21, 9])
    with pytest.raises(ValueError, match="at least 10.*of class 2.*Received: 9"):
        SplitConformal(class_conditional=True).fit(p, y_true)
    SplitConformal(class_conditional=False).fit(p, y_true)


def test_groups_must_not_straddle():
    y_true, p = draw(100)
    groups = np.repeat([f"patient {i}" for i in range(20)], 5)
    conformal = SplitConformal().fit(p[:50], y_true[:50], groups[:50])
    free = conformal.predict(p[50:])
    assert np.array_equal(conformal.predict(p[50:], groups[50:]), free)
    with pytest.raises(ValueError, match=r"1 group.*patient 9.*split_groups"):
        conformal.predict(p[49:], groups[49:])
    with pytest.raises(ValueError, match="`groups` to `fit`"):
        SplitConformal().fit(p[:50], y_true[:50]).predict(p[50:], groups[50:])
    with pytest.raises(ValueError, match=r"one group a sample.*\(50,\).*\(49,\)"):
        SplitConformal().fit(p[:50], y_true[:50], groups[:49])


def test_split_groups():
    groups = np.repeat(np.arange(40), np.arange(40) % 4 + 1)
    first = split_groups(groups, seed=1)
    assert len(np.unique(groups[first])) == 20
    assert not set(groups[first]) & set(groups[~first])
    assert np.array_equal(first, split_groups(groups, seed=1))
    assert not np.array_equal(first, split_groups(groups, seed=2))
    assert len(np.unique(groups[split_groups(groups, share=0.1)])) == 4
    # Neither part is ever empty.
    for share in (0.01, 0.99):
        assert 0 < split_groups(["a", "b", "b"], share).sum() < 3
    with pytest.raises(ValueError, match="at least two groups.*1"):
        split_groups(["a", "a"])
    with pytest.raises(ValueError, match="`share`"):
        split_groups(groups, share=1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "lac"}, r"\('thr', 'aps', 'raps'\).*'lac'"),
        ({"alpha": 0}, "`alpha`.*0"),
        ({"alpha": 1.0}, "`alpha`"),
        ({"alpha": 90}, "`alpha`.*90"),
        ({"alpha": None}, "`alpha`"),
        ({"penalty": -0.1}, "`penalty`"),
        ({"penalty_from": -1}, "`penalty_from`"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SplitConformal(**arguments)


def test_bad_data():
    y_true, p = draw(30)
    with pytest.raises(ValueError, match="Call `fit`"):
        SplitConformal().predict(p)
    with pytest.raises(ValueError, match=r"0\.\.4.*unknown"):
        SplitConformal().fit(p, np.where(y_true == 1, -1, y_true))
    with pytest.raises(ValueError, match="sum to one"):
        SplitConformal().fit(p * 2, y_true)
    conformal = SplitConformal().fit(p, y_true)
    with pytest.raises(ValueError, match=r"5 classes.*\(30, 2\)"):
        conformal.predict(np.full((30, 2), 0.5))
    with pytest.raises(ValueError, match="sum to one"):
        conformal.predict(p * np.nan)
    sets = conformal.predict(p)
    for metric in (coverage, class_coverage):
        with pytest.raises(ValueError, match="of bool.*float64"):
            metric(p, y_true)
        with pytest.raises(ValueError, match=r"\(30,\).*\(29,\)"):
            metric(sets, y_true[1:])
        with pytest.raises(ValueError, match=r"0\.\.4"):
            metric(sets, y_true + 1)
