"""The same numbers as torch-uncertainty, where it is installed."""

import numpy as np
import pytest

from drifa_keras import uncertainty

torch = pytest.importorskip("torch")
pytest.importorskip("torch_uncertainty")

from torch_uncertainty.metrics import classification as tu  # noqa: E402
from torch_uncertainty.post_processing import conformal as tu_conformal  # noqa: E402

CLASSES = 4


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    p = generator.dirichlet(np.ones(CLASSES), 400)
    y_true = (generator.random((400, 1)) > p.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return y_true, p


@pytest.fixture
def passes():
    return np.random.default_rng(1).dirichlet(np.ones(CLASSES), (9, 50))


def computed(metric, *arrays):
    metric = metric.double() if hasattr(metric, "double") else metric
    metric.update(*(torch.as_tensor(array) for array in arrays))
    return np.asarray(metric.compute())


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("mutual_information", tu.MutualInformation),
        ("predictive_entropy", None),
        ("expected_entropy", tu.Entropy),
        ("disagreement", tu.Disagreement),
    ],
)
def test_measures(name, metric, passes):
    per_sample = np.swapaxes(passes, 0, 1)  # (n, passes, classes)
    if metric is None:
        metric, per_sample = tu.Entropy, per_sample.mean(axis=1, keepdims=True)
    expected = computed(metric(reduction="none"), per_sample)
    actual = getattr(uncertainty, name)(passes)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_variation_ratio_where_votes_and_mean_agree(passes):
    expected = computed(
        tu.VariationRatio(reduction="none", probabilistic=False), passes
    )
    votes = np.eye(CLASSES)[passes.argmax(axis=-1)].sum(axis=0)
    voted = votes[np.arange(50), passes.mean(axis=0).argmax(axis=-1)]
    agree = voted == votes.max(axis=-1)
    assert 25 < agree.sum() < 50
    actual = uncertainty.variation_ratio(passes)
    np.testing.assert_allclose(actual[agree], expected[agree], atol=1e-6)


@pytest.mark.parametrize("bins", [5, 15])
def test_calibration(bins, data):
    arguments = {"task": "multiclass", "num_classes": CLASSES, "num_bins": bins}
    for name, metric in {
        "expected_calibration_error": tu.CalibrationError(norm="l1", **arguments),
        "maximum_calibration_error": tu.CalibrationError(norm="max", **arguments),
        "adaptive_calibration_error": tu.AdaptiveCalibrationError(
            norm="l1", **arguments
        ),
    }.items():
        expected = computed(metric, data[1], data[0])
        actual = getattr(uncertainty, name)(*data, bins)
        assert actual == pytest.approx(float(expected), abs=1e-6), name


def test_proper_scores(data):
    y_true, p = data
    expected = computed(tu.BrierScore(CLASSES), p, y_true)
    assert uncertainty.brier_score(y_true, p) == pytest.approx(
        float(expected), abs=1e-6
    )
    expected = computed(tu.CategoricalNLL(), p, y_true)
    actual = uncertainty.negative_log_likelihood(y_true, p)
    assert actual == pytest.approx(float(expected), abs=1e-6)


def test_selective_prediction(data):
    y_true, p = data
    metric = tu.AURC()
    integral = computed(metric, p, y_true).item()
    curve = uncertainty.risk_coverage_curve(y_true, p)
    np.testing.assert_allclose(curve.risk, metric.partial_compute(), atol=1e-6)
    # Theirs is the trapezoidal rule over 1/n..1, ours the mean.
    trapezoids = np.trapezoid(curve.risk, curve.coverage) / (1 - 1 / 400)
    assert trapezoids == pytest.approx(integral, abs=1e-6)
    assert uncertainty.aurc(y_true, p) == pytest.approx(
        float(metric.partial_compute().double().mean()), abs=1e-6
    )
    for risk in (0.2, 0.3, 0.4):
        expected = computed(tu.CovAtxRisk(risk), p, y_true)
        share, _ = uncertainty.coverage_at_risk(y_true, p, risk)
        assert share == pytest.approx(float(expected), abs=1e-6)


def test_out_of_distribution():
    generator = np.random.default_rng(2)
    inside = generator.normal(0, 1, 300).round(1)
    outside = generator.normal(1, 1, 120).round(1)
    scores = np.concatenate([inside, outside])
    is_out = np.repeat([0, 1], [300, 120])
    actual = uncertainty.ood_metrics(inside, outside)
    expected = computed(tu.FPR95(pos_label=1), scores, is_out)
    assert actual["fpr95"] == pytest.approx(float(expected), abs=1e-6)

    from torchmetrics.functional.classification import (
        binary_auroc,
        binary_average_precision,
    )

    # Scores outside 0..1 would go through a sigmoid in float32.
    shares = torch.as_tensor((scores - scores.min()) / np.ptp(scores))
    is_out = torch.as_tensor(is_out)
    for name, metric in [("auroc", binary_auroc), ("aupr", binary_average_precision)]:
        assert actual[name] == pytest.approx(float(metric(shares, is_out)), abs=1e-6)


@pytest.mark.parametrize(
    ("method", "theirs", "arguments"),
    [
        ("thr", tu_conformal.ConformalClsTHR, {}),
        ("aps", tu_conformal.ConformalClsAPS, {"randomized": False}),
        (
            "raps",
            tu_conformal.ConformalClsRAPS,
            {"randomized": False, "penalty": 0.05, "regularization_rank": 2},
        ),
    ],
)
def test_conformal_sets(method, theirs, arguments, data):
    y_true, p = data
    ours = {"penalty": 0.05, "penalty_from": 2} if method == "raps" else {}
    conformal = uncertainty.SplitConformal(method, randomized=False, **ours)
    sets = conformal.fit(p[:200], y_true[:200]).predict(p[200:])

    reference = theirs(
        alpha=0.1, model=torch.nn.Identity(), enable_ts=False, device="cpu", **arguments
    )
    # Its own quantile interpolates, without the `+ 1` of the theory.
    reference.q_hat = torch.as_tensor(conformal.threshold)
    expected = np.asarray(reference.conformal(torch.as_tensor(p[200:]).log()) > 0)
    # It fills empty sets with the most probable class.
    filled = sets | (
        ~sets.any(axis=1, keepdims=True)
        & np.eye(CLASSES, dtype=bool)[p[200:].argmax(axis=1)]
    )
    # The last place of a sum of probabilities may decide at the threshold itself.
    differing = (filled != expected).any(axis=1)
    assert differing.sum() <= 1
