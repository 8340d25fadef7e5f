"""Calibration against scikit-learn and against bins filled by hand."""

import numpy as np
import pytest
from sklearn import calibration as sk_calibration
from sklearn import metrics as sk

from drifa_keras.uncertainty import (
    adaptive_calibration_error,
    brier_score,
    expected_calibration_error,
    maximum_calibration_error,
    negative_log_likelihood,
    reliability_diagram,
)

METRICS = [
    expected_calibration_error,
    adaptive_calibration_error,
    maximum_calibration_error,
    brier_score,
    negative_log_likelihood,
    reliability_diagram,
]


def draw(classes=4, n=300, seed=0):
    generator = np.random.default_rng(seed)
    p = generator.dirichlet(np.ones(classes), n)
    return generator.integers(classes, size=n), p


def gaps(y_true, p, chunks):
    """Size and gap of each chunk of rows, one sample after the other."""
    result = []
    for rows in chunks:
        confidence = right = 0
        for row in rows:
            confidence += max(p[row])
            right += int(np.argmax(p[row]) == y_true[row])
        if len(rows):
            result.append((len(rows), abs(confidence - right) / len(rows)))
    return result


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_proper_scores_agree_with_scikit_learn(classes):
    y_true, p = draw(classes)
    labels = list(range(classes))
    nll = sk.log_loss(y_true, p, labels=labels)
    brier = sk.brier_score_loss(y_true, p, labels=labels, scale_by_half=False)
    assert negative_log_likelihood(y_true, p) == pytest.approx(nll, abs=1e-12)
    assert brier_score(y_true, p) == pytest.approx(brier, abs=1e-12)


def test_proper_scores_by_hand():
    y_true, p = [0, 1], [[0.8, 0.2], [0.7, 0.3]]
    expected = -(np.log(0.8) + np.log(0.3)) / 2
    assert negative_log_likelihood(y_true, p) == pytest.approx(expected)
    assert brier_score(y_true, p) == pytest.approx((2 * 0.2**2 + 2 * 0.7**2) / 2)
    assert brier_score([1], [[1.0, 0.0]]) == 2


def test_certain_and_wrong_stays_finite_as_in_scikit_learn():
    y_true, p = [0, 1], np.array([[0.0, 1.0], [0.5, 0.5]])
    assert negative_log_likelihood(y_true, p) == pytest.approx(sk.log_loss(y_true, p))
    # What float32 can hold is not cut off.
    small = np.array([[1e-12, 1]], "float32")
    assert negative_log_likelihood([0], small) == pytest.approx(-np.log(1e-12))


@pytest.mark.parametrize("bins", [1, 4, 15])
@pytest.mark.parametrize("classes", [2, 5])
def test_diagram_agrees_with_scikit_learn(bins, classes):
    y_true, p = draw(classes)
    diagram = reliability_diagram(y_true, p, bins)
    right = p.argmax(axis=1) == y_true
    accuracy, confidence = sk_calibration.calibration_curve(
        right, p.max(axis=1), n_bins=bins
    )
    filled = diagram.count > 0
    np.testing.assert_allclose(diagram.accuracy[filled], accuracy, atol=1e-12)
    np.testing.assert_allclose(diagram.confidence[filled], confidence, atol=1e-12)
    assert diagram.count.sum() == len(y_true)
    assert np.isnan(diagram.accuracy[~filled]).all()
    assert np.array_equal(diagram.edges, np.linspace(0, 1, bins + 1))


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_errors_by_hand(bins):
    y_true, p = draw()
    confidence = p.max(axis=1)
    width = 1 / bins
    chunks = [
        [i for i in range(300) if b * width < confidence[i] <= (b + 1) * width]
        for b in range(bins)
    ]
    in_bins = gaps(y_true, p, chunks)
    ece = sum(size * gap for size, gap in in_bins) / 300
    assert expected_calibration_error(y_true, p, bins) == pytest.approx(ece, abs=1e-12)
    mce = max(gap for _, gap in in_bins)
    assert maximum_calibration_error(y_true, p, bins) == pytest.approx(mce, abs=1e-12)


@pytest.mark.parametrize("bins", [1, 7, 15, 400])
def test_adaptive_error_by_hand(bins):
    y_true, p = draw()
    order = sorted(range(300), key=lambda row: max(p[row]))
    # The first bins hold one sample more where it does not come out even.
    few, more = divmod(300, bins)
    chunks, start = [], 0
    for b in range(bins):
        size = few + (b < more)
        chunks.append(order[start : start + size])
        start += size
    expected = sum(size * gap for size, gap in gaps(y_true, p, chunks)) / 300
    value = adaptive_calibration_error(y_true, p, bins)
    assert value == pytest.approx(expected, abs=1e-12)
    diagram = reliability_diagram(y_true, p, bins, adaptive=True)
    assert len(diagram.count) == min(bins, 300)
    assert diagram.count.max() - diagram.count.min() <= 1
    assert diagram.edges[[0, -1]].tolist() == [p.max(axis=1).min(), p.max()]


def test_an_edge_belongs_to_the_bin_below():
    diagram = reliability_diagram([0, 0], [[0.5, 0.5], [1, 0]], bins=2)
    assert diagram.count.tolist() == [1, 1]


def test_order_of_equally_sure_samples_does_not_matter():
    p = np.repeat([[0.7, 0.3], [0.9, 0.1]], 10, axis=0)
    y_true = np.array([0] * 5 + [1] * 5 + [0] * 9 + [1])
    reversed_rows = np.arange(20)[::-1]
    for bins in (3, 6):
        value = adaptive_calibration_error(y_true, p, bins)
        turned = adaptive_calibration_error(
            y_true[reversed_rows], p[reversed_rows], bins
        )
        assert value == pytest.approx(turned, abs=1e-12)
    assert adaptive_calibration_error(y_true, p, 6) == pytest.approx(
        expected_calibration_error(y_true, p, 10)
    )


def test_calibrated_probabilities_have_a_small_error():
    generator = np.random.default_rng(1)
    p = generator.dirichlet(np.ones(3), 20000)
    y_true = (generator.random((20000, 1)) > p.cumsum(axis=1)).sum(axis=1)
    sharp = p**3 / (p**3).sum(axis=1, keepdims=True)
    for metric in (expected_calibration_error, adaptive_calibration_error):
        assert metric(y_true, p) < 0.015
        assert metric(y_true, sharp) > 0.1


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("y_true", "probabilities", "message"),
    [
        ([0, 1], np.full((3, 2), 0.5), r"shape \(3,\).*\(2,\)"),
        ([[1, 0]], [[0.5, 0.5]], r"\(1,\).*\(1, 2\).*argmax"),
        ([0.0], [[0.5, 0.5]], "integer labels.*float64"),
        ([0], [0.5, 0.5], r"\(n, classes\)"),
        ([0], np.full((1, 1, 2), 0.5), r"Average over passes"),
        (np.zeros(0, int), np.ones((0, 2)), "no sample"),
        ([2], [[0.5, 0.5]], r"0\.\.1.*2\.\.2"),
        ([-1], [[0.5, 0.5]], r"0\.\.1.*unknown labels"),
        ([0], [[0.7, 0.7]], r"sum to one.*1\.4"),
        ([0], [[np.nan, 1.0]], "sum to one.*nan"),
        ([0], [[1.5, -0.5]], "negative"),
    ],
)
def test_bad_input(metric, y_true, probabilities, message):
    with pytest.raises(ValueError, match=message):
        metric(y_true, probabilities)


@pytest.mark.parametrize("bins", [0, -3, 2.5, True, None])
def test_bad_bins(bins):
    with pytest.raises(ValueError, match=f"`bins`.*{bins}"):
        expected_calibration_error([0], [[0.5, 0.5]], bins)
