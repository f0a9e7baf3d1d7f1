"""Group bootstrap, percentile interval and exact binomial limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from assay.metrics.intervals import (
    clopper_pearson,
    group_bootstrap_weights,
    percentile_interval,
    rows_to_certify,
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


@pytest.mark.parametrize("chunk_values", [1, 7, 50, 333, 10**6])
def test_chunk_size_changes_nothing_but_the_chunks(chunk_values):
    groups = np.arange(31) // 2
    reference = all_weights(groups, num_resamples=101, seed=5)
    chunks = list(group_bootstrap_weights(groups, num_resamples=101, seed=5, chunk_values=chunk_values))
    assert (np.concatenate(chunks) == reference).all()
    assert max(chunk.size for chunk in chunks) <= max(chunk_values, 31)


def test_seed_decides_and_row_order_does_not():
    groups = np.array([3, 1, 1, 2, 3])
    first = all_weights(groups, num_resamples=20, seed=1)
    assert (first == all_weights(groups, num_resamples=20, seed=1)).all()
    assert (first != all_weights(groups, num_resamples=20, seed=2)).any()
    order = np.array([4, 2, 0, 3, 1])
    assert (first[:, order] == all_weights(groups[order], num_resamples=20, seed=1)).all()


def test_single_rows_equal_the_scipy_bootstrap():
    hits = (np.random.default_rng(0).random(400) < 0.8).astype(float)
    weights = all_weights(np.arange(400), num_resamples=20_000, seed=0)
    ours = percentile_interval(weights @ hits / 400)
    theirs = bootstrap(
        (hits,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    # Monte-Carlo error of a 2.5 % quantile: sd * sqrt(p q / B) / density = about 0.0004; one hit is 0.0025.
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.0026)


def test_groups_widen_the_interval_by_their_design_effect():
    hits = np.repeat((np.random.default_rng(0).random(100) < 0.5).astype(float), 9)
    by_group = all_weights(np.arange(900) // 9, num_resamples=4000, seed=0)
    by_row = all_weights(np.arange(900), num_resamples=4000, seed=0)
    ratio = (by_group @ hits / 900).std() / (by_row @ hits / 900).std()
    assert ratio == pytest.approx(3.0, rel=0.06)  # sqrt of 9 identical rows per group


@pytest.mark.parametrize(
    ("groups", "message"),
    [([], "non-empty"), ([[1, 2]], "1-D"), ([1.0, math.nan], "missing"), (["a", None], "missing")],
)
def test_bad_groups_are_named(groups, message):
    with pytest.raises(ValueError, match=message):
        all_weights(groups, num_resamples=2, seed=0)


def test_no_resamples_is_an_error():
    with pytest.raises(ValueError, match="num_resamples"):
        all_weights([1, 2], num_resamples=0, seed=0)


def test_percentile_interval_takes_the_central_share():
    assert percentile_interval(np.arange(1001.0), level=0.9) == pytest.approx((50.0, 950.0))
    assert percentile_interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))


def test_percentile_interval_ignores_a_minority_of_nan():
    draws = np.r_[np.arange(101.0), np.full(101, math.nan)]
    assert percentile_interval(draws, level=0.9) == pytest.approx((5.0, 95.0))
    assert all(map(math.isnan, percentile_interval(np.r_[draws, math.nan])))
    assert all(map(math.isnan, percentile_interval([])))


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_level_must_be_a_share(level):
    with pytest.raises(ValueError, match="level"):
        percentile_interval([1.0, 2.0], level=level)
    with pytest.raises(ValueError, match="level"):
        clopper_pearson(1, 2, level=level)
    with pytest.raises(ValueError, match="level"):
        rows_to_certify(0.05, level=level)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 59), (3, 59), (59, 59), (17, 2000)])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("side", "alternative"), [("two-sided", "two-sided"), ("upper", "less"), ("lower", "greater")])
def test_clopper_pearson_equals_scipy(k, n, level, side, alternative):
    theirs = binomtest(k, n, alternative=alternative).proportion_ci(level, method="exact")
    assert clopper_pearson(k, n, level=level, side=side) == pytest.approx((theirs.low, theirs.high), abs=1e-10)


def test_nothing_seen_means_nothing_known():
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    assert clopper_pearson(0, 0, side="upper") == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3)])
def test_impossible_counts_are_named(k, n):
    with pytest.raises(ValueError, match="k must lie in"):
        clopper_pearson(k, n)


def test_unknown_side_is_named():
    with pytest.raises(ValueError, match="side must be"):
        clopper_pearson(1, 3, side="left")


@pytest.mark.parametrize(("rate", "rows"), [(0.05, 59), (0.01, 299), (0.001, 2995), (0.95, 1)])
def test_rows_to_certify_is_the_smallest_number(rate, rows):
    assert rows_to_certify(rate) == rows
    assert clopper_pearson(0, rows, side="upper")[1] <= rate + 1e-12
    if rows > 1:
        assert clopper_pearson(0, rows - 1, side="upper")[1] > rate


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_rate_must_be_a_share(rate):
    with pytest.raises(ValueError, match="rate"):
        rows_to_certify(rate)
