"""Reading questions with counts: every way a row can be wrong, and roles that share no question."""

import numpy as np
import pandas as pd
import pytest

from assay.counts.table import check_rows, full_text, limit_rows, split_groups


def table(**columns: list[object]) -> pd.DataFrame:
    size = len(next(iter(columns.values())))
    rows = {"text": ["q"] * size, "setting": [None] * size, "counts": [3] * size, "group": [None] * size} | columns
    return pd.DataFrame(rows, dtype=object)


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (None, "no count"),
        ("about five", "count is no number"),
        ("inf", "count is no number"),
        (True, "count is no number"),
        ("2.5", "count is not whole"),
        (0, "count below 1"),
        (457, "count above max_count"),
    ],
)
def test_a_count_that_cant_be_used_is_a_row_with_its_reason(count, reason):
    rows, rejected = check_rows(table(counts=[7, count]), max_count=456)
    assert rows["counts"].tolist() == [7]
    assert rejected[["row", "reason"]].to_numpy().tolist() == [[2, reason]]


def test_counts_written_as_text_are_numbers_and_long_texts_are_kept():
    rows, rejected = check_rows(table(text=["a", "b", "long " * 4000], counts=["17", "17.0", " 3 "]), max_count=None)
    assert rows["counts"].tolist() == [17, 17, 3]
    assert len(rows["text"][2]) == 19_999
    assert rejected.empty


def test_an_empty_text_is_a_row_with_its_reason():
    rows, rejected = check_rows(table(text=["fine", None, "", "  \n\t ", 17]), max_count=None)
    assert len(rows) == 1
    assert rejected["reason"].tolist() == ["empty text"] * 4


def test_sample_ids_are_unique_and_do_not_depend_on_order():
    content = table(text=["a", "b", "a", "a"], counts=[1, 1, 1, 2])
    rows, _ = check_rows(content, max_count=None)
    assert rows["sample_id"].is_unique
    again, _ = check_rows(content.iloc[::-1], max_count=None)
    assert set(again["sample_id"]) == set(rows["sample_id"])


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
    groups, shares = pd.Series(np.repeat(np.arange(200), 7)), {"train": 0.7, "val": 0.1, "test": 0.2}
    roles = split_groups(groups, shares, seed=3)
    per_group = pd.DataFrame({"group": groups, "role": roles}).groupby("group")["role"].agg(["nunique", "first"])
    assert (per_group["nunique"] == 1).all()
    assert per_group["first"].value_counts().to_dict() == {"train": 140, "test": 40, "val": 20}
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
