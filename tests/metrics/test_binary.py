"""The summary of all binary metrics with their intervals over groups."""

import math
import tracemalloc

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import t

from assay.metrics.binary import binary_metrics, summarise
from assay.metrics.calibration_error import expected_calibration_error
from assay.metrics.intervals import MIN_GROUPS

NAMES = [
    "auc", "ap", "eer", "tpr_at_fpr_1", "tpr_at_fpr_5", "accuracy", "balanced_accuracy", "f1", "nll", "brier",
    "ece_width", "ece_mass", "ece_smooth",
]  # fmt: skip


def sample(n, seed=0):
    rng = np.random.default_rng(seed)
    probs = rng.random(n)
    return (rng.random(n) < probs).astype(int), probs


def test_names_shapes_and_ece():
    labels, probs = sample(100)
    values = binary_metrics(labels, probs)
    assert list(values) == NAMES
    assert all(value.shape == (1,) for value in values.values())
    for binning in ("width", "mass"):
        assert values[f"ece_{binning}"] == expected_calibration_error(probs, labels, binning=binning)
    weighted = binary_metrics(labels, probs, weights=np.ones((3, 100)))
    for name, value in weighted.items():
        assert value == pytest.approx(np.repeat(values[name], 3)), name


def test_summary_is_flat_and_holds_point_and_limits():
    labels, probs = sample(300)
    summary = summarise(labels, probs, np.arange(300) // 3)
    assert list(summary) == ["n", "n_groups", *(f"{name}{end}" for name in NAMES for end in ("", "_low", "_high"))]
    assert (summary["n"], summary["n_groups"]) == (300, 100)
    for name, value in binary_metrics(labels, probs).items():
        assert summary[name] == value[0]
        if name.startswith("ece"):
            assert math.isnan(summary[f"{name}_low"])
        else:
            assert summary[f"{name}_low"] < summary[name] < summary[f"{name}_high"]
    order = np.random.default_rng(3).permutation(300)
    again = summarise(labels[order], probs[order], np.arange(300)[order] // 3)
    assert again == pytest.approx(summary, nan_ok=True)


def test_the_auc_interval_is_that_of_delong_when_every_row_is_its_own_group():
    """DeLong, DeLong and Clarke-Pearson 1988: the variance of the placements."""
    labels, probs = sample(90, seed=1)
    positive, negative = probs[labels == 1], probs[labels == 0]
    wins = (positive[:, None] > negative).astype(float)
    variance = wins.mean(axis=1).var(ddof=1) / len(positive) + wins.mean(axis=0).var(ddof=1) / len(negative)
    auc = wins.mean()
    half = t.ppf(0.975, 89) * np.sqrt(variance) / (auc * (1 - auc))
    found = summarise(labels, probs, np.arange(90))
    assert (found["auc_low"], found["auc_high"]) == pytest.approx(expit(logit(auc) + np.array([-half, half])), abs=2e-3)


def test_one_class_gives_nan_where_undefined():
    summary = summarise(np.zeros(20, int), np.full(20, 0.1), np.arange(20))
    assert math.isnan(summary["auc"])
    assert math.isnan(summary["auc_low"])
    assert summary["accuracy"] == 1.0
    # All right in twenty groups is no proof of being always right.
    assert math.isnan(summary["accuracy_low"])


def test_few_groups_give_no_interval():
    labels, probs = sample(60)
    few, enough = (summarise(labels, probs, np.arange(60) % number) for number in (MIN_GROUPS - 1, MIN_GROUPS))
    assert few["n_groups"] == MIN_GROUPS - 1
    assert math.isnan(few["auc_low"])
    assert few["auc"] == enough["auc"] > enough["auc_low"]


def test_groups_must_match_the_rows():
    with pytest.raises(ValueError, match="groups has 2 values for 3 rows"):
        summarise([0, 1, 1], [0.1, 0.2, 0.3], [1, 2])


def test_memory_stays_bounded_on_a_large_sample():
    labels, probs = sample(100_000)
    tracemalloc.start()
    try:
        summarise(labels, probs, np.arange(100_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200e6
