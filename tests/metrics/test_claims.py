"""Every sentence that a gain can come to."""

import math

import pytest

from assay.metrics.claims import claim
from assay.metrics.intervals import MIN_GROUPS

WORDS = {"ours": "A", "theirs": "B", "metric": "AUC"}


def report(low: float | None, high: float | None, *, n_groups: int = 9) -> dict[str, float | None]:
    value = None if low is None or high is None else (low + high) / 2
    return {"k": value, "k_low": low, "k_high": high, "n_groups": n_groups}


@pytest.mark.parametrize(
    ("interval", "n_groups", "options", "wanted"),
    [
        ((0.01, 0.03), 9, {}, "better (+0.0200 [+0.0100, +0.0300]; 9 groups)"),
        ((-0.03, -0.01), 9, {}, "worse (-0.0200 [-0.0300, -0.0100]; 9 groups)"),
        ((-0.01, 0.03), 9, {}, "not told apart (+0.0100 [-0.0100, +0.0300]; 9 groups)"),
        ((0.0, 0.04), 9, {}, "not told apart (+0.0200 [+0.0000, +0.0400]; 9 groups)"),
        ((0.01, 0.03), 9, {"lower_is_better": True}, "worse (+0.0200 [+0.0100, +0.0300]; 9 groups)"),
        ((-0.03, -0.01), 9, {"lower_is_better": True}, "better (-0.0200 [-0.0300, -0.0100]; 9 groups)"),
        ((0.01, 0.03), 4, {}, "not enough groups (+0.0200; 4 groups, of 5 that an interval takes)"),
        ((0.01, 0.03), MIN_GROUPS, {}, "better (+0.0200 [+0.0100, +0.0300]; 5 groups)"),
        ((math.nan, math.nan), 9, {}, "not told apart (undefined; 9 groups)"),
        ((None, None), 9, {}, "not told apart (undefined; 9 groups)"),
        ((None, None), 2, {}, "not enough groups (undefined; 2 groups, of 5 that an interval takes)"),
        (
            (0.01, 0.03),
            216,
            {"comparisons": 4, "one_training": True, "exploratory": True},
            "better (+0.0200 [+0.0100, +0.0300]; 216 groups, holds for 4 comparisons together, one training, exploratory)",
        ),
    ],
)
def test_a_sentence_follows_from_the_figures(interval, n_groups, options, wanted):
    assert claim(report(*interval, n_groups=n_groups), "k", **WORDS, **options) == f"A against B, AUC: {wanted}."


def test_a_value_without_an_interval_is_told_alone():
    found = {"k": 0.0, "k_low": None, "k_high": None, "n_groups": 9}
    assert claim(found, "k", **WORDS) == "A against B, AUC: not told apart (+0.0000; 9 groups)."
