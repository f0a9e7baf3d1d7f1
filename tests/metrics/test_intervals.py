"""Group bootstrap, percentile interval and exact binomial limits."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from assay.metrics.intervals import (
    clopper_pearson,
    group_bootstrap_weights,
    percentile_interval,
)


def all_weights(groups, **options):
    return np.concatenate(list(group_bootstrap_weights(groups, **options)))


def test_rows_of_a_group_come_together_and_groups_add_up():
    groups = np.array(["b", "a", "c", "a", "b", "a"])
    weights = all_weights(groups, num_resamples=200, seed=0)
    assert weights.shape == (200, 6)
    assert weights.dtype == np.float64
    assert (weights[:, [1]] == weights[:, [3, 5]]).all()
    assert (weights[:, 0] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 2]].sum(axis=1) == 3).all()
    assert len(np.unique(weights, axis=0)) > 5


@pytest.mark.parametrize("chunk_values", [1, 50, 10**6])
def test_chunk_size_changes_nothing_but_the_chunks(chunk_values, monkeypatch):
    groups = np.arange(31) // 2
    reference = all_weights(groups, num_resamples=101, seed=5)
    monkeypatch.setattr("assay.metrics.intervals.CHUNK_VALUES", chunk_values)
    chunks = list(group_bootstrap_weights(groups, num_resamples=101, seed=5))
    assert (np.concatenate(chunks) == reference).all()
    assert max(chunk.size for chunk in chunks) <= max(chunk_values, 31)


def test_seed_decides_and_row_order_does_not():
    groups = np.array([3, 1, 1, 2, 3])
    first = all_weights(groups, num_resamples=20, seed=1)
    assert (first == all_weights(groups, num_resamples=20, seed=1)).all()
    assert (first != all_weights(groups, num_resamples=20, seed=2)).any()
    order = np.array([4, 2, 0, 3, 1])
    assert (first[:, order] == all_weights(groups[order], num_resamples=20, seed=1)).all()


def test_groups_widen_the_interval_by_their_design_effect():
    hits = np.repeat((np.random.default_rng(0).random(100) < 0.5).astype(float), 9)
    by_group = all_weights(np.arange(900) // 9, num_resamples=4000, seed=0)
    by_row = all_weights(np.arange(900), num_resamples=4000, seed=0)
    ratio = (by_group @ hits / 900).std() / (by_row @ hits / 900).std()
    assert ratio == pytest.approx(3.0, rel=0.06)  # sqrt of 9 identical rows per group


def test_percentile_interval_takes_the_central_share_and_ignores_a_minority_of_nan():
    assert percentile_interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))
    draws = np.r_[np.arange(101.0), np.full(101, math.nan)]
    assert percentile_interval(draws) == pytest.approx((2.5, 97.5))
    assert all(map(math.isnan, percentile_interval(np.r_[draws, math.nan])))
    assert all(map(math.isnan, percentile_interval([])))


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 59), (3, 59), (59, 59), (17, 2000)])
@pytest.mark.parametrize(("side", "alternative"), [("two-sided", "two-sided"), ("upper", "less")])
def test_clopper_pearson_equals_scipy(k, n, side, alternative):
    theirs = binomtest(k, n, alternative=alternative).proportion_ci(0.95, method="exact")
    assert clopper_pearson(k, n, side=side) == pytest.approx((theirs.low, theirs.high), abs=1e-10)
    assert clopper_pearson(0, 0, side=side) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: all_weights([], num_resamples=2, seed=0), "non-empty"),
        (lambda: all_weights([[1, 2]], num_resamples=2, seed=0), "1-D"),
        (lambda: all_weights([1.0, math.nan], num_resamples=2, seed=0), "missing"),
        (lambda: all_weights(["a", None], num_resamples=2, seed=0), "missing"),
        (lambda: all_weights([1, 2], num_resamples=0, seed=0), "num_resamples"),
        (lambda: clopper_pearson(-1, 3), "k must lie in"),
        (lambda: clopper_pearson(4, 3), "k must lie in"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
