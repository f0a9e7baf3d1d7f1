"""Reading questions with counts: every way a row can be wrong, and roles that share no question."""

import numpy as np
import pandas as pd
import pytest

from assay.counts.question import full_text
from assay.counts.table import check_rows, limit_rows, split_groups


def table(**columns: list[object]) -> pd.DataFrame:
    size = len(next(iter(columns.values())))
    rows = {"text": ["q"] * size, "setting": [None] * size, "counts": [3] * size, "group": [None] * size} | columns
    return pd.DataFrame(rows, dtype=object)


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(
    ("count", "wanted"),
    [
        (17, 17),
        (17.0, 17),
        ("17", 17),
        (" 17 ", 17),
        ("17.00", 17),
        ("+17", 17),
        ("1.7e1", 17),
        ("1E3", 1000),
        (2**63 - 1, 2**63 - 1),
        (None, "no count"),
        ("", "count is no number"),
        ("about five", "count is no number"),
        ("inf", "count is no number"),
        (float("inf"), "count is no number"),
        (float("nan"), "count is no number"),
        ("NA", "count is no number"),
        (True, "count is no number"),
        ("0x10", "count is no number"),
        ("1_000", "count is no number"),
        ("1,000", "count is no number"),
        ("１７", "count is no number"),
        ([3], "count is no number"),
        ("1e99999999999999999999", "count is no number"),
        ("2.5", "count is not whole"),
        ("1e-5", "count is not whole"),
        (0, "count below 1"),
        ("-3", "count below 1"),
        (2**63, "count too large"),
        ("1E+20", "count too large"),
        (1e20, "count too large"),
        ("123456789012345678901234", "count too large"),
        ("9" * 5000, "count too large"),
        ("1e999999", "count too large"),
    ],
)
def test_one_rule_says_what_a_count_is(count, wanted, as_text):
    given = str(count) if as_text and count is not None else count
    rows, rejected = check_rows(table(counts=[7, given]), max_count=None)
    found = rows["counts"].tolist()[1:] or rejected["reason"].tolist()
    assert found == [wanted]
    assert rows["counts"].dtype == "int64"
    assert rejected["row"].tolist() in ([], [2])


def test_a_count_above_max_count_and_a_row_that_the_file_makes_unreadable_are_rejected():
    rows, rejected = check_rows(table(counts=[456, 457, 1e20, 3]), max_count=456, problems=[None, None, None, "line 4"])
    assert rows["counts"].tolist() == [456]
    assert rejected["reason"].tolist() == ["count above max_count", "count above max_count", "unreadable"]
    assert rejected["detail"].tolist() == ["457; the largest is 456", "1e+20; the largest is 456", "line 4"]


def test_long_texts_are_kept():
    rows, rejected = check_rows(table(text=["a", "b", "long " * 4000]), max_count=None)
    assert len(rows["text"][2]) == 19_999
    assert rejected.empty


def test_an_empty_text_is_a_row_with_its_reason():
    rows, rejected = check_rows(table(text=["fine", None, "", "  \n\t ", 17]), max_count=None)
    assert len(rows) == 1
    assert rejected["reason"].tolist() == ["empty text"] * 3 + ["no text"]


def test_sample_ids_are_unique_and_do_not_depend_on_order():
    content = table(text=["a", "b", "a", "a"], counts=[1, 1, 1, 2])
    rows, _ = check_rows(content, max_count=None)
    assert rows["sample_id"].is_unique
    again, _ = check_rows(content.iloc[::-1], max_count=None)
    assert set(again["sample_id"]) == set(rows["sample_id"])


@pytest.mark.parametrize("other", ["caf\u00e9 1", " caf\u00e9  1 ", "cafe\u0301 1", "caf\u00e9\u200b 1\ufeff"])
def test_texts_that_are_read_alike_are_one_group_whatever_they_name(other):
    content = table(text=["caf\u00e9 1", "b", other, other], group=[None, None, "g1 ", "  "])
    rows, _ = check_rows(content, max_count=None)
    assert rows["group"][0] == rows["group"][2] == rows["group"][3] != rows["group"][1]


def test_without_a_group_equal_texts_form_one():
    rows, _ = check_rows(table(text=["a", "b", "a"], setting=["x", "x", "y"]), max_count=None)
    assert rows["group"][0] == rows["group"][2] != rows["group"][1]
    assert rows["text"].tolist() == ["x: a", "x: b", "y: a"]
    assert rows["setting"].tolist() == ["x", "x", "y"]
    assert check_rows(table(setting=[None]), max_count=None)[0]["setting"].tolist() == [""]


def test_the_setting_comes_first():
    assert full_text(" why? ", "GPT-4, 0-Shot") == "GPT-4, 0-Shot: why?"
    assert full_text("why?", None) == full_text("why?", " ") == "why?"


def test_no_group_stands_in_two_roles_and_shares_are_kept():
    groups, shares = pd.Series(np.repeat(np.arange(200), 7)), {"train": 0.6, "val": 0.1, "calib": 0.1, "test": 0.2}
    roles = split_groups(groups, shares, seed=3)
    per_group = pd.DataFrame({"group": groups, "role": roles}).groupby("group")["role"].agg(["nunique", "first"])
    assert (per_group["nunique"] == 1).all()
    assert per_group["first"].value_counts().to_dict() == {"train": 120, "test": 40, "val": 20, "calib": 20}
    assert np.array_equal(roles, split_groups(groups, shares, seed=3))
    with pytest.raises(ValueError, match="2 group"):
        split_groups(pd.Series(["a", "b", "a"]), shares, seed=0)


def test_rows_of_a_group_are_limited_by_chance_and_stay_in_order():
    rows = pd.DataFrame({"group": ["a"] * 50 + ["b"] * 3, "n": range(53)})
    kept = limit_rows(rows, 5, seed=1)
    assert kept["group"].value_counts().to_dict() == {"a": 5, "b": 3}
    assert kept["n"].is_monotonic_increasing
    assert kept["n"].tolist()[:5] != [0, 1, 2, 3, 4]
    assert limit_rows(rows, None, seed=1) is rows
