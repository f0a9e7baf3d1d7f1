"""Exits counted by hand."""

import math

import numpy as np
import pytest

from assay.images.exits import exit_table

PROBS = np.array([0.05, 0.1, 0.1, 0.5, 0.6, 0.9, 0.95, 0.99])
LABELS = np.array([0, 0, 1, 0, 1, 0, 1, 1])


def test_shares_leaks_and_error_by_hand() -> None:
    row = exit_table(PROBS, LABELS, np.arange(8), exit_real=[0.1], exit_forged=[0.9]).iloc[0]
    assert (row["n"], row["n_groups"]) == (8, 8)
    assert (row["share_real"], row["share_forged"], row["share_deferred"]) == (3 / 8, 3 / 8, 2 / 8)
    assert (row["leak_forged"], row["leak_real"], row["error"]) == (1 / 4, 1 / 4, 2 / 6)
    # One-sided Clopper-Pearson of 1 in 4: P(X <= 1) = 0.05 at p.
    p = row["leak_forged_upper"]
    assert (1 - p) ** 4 + 4 * p * (1 - p) ** 3 == pytest.approx(0.05)


def test_leaks_are_means_over_scenes_and_so_is_their_bound() -> None:
    groups = np.array(["a", "a", "a", "a", "a", "b", "b", "b"])
    row = exit_table(PROBS, LABELS, groups, exit_real=[0.1], exit_forged=[0.9]).iloc[0]
    # Forged: one of two leaks in a, none of two in b; real: none of three in a, the one in b.
    assert (row["n_groups"], row["leak_forged"], row["leak_real"], row["error"]) == (2, 1 / 4, 1 / 2, 2 / 6)
    assert row["leak_forged_upper"] > 1 - 0.05 ** (1 / 2)


def test_pairs_that_cross_are_left_out_and_nobody_leaving_has_no_error() -> None:
    table = exit_table(PROBS, LABELS, np.arange(8), exit_real=[0.5, 0.01], exit_forged=[0.995, 0.5])
    pairs = [(0.01, 0.5), (0.01, 0.995), (0.5, 0.995)]
    assert list(zip(table["exit_real"], table["exit_forged"], strict=True)) == pairs
    assert table["share_deferred"].iloc[1] == 1
    assert math.isnan(table["error"].iloc[1])
