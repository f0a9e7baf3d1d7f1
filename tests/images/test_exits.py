"""Exits counted by hand."""

import math

import numpy as np
import pytest

from assay.images.exits import exit_table

PROBS = np.array([0.05, 0.1, 0.1, 0.5, 0.6, 0.9, 0.95, 0.99])
LABELS = np.array([0, 0, 1, 0, 1, 0, 1, 1])


def test_shares_leaks_and_error_by_hand() -> None:
    row = exit_table(PROBS, LABELS, exit_real=[0.1], exit_forged=[0.9]).iloc[0]
    assert row["n"] == 8
    assert (row["share_real"], row["share_forged"], row["share_deferred"]) == (3 / 8, 3 / 8, 2 / 8)
    assert (row["leak_forged"], row["leak_real"], row["error"]) == (1 / 4, 1 / 4, 2 / 6)
    # One-sided Clopper-Pearson of 1 in 4: P(X <= 1) = 0.05 at p.
    p = row["leak_forged_upper"]
    assert (1 - p) ** 4 + 4 * p * (1 - p) ** 3 == pytest.approx(0.05)


def test_pairs_that_cross_are_left_out_and_nobody_leaving_has_no_error() -> None:
    table = exit_table(PROBS, LABELS, exit_real=[0.5, 0.01], exit_forged=[0.995, 0.5])
    pairs = [(0.01, 0.5), (0.01, 0.995), (0.5, 0.995)]
    assert list(zip(table["exit_real"], table["exit_forged"], strict=True)) == pairs
    assert table["share_deferred"].iloc[1] == 1
    assert math.isnan(table["error"].iloc[1])
