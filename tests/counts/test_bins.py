"""Bins against pandas, and what happens at ties, gaps and the edges of what train saw."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.counts.bins import bins_from_json, cut, equal_width_bins, matched_cuts, quantile_bins

SKEWED = np.round(np.random.default_rng(0).lognormal(2.8, 0.8, 3000)).clip(1, 456)


@pytest.mark.parametrize("num_bins", [2, 5, 8])
def test_quantile_bins_are_those_of_pandas_qcut(num_bins):
    bins = quantile_bins(SKEWED, num_bins=num_bins, ties="error")
    found = pd.qcut(pd.Series(SKEWED), q=num_bins)
    assert np.array_equal(bins.assign(SKEWED), found.cat.codes)
    means = pd.Series(SKEWED).groupby(found.cat.codes).mean()
    assert np.allclose(bins.means, means)
    assert bins.note == ""


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=12, max_size=80).filter(lambda values: len(set(values)) > 4))
def test_any_counts_are_binned_as_pandas_does(values):
    counts = np.array(values)
    bins = equal_width_bins(counts, num_bins=4)
    codes = pd.cut(pd.Series(counts), bins=4).cat.codes
    assert np.array_equal(bins.assign(counts), codes)
    assert np.allclose(bins.shares, codes.value_counts(normalize=True).reindex(range(4), fill_value=0))


def test_counts_outside_the_range_of_train_fall_into_the_outer_bins_and_are_counted():
    bins = quantile_bins([5, 6, 7, 8, 9, 10, 11, 12], num_bins=4, ties="error")
    assert bins.assign([1, 5, 12, 400]).tolist() == [0, 0, 3, 3]
    assert bins.num_outside([1, 5, 12, 400]) == 2


def test_tied_quantiles_are_merged_and_it_is_said():
    tied = [3] * 50 + [4, 5, 6, 7, 8, 9, 10, 11]
    bins = quantile_bins(tied, num_bins=8, ties="merge")
    assert bins.num_bins == len(set(pd.qcut(pd.Series(tied), q=8, duplicates="drop").cat.categories))
    assert f"ties merged 8 quantile bins into {bins.num_bins}" in bins.note
    with pytest.raises(ValueError, match=r"leave only .* different bins; ask for fewer, or set prepare_counts.ties"):
        quantile_bins(tied, num_bins=8, ties="error")
    with pytest.raises(ValueError, match="single bin"):
        quantile_bins([3] * 99 + [4], num_bins=2, ties="merge")


def test_an_empty_bin_is_named_and_has_its_middle_as_mean():
    bins = equal_width_bins([1, 2, 3, 100], num_bins=4)
    assert "bin(s) 1, 2 hold no count" in bins.note
    assert bins.shares == (0.75, 0, 0, 0.25)
    assert bins.means[1] == pytest.approx((25.75 + 50.5) / 2)


@pytest.mark.parametrize("counts", [[], [4, 4, 4], [1, np.nan], [[1, 2]]])
def test_counts_that_cant_be_binned_are_rejected(counts):
    with pytest.raises(ValueError, match="counts"):
        equal_width_bins(counts, num_bins=3)
    with pytest.raises(ValueError, match="finite"):
        equal_width_bins([1, 5, 9], num_bins=2).assign([np.nan])


def test_whole_ranges_cover_every_count_once():
    bins = quantile_bins(SKEWED, num_bins=8, ties="error")
    covered = [n for k in range(8) for n in range(bins.whole_range(k)[0], bins.whole_range(k)[1] + 1)]
    assert covered == list(range(int(SKEWED.min()), int(SKEWED.max()) + 1))
    for number in covered:
        low, high = bins.whole_range(int(bins.assign([number])[0]))
        assert low <= number <= high


def test_expected_counts_are_the_means_weighted_and_json_brings_back_the_same_bins():
    bins = equal_width_bins([1, 2, 9, 10], num_bins=2)
    assert bins.expected([[1, 0], [0, 1], [0.5, 0.5]]).tolist() == [1.5, 9.5, 5.5]
    assert bins_from_json(json.loads(json.dumps(bins.to_json()))) == bins


def test_matched_cuts_name_each_bin_as_often_as_it_occurs_and_keep_the_order():
    bins = quantile_bins(SKEWED, num_bins=8, ties="error")
    shrunk = 20 + 0.2 * (SKEWED - 20) + np.random.default_rng(1).normal(0, 1, len(SKEWED))
    found = cut(shrunk, matched_cuts(shrunk, bins.shares))
    assert np.allclose(np.bincount(found, minlength=8) / len(found), bins.shares, atol=0.002)
    assert (np.diff(found[np.argsort(shrunk)]) >= 0).all()
    assert (np.bincount(bins.assign(shrunk), minlength=8)[[0, 7]] < 50).all()  # what the edges would have said
