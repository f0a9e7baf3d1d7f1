"""The jackknife over groups and exact binomial limits."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, t, ttest_1samp

from assay.metrics.intervals import (
    MAX_BLOCKS,
    blocks_of,
    clopper_pearson,
    degrees_of_freedom,
    jackknife_interval,
    left_out_weights,
    max_t_quantile,
)


def all_weights(groups):
    return np.concatenate(list(left_out_weights(blocks_of(groups))))


def interval(values, groups, *, scale):
    """Of the mean of values."""
    weights = all_weights(groups)
    df = degrees_of_freedom(blocks_of(groups))
    return jackknife_interval(np.mean(values), weights @ values / weights.sum(axis=1), df=df, scale=scale)


def test_each_row_leaves_one_group_out():
    groups = np.array(["b", "a", "c", "a", "b", "a"])
    assert all_weights(groups).tolist() == [[1, 0, 1, 0, 1, 0], [0, 1, 1, 1, 0, 1], [1, 1, 0, 1, 1, 1]]
    assert all_weights(groups).dtype == np.float64


def test_many_groups_are_left_out_by_the_block_whatever_their_names():
    groups = np.repeat(np.arange(10 * MAX_BLOCKS), 2)
    blocks = blocks_of(groups)
    assert np.bincount(blocks).tolist() == [20] * MAX_BLOCKS
    assert (blocks[::2] == blocks[1::2]).all()
    # Names sorted by what they are (all of one data set first) must not fill blocks with one kind each, nor evenly.
    first = np.bincount(blocks[: groups.size // 2], minlength=MAX_BLOCKS)
    assert first.std() > 1
    assert 0 < first.min() <= first.max() < 20


@pytest.mark.parametrize("chunk_values", [1, 50, 10**6])
def test_chunk_size_changes_nothing_but_the_chunks(chunk_values, monkeypatch):
    groups = np.arange(31) // 2
    reference = all_weights(groups)
    monkeypatch.setattr("assay.metrics.intervals.CHUNK_VALUES", chunk_values)
    chunks = list(left_out_weights(blocks_of(groups)))
    assert (np.concatenate(chunks) == reference).all()
    assert max(chunk.size for chunk in chunks) <= max(chunk_values, 31)


def test_rows_of_their_own_give_the_t_interval_of_a_mean():
    values = np.random.default_rng(0).normal(size=40)
    theirs = ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert interval(values, np.arange(40), scale="difference") == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_equal_groups_give_the_t_interval_of_their_means_and_copies_add_nothing():
    means = np.random.default_rng(1).normal(size=9)
    values, groups = np.repeat(means, 7), np.repeat(np.arange(9), 7)
    theirs = ttest_1samp(means, 0.0).confidence_interval(0.95)
    assert interval(values, groups, scale="difference") == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("sizes", "df"), [([7, 7, 7, 7, 7], 4.0), ([1, 1, 1, 1, 6], 10**2 / 40 - 1), ([1] * 50, 49.0)])
def test_unequal_groups_count_as_fewer(sizes, df):
    assert degrees_of_freedom(np.repeat(np.arange(len(sizes)), sizes)) == pytest.approx(df)


@pytest.mark.parametrize(
    ("scale", "point", "low", "high"),
    [("share", 0.97, 0.0, 1.0), ("correlation", -0.95, -1.0, 1.0), ("positive", 0.05, 0.0, np.inf)],
)
def test_an_interval_stays_where_the_metric_lives(scale, point, low, high):
    left_out = point + np.linspace(-0.03, 0.03, 6)
    found = jackknife_interval(point, left_out, df=5, scale=scale)
    assert low < found[0] < point < found[1] < high
    plain = jackknife_interval(point, left_out, df=5, scale="difference")
    assert plain[0] < low or plain[1] > high
    # Far from the bounds and narrow, the scale does not matter.
    narrow = 0.5 + np.linspace(-1, 1, 9) * 1e-6
    ours, theirs = (jackknife_interval(0.5, narrow, df=8, scale=name) for name in (scale, "difference"))
    assert ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(
    "left_out", [[0.5, 0.6, 0.7, 0.8], [0.5] * 9, [0.5, 0.6, np.nan, 0.7, 0.8, 0.9]], ids=["few", "constant", "nan"]
)
def test_there_is_no_interval_where_nothing_says_how_wide(left_out):
    assert all(map(math.isnan, jackknife_interval(0.5, left_out, df=3, scale="share")))


def test_max_t_lies_between_one_comparison_and_as_many_that_have_nothing_in_common():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(1, 60))
    assert max_t_quantile(np.repeat(one, 5, axis=0), df=8) == pytest.approx(t.ppf(0.975, 8), rel=0.02)
    assert max_t_quantile(np.zeros((3, 60)), df=8) == pytest.approx(t.ppf(0.975, 8))
    # Many degrees of freedom: independent comparisons have Sidak's level.
    apart = np.linalg.qr(rng.normal(size=(60, 5)))[0].T
    apart -= apart.mean(axis=1, keepdims=True)
    sidak = t.ppf(0.5 + 0.5 * 0.95 ** (1 / 5), 1e6)
    assert max_t_quantile(apart, df=1e6) == pytest.approx(sidak, rel=0.02)
    assert max_t_quantile(apart, df=8) > sidak


def test_it_covers_the_mean_of_scenes_that_differ():
    """Nine scenes of unequal sizes, effects as large as the noise: 95 % within what 600 sets can tell."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(600):
        sizes = rng.integers(5, 40, 9)
        groups = np.repeat(np.arange(9), sizes)
        values = rng.normal(size=9)[groups] + rng.normal(size=groups.size)
        low, high = interval(values, groups, scale="difference")
        hits += low <= 0.0 <= high
    assert 0.925 < hits / 600 < 0.985


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 59), (3, 59), (59, 59), (17, 2000)])
@pytest.mark.parametrize(("side", "alternative"), [("two-sided", "two-sided"), ("upper", "less")])
def test_clopper_pearson_equals_scipy(k, n, side, alternative):
    theirs = binomtest(k, n, alternative=alternative).proportion_ci(0.95, method="exact")
    assert clopper_pearson(k, n, side=side) == pytest.approx((theirs.low, theirs.high), abs=1e-10)
    assert clopper_pearson(0, 0, side=side) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: all_weights([]), "non-empty"),
        (lambda: all_weights([[1, 2]]), "1-D"),
        (lambda: all_weights([1.0, math.nan]), "missing"),
        (lambda: all_weights(["a", None]), "missing"),
        (lambda: clopper_pearson(-1, 3), "k must lie in"),
        (lambda: clopper_pearson(4, 3), "k must lie in"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
