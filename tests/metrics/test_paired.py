"""What one system has over another, computed by hand."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from assay.metrics.binary import resample
from assay.metrics.multiclass import multiclass_metrics
from assay.metrics.paired import gain, gains_together


def test_the_interval_is_that_of_the_differences():
    """However far the metrics themselves vary over groups: the two agree on all but a few rows."""
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 2, 60), np.arange(60) // 3
    theirs = rng.dirichlet([1, 1], 60)
    ours = theirs.copy()
    ours[::7] = np.eye(2)[labels[::7]]
    found = gain(
        resample(labels, ours, groups, metrics=multiclass_metrics),
        resample(labels, theirs, groups, metrics=multiclass_metrics),
        "accuracy",
        key="k",
    )
    right = (ours.argmax(axis=1) == labels).astype(float) - (theirs.argmax(axis=1) == labels)
    wanted = ttest_1samp(right.reshape(20, 3).mean(axis=1), 0.0).confidence_interval(0.95)
    assert found == pytest.approx({"k": right.mean(), "k_low": wanted.low, "k_high": wanted.high})
    assert found["k_high"] - found["k_low"] < 0.2


def test_a_system_has_nothing_over_itself():
    labels, groups = np.arange(60) % 2, np.arange(60) // 3
    one = resample(labels, np.random.default_rng(0).dirichlet([1, 1], 60), groups, metrics=multiclass_metrics)
    found = gain(one, one, "accuracy", key="k")
    assert found == {"k": 0, "k_low": 0, "k_high": 0}


def test_gains_together_have_wider_intervals_that_hold_all_at_once():
    rng = np.random.default_rng(2)
    labels, groups = rng.integers(0, 2, 90), np.arange(90) // 3
    systems = [resample(labels, rng.dirichlet([1, 1], 90), groups, metrics=multiclass_metrics) for _ in range(4)]
    ours, *rivals = systems
    together = gains_together({f"k{number}": (ours, theirs, "accuracy") for number, theirs in enumerate(rivals)})
    for number, theirs in enumerate(rivals):
        alone, key = gain(ours, theirs, "accuracy", key="k"), f"k{number}"
        assert together[key] == alone["k"]
        assert together[f"{key}_low"] < alone["k_low"]
        assert together[f"{key}_high"] > alone["k_high"]
    # One comparison, or the same one twice, needs no correction.
    for pairs in ({"k": (ours, rivals[0], "accuracy")}, dict.fromkeys("ka", (ours, rivals[0], "accuracy"))):
        found = gains_together(pairs)
        assert found["k_low"] == pytest.approx(gain(ours, rivals[0], "accuracy", key="k")["k_low"], rel=0.02)
    few = [resample(labels[:9], labels[:9, None] == [0, 1], groups[:9], metrics=multiclass_metrics)] * 2
    assert np.isnan(gains_together({"k": (*few, "accuracy")})["k_low"])
