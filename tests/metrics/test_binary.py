"""The summary of all binary metrics with their group-bootstrap intervals."""

import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import bootstrap

from assay.metrics.binary import binary_metrics, summarise
from assay.metrics.calibration_error import expected_calibration_error

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
    summary = summarise(labels, probs, np.arange(300) // 3, num_resamples=200, seed=0)
    assert list(summary) == ["n", "n_groups", *(f"{name}{end}" for name in NAMES for end in ("", "_low", "_high"))]
    assert (summary["n"], summary["n_groups"]) == (300, 100)
    for name, value in binary_metrics(labels, probs).items():
        assert summary[name] == value[0]
        assert summary[f"{name}_low"] < summary[f"{name}_high"]
    for name in ("auc", "accuracy", "nll", "brier"):
        assert summary[f"{name}_low"] < summary[name] < summary[f"{name}_high"]
    assert summary == summarise(labels, probs, np.arange(300) // 3, num_resamples=200, seed=0)


def test_accuracy_interval_equals_scipy_when_every_row_is_its_own_group():
    labels, probs = sample(250, seed=1)
    summary = summarise(labels, probs, np.arange(250), num_resamples=10_000, seed=0)
    hits = ((probs >= 0.5) == labels).astype(float)
    options = {"n_resamples": 10_000, "method": "percentile", "rng": np.random.default_rng(2)}
    theirs = bootstrap((hits,), np.mean, **options).confidence_interval
    ours = (summary["accuracy_low"], summary["accuracy_high"])
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.0041)  # one row is 0.004


def test_one_class_gives_nan_where_undefined():
    summary = summarise(np.zeros(20, int), np.full(20, 0.1), np.arange(20), num_resamples=10, seed=0)
    assert math.isnan(summary["auc"])
    assert math.isnan(summary["auc_low"])
    assert summary["accuracy"] == summary["accuracy_low"] == 1.0


def test_groups_must_match_the_rows():
    with pytest.raises(ValueError, match="groups has 2 values for 3 rows"):
        summarise([0, 1, 1], [0.1, 0.2, 0.3], [1, 2], num_resamples=5, seed=0)


def test_memory_stays_bounded_on_a_large_sample():
    labels, probs = sample(100_000)
    tracemalloc.start()
    try:
        summarise(labels, probs, np.arange(100_000), num_resamples=25, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200e6
