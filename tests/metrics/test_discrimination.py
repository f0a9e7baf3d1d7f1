"""Ranking, threshold and probability metrics against scikit-learn, with weights and ties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from sklearn import metrics as sk

from assay.metrics.discrimination import (
    confusion_matrix,
    probability_metrics,
    ranking_metrics,
    threshold_metrics,
)


@st.composite
def weighted_samples(draw):
    """Labels, probs on a coarse grid (many ties) and three weight rows, with mass on both classes in each."""
    n = draw(st.integers(4, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = np.r_[0, 1, rng.integers(0, 2, n - 2)]
    probs = rng.integers(0, draw(st.sampled_from([2, 6, 1000])), n) / 1000 + draw(st.sampled_from([0.0, 0.4975]))
    weights = rng.integers(0, 4, (3, n)).astype(float)
    weights[:, :2] += 1.0
    return labels, np.clip(probs, 0.0, 1.0), weights


def sklearn_ranking(labels, scores, weight):
    # Rows of weight zero would be thresholds of their own for scikit-learn's curve.
    kept = weight > 0
    labels, scores, weight = labels[kept], scores[kept], weight[kept]
    fpr, tpr, _ = sk.roc_curve(labels, scores, sample_weight=weight, drop_intermediate=False)
    return {
        "auc": sk.roc_auc_score(labels, scores, sample_weight=weight),
        "ap": sk.average_precision_score(labels, scores, sample_weight=weight),
        "eer": brentq(lambda x: 1.0 - x - np.interp(x, fpr, tpr), 0.0, 1.0, xtol=1e-14),
        "tpr_at_fpr_1": tpr[fpr <= 0.01].max(),
        "tpr_at_fpr_5": tpr[fpr <= 0.05].max(),
    }


@settings(max_examples=60, deadline=None)
@given(weighted_samples())
def test_ranking_equals_sklearn(sample):
    labels, scores, weights = sample
    ours = ranking_metrics(labels, scores, weights=weights)
    for row, weight in enumerate(weights):
        theirs = sklearn_ranking(labels, scores, weight)
        # The step of a ROC is vertical: np.interp may pick either end of it, the crossing is the same FPR.
        for name, value in theirs.items():
            assert ours[name][row] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("scores", [np.full(10, 0.3), np.arange(10.0)])
def test_one_class_resample_is_nan_and_leaves_the_others(scores):
    labels = np.arange(10) % 2
    weights = np.stack([labels, 1 - labels, np.ones(10)])
    for value in ranking_metrics(labels, scores, weights=weights).values():
        assert np.isnan(value[:2]).all()
        assert np.isfinite(value[2])


def test_an_fpr_exactly_at_the_limit_still_counts():
    # Descending: 1 forged, 1 real (FPR 1 %), 1 forged, 4 real (FPR 5 %), 1 forged, 95 real.
    labels = np.repeat([1, 0, 1, 0, 1, 0], [1, 1, 1, 4, 1, 95])
    values = ranking_metrics(labels, -np.arange(103.0))
    assert values["tpr_at_fpr_1"][0] == pytest.approx(2 / 3)
    assert values["tpr_at_fpr_5"][0] == pytest.approx(1.0)


@settings(max_examples=60, deadline=None)
@given(weighted_samples())
def test_threshold_and_probability_metrics_equal_sklearn(sample):
    labels, probs, weights = sample
    ours = {
        **threshold_metrics(labels, probs, weights=weights),
        **probability_metrics(labels, probs, weights=weights),
    }
    called = (probs >= 0.5).astype(int)
    for row, weight in enumerate(weights):
        theirs = {
            "accuracy": sk.accuracy_score(labels, called, sample_weight=weight),
            "balanced_accuracy": sk.balanced_accuracy_score(labels, called, sample_weight=weight),
            "f1": sk.f1_score(labels, called, sample_weight=weight, zero_division=np.nan),
            "nll": sk.log_loss(labels, probs, sample_weight=weight),
            "brier": sk.brier_score_loss(labels, probs, sample_weight=weight),
        }
        for name, value in theirs.items():
            assert ours[name][row] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_undefined_metrics_are_nan_and_a_saturated_mistake_stays_finite():
    values = threshold_metrics([0, 0], [0.1, 0.2])
    assert values["accuracy"][0] == 1.0
    assert np.isnan([values["f1"][0], values["balanced_accuracy"][0]]).all()
    assert probability_metrics([1, 0], [0.0, 1.0])["nll"][0] == pytest.approx(-np.log(np.finfo(float).eps))


def test_confusion_matrix_has_truth_in_rows():
    labels, probs = [0, 0, 0, 1, 1], np.array([0.1, 0.5, 0.2, 0.4, 0.9])
    assert (confusion_matrix(labels, probs) == sk.confusion_matrix(labels, probs >= 0.5)).all()
    assert confusion_matrix([1], [0.2]).tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize(
    ("labels", "probs", "weights", "message"),
    [
        ([0, 2], [0.1, 0.2], None, "labels must be 0"),
        ([[0, 1]], [0.1, 0.2], None, "labels must be 1-D"),
        ([], [], None, "labels must be 1-D and non-empty"),
        ([0, 1], [0.1], None, "probs has 1 values for 2 rows"),
        ([0, 1], [0.1, np.nan], None, "holds nan"),
        ([0, 1], [0.1, 1.5], None, r"must lie in \[0, 1\]"),
        ([0, 1], [0.1, 0.2], [1.0, 1.0], r"weights must have shape \[B, 2\]"),
        ([0, 1], [0.1, 0.2], np.ones((0, 2)), "at least one row"),
        ([0, 1], [0.1, 0.2], [[1.0, -1.0]], "non-negative"),
        ([0, 1], [0.1, 0.2], [[0.0, 0.0]], "not all zero"),
        ([0, 1], [0.1, 0.2], [[1.0, np.inf]], "finite"),
        ([0, 1], [0.1, 0.2], [[1.0, np.nan]], "finite"),
    ],
)
def test_malformed_input_is_named(labels, probs, weights, message):
    with pytest.raises(ValueError, match=message):
        probability_metrics(labels, probs, weights=weights)


def test_scores_may_be_logits_but_not_infinite():
    assert ranking_metrics([0, 1], [-7.0, 9.0])["auc"][0] == 1.0
    with pytest.raises(ValueError, match="scores holds inf"):
        ranking_metrics([0, 1], [-7.0, np.inf])
