"""Metrics of two and more classes against scikit-learn and torchmetrics, with multiplicities."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_calibration_error

from assay.metrics.calibration_error import NUM_HALVINGS, smooth_calibration_error
from assay.metrics.multiclass import confidence_test, multiclass_metrics

METRICS = ["accuracy", "precision", "recall", "f1", "auc", "nll", "ece", "ece_smooth", "ece_classwise"]


def direct_ece(confidence, correct, *, num_bins=15):
    """Sum over the bins [low, high), 1 by itself, of their share times the gap of mean confidence and accuracy."""
    number = np.floor(confidence * num_bins + 1e-12).astype(int)
    gaps = [abs(confidence[number == b].mean() - correct[number == b].mean()) for b in np.unique(number)]
    return float(np.dot(gaps, [np.mean(number == b) for b in np.unique(number)]))


def oracle(labels, probs):
    classes = list(range(probs.shape[1]))
    predicted = probs.argmax(axis=1)
    two = len(classes) == 2
    named = {"average": "binary"} if two else {"average": "macro", "labels": classes}
    return {
        "accuracy": sk.accuracy_score(labels, predicted),
        "precision": sk.precision_score(labels, predicted, zero_division=0, **named),
        "recall": sk.recall_score(labels, predicted, zero_division=0, **named),
        "f1": sk.f1_score(labels, predicted, zero_division=0, **named),
        "auc": sk.roc_auc_score(labels, probs[:, 1] if two else probs, multi_class="ovr"),
        "nll": sk.log_loss(labels, probs, labels=classes),
        "ece": direct_ece(probs.max(axis=1), predicted == labels),
        "ece_smooth": smooth_calibration_error(probs.max(axis=1).clip(0, 1), predicted == labels).item(),
        "ece_classwise": np.mean([direct_ece(probs[:, number], labels == number) for number in classes]),
    }


@st.composite
def samples(draw):
    """Labels with every class, probabilities with ties, and multiplicities that keep every class."""
    num_classes = draw(st.sampled_from([2, 4]))
    n = draw(st.integers(num_classes, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = np.r_[np.arange(num_classes), rng.integers(0, num_classes, n - num_classes)]
    odds = rng.integers(1, draw(st.sampled_from([3, 50])), (n, num_classes)).astype(float)
    counts = rng.integers(0, 4, (3, n))
    counts[:, :num_classes] += 1
    return labels, odds / odds.sum(axis=1, keepdims=True), counts


@settings(max_examples=30, deadline=None)
@given(sample=samples())
def test_every_metric_is_scikit_learns_and_weights_are_repeated_rows(sample) -> None:
    labels, probs, counts = sample
    alone, weighted = multiclass_metrics(labels, probs), multiclass_metrics(labels, probs, weights=counts)
    assert list(alone) == METRICS
    assert all(value.shape == (1,) for value in alone.values())
    everything = {name: np.append(alone[name], weighted[name]) for name in METRICS}
    for row, count in enumerate([np.ones(len(labels), int), *counts]):
        for name, value in oracle(np.repeat(labels, count), np.repeat(probs, count, axis=0)).items():
            # The smooth ECE is found by halving: rounding may move it by one step.
            step = 2.0**-NUM_HALVINGS if name == "ece_smooth" else 1e-9
            assert everything[name][row] == pytest.approx(value, abs=1.01 * step), name


@pytest.mark.parametrize("num_classes", [2, 4])
def test_ece_is_torchmetrics(num_classes: int) -> None:
    rng = np.random.default_rng(num_classes)
    probs = rng.dirichlet(np.ones(num_classes), 500)
    labels = rng.integers(0, num_classes, 500)
    theirs = multiclass_calibration_error(
        torch.tensor(probs), torch.tensor(labels), num_classes=num_classes, n_bins=15, norm="l1"
    )
    assert multiclass_metrics(labels, probs)["ece"][0] == pytest.approx(float(theirs), abs=1e-6)


def test_a_saturated_wrong_answer_has_a_finite_nll() -> None:
    found = multiclass_metrics([0, 1, 2], np.eye(3)[[0, 1, 0]])
    assert np.isfinite(found["nll"][0])
    assert found["nll"][0] > 100
    assert found["ece"][0] == pytest.approx(1 / 3)


def test_a_resample_without_a_class_has_no_auc() -> None:
    weights = [[1, 1, 1], [1, 1, 0]]
    probs = [[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.2, 0.3, 0.5]]
    auc = multiclass_metrics([0, 1, 2], probs, weights=weights)["auc"]
    assert auc[0] == 1.0
    assert np.isnan(auc[1])


@pytest.mark.parametrize(
    ("labels", "probs", "message"),
    [
        ([0, 1], [[0.5, 0.5]], r"probs must be \[n, C\]"),
        ([], np.zeros((0, 2)), r"n > 0"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "whole numbers from 0 to 1"),
        ([0, -1], [[0.5, 0.5], [0.5, 0.5]], "whole numbers from 0 to 1"),
        ([0.0, 1.0], [[0.5, 0.5], [0.5, 0.5]], "whole numbers"),
        ([0, 1], [[0.5, 0.5], [0.5, 0.6]], "sum to 1"),
        ([0, 1], [[0.5, 0.5], [-0.5, 1.5]], ">= 0"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], ">= 0 and sum to 1"),
    ],
)
def test_malformed_input_is_named(labels, probs, message) -> None:
    with pytest.raises(ValueError, match=message):
        multiclass_metrics(labels, probs)


def test_a_class_promised_too_often_is_seen_class_by_class():
    """Of three kinds of rows each is right as often as its confidence says; the third class takes what the others lack."""
    probs = np.repeat([[0.6, 0.0, 0.4], [0.0, 0.6, 0.4]], 50, axis=0)
    labels = np.concatenate([[0] * 30 + [1] * 20, [1] * 30 + [0] * 20])
    found = multiclass_metrics(labels, probs)
    assert found["ece"].item() == pytest.approx(0)
    # Class 2 is promised at 0.4 and never comes; each of the others comes in 0.4 of the rows that promise it nothing.
    assert found["ece_classwise"].item() == pytest.approx((0.2 + 0.2 + 0.4) / 3)
    assert confidence_test(labels, probs, np.arange(100), seed=0).p_value > 0.5
