"""What one system has over another, computed by hand."""

import numpy as np
import pytest

from assay.metrics.binary import Resampled, resample
from assay.metrics.intervals import group_bootstrap_weights
from assay.metrics.multiclass import multiclass_metrics
from assay.metrics.paired import gain


def resampled(point: float, draws: list[float]) -> Resampled:
    return Resampled(3, 3, {"accuracy": point, "f1": 0.0}, {"accuracy": np.array(draws), "f1": np.zeros(len(draws))})


def test_the_interval_is_that_of_the_differences() -> None:
    ours, theirs = resampled(0.9, [0.9, 0.8, 1.0]), resampled(0.7, [0.8, 0.7, 0.9])
    found = gain(ours, theirs, "accuracy", key="over")
    # Every resample says 0.1, however far the metrics themselves spread.
    assert found == pytest.approx({"over": 0.2, "over_low": 0.1, "over_high": 0.1})
    other = gain(theirs, resampled(0.5, [0.0, 0.5, 0.1]), "accuracy", key="k")
    low, high = np.quantile([0.8, 0.2, 0.8], [0.025, 0.975])
    assert other == pytest.approx({"k": 0.2, "k_low": low, "k_high": high})


def test_two_systems_meet_the_same_resamples() -> None:
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 2, 60), np.arange(60) // 3
    ours, theirs = (rng.dirichlet([1, 1], 60) for _ in range(2))
    options = {"num_resamples": 150, "seed": 4, "metrics": multiclass_metrics}
    found = gain(
        resample(labels, ours, groups, **options), resample(labels, theirs, groups, **options), "accuracy", key="k"
    )
    (weights,) = group_bootstrap_weights(groups, num_resamples=150, seed=4)
    right = (ours.argmax(axis=1) == labels).astype(float) - (theirs.argmax(axis=1) == labels)
    draws = weights @ right / weights.sum(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found == pytest.approx({"k": right.mean(), "k_low": low, "k_high": high})
