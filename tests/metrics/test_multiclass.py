"""Metrics of two and more classes against scikit-learn and torchmetrics, with multiplicities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_calibration_error

from assay.metrics.binary import resample, summarise
from assay.metrics.multiclass import multiclass_metrics

METRICS = ["accuracy", "precision", "recall", "f1", "auc", "nll", "ece"]


def direct_ece(confidence, correct, *, num_bins=15):
    """Sum over the bins [low, high), 1 by itself, of their share times the gap of mean confidence and accuracy."""
    number = np.floor(confidence * num_bins + 1e-12).astype(int)
    gaps = [abs(confidence[number == b].mean() - correct[number == b].mean()) for b in np.unique(number)]
    return float(np.dot(gaps, [np.mean(number == b) for b in np.unique(number)]))


def oracle(labels, probs):
    num_classes = probs.shape[1]
    predicted = probs.argmax(axis=1)
    average = "binary" if num_classes == 2 else "macro"
    named = {"average": average, "zero_division": 0} | (
        {} if num_classes == 2 else {"labels": list(range(num_classes))}
    )
    if num_classes == 2:
        auc = sk.roc_auc_score(labels, probs[:, 1])
    else:
        auc = sk.roc_auc_score(labels, probs, multi_class="ovr", average="macro")
    return {
        "accuracy": sk.accuracy_score(labels, predicted),
        "precision": sk.precision_score(labels, predicted, **named),
        "recall": sk.recall_score(labels, predicted, **named),
        "f1": sk.f1_score(labels, predicted, **named),
        "auc": auc,
        "nll": sk.log_loss(labels, probs, labels=list(range(num_classes))),
        "ece": direct_ece(probs.max(axis=1), predicted == labels),
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
    expected = oracle(labels, probs)
    for name in METRICS:
        assert alone[name].shape == (1,)
        assert alone[name][0] == pytest.approx(expected[name], abs=1e-9), name
    for row, multiplicity in enumerate(counts):
        expected = oracle(np.repeat(labels, multiplicity), np.repeat(probs, multiplicity, axis=0))
        for name in METRICS:
            assert weighted[name][row] == pytest.approx(expected[name], abs=1e-9), name


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


def test_a_class_that_is_never_named_has_precision_and_f1_zero() -> None:
    found = multiclass_metrics([0, 1, 2, 2], np.array([[0.6, 0.3, 0.1]] * 4))
    assert found["precision"][0] == pytest.approx(0.25 / 3)
    assert found["f1"][0] == pytest.approx(2 * 0.25 * 1 / 1.25 / 3)


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
        ([0, 1], [0.5, 0.5], r"probs must be \[n, C\]"),
        ([], np.zeros((0, 2)), r"n > 0"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "whole numbers from 0 to 1"),
        ([0, -1], [[0.5, 0.5], [0.5, 0.5]], "whole numbers from 0 to 1"),
        ([0.0, 1.0], [[0.5, 0.5], [0.5, 0.5]], "whole numbers"),
        ([0, 1], [[0.5, 0.5], [0.5, 0.6]], "sum to 1"),
        ([0, 1], [[0.5, 0.5], [-0.5, 1.5]], ">= 0"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], ">= 0 and sum to 1"),
    ],
)
def test_malformed_input_is_refused(labels, probs, message) -> None:
    with pytest.raises(ValueError, match=message):
        multiclass_metrics(labels, probs)


def test_the_summary_holds_every_metric_with_its_interval() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 200)
    probs = 0.2 * np.eye(3)[labels] + 0.8 * rng.dirichlet(np.ones(3), 200)
    how = {"num_resamples": 200, "seed": 3, "metrics": multiclass_metrics}
    found = summarise(labels, probs, np.arange(200) // 2, **how)
    assert (found["n"], found["n_groups"]) == (200, 100)
    for name in set(METRICS) - {"ece"}:
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]
    draws = resample(labels, probs, np.arange(200) // 2, **how).draws
    assert found["accuracy_low"] == pytest.approx(np.quantile(draws["accuracy"], 0.025))
