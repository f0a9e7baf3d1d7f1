"""Roles and folds: disjoint by group, near their shares, the same whatever the order of rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from assay.data.roles import (
    ROLES,
    assign_folds,
    assign_roles,
    borrow_roles,
    check_disjoint,
    deal_folds,
    role_named,
)

SHARES = {"train": 0.5, "val": 0.1, "calib": 0.1, "tune": 0.1, "test": 0.2}


def rows(num_groups: int, *, seed: int = 0, largest: int = 6, paired: bool = True) -> pd.DataFrame:
    """Images in groups; paired: every group holds both labels."""
    rng = np.random.default_rng(seed)
    table = []
    for number in range(num_groups):
        labels = [0, 1] if paired else [number % 2]
        for _ in range(int(rng.integers(1, largest + 1))):
            table += [(f"g{number:04d}", f"d{number % 3 == 0:d}", label) for label in labels]
    return pd.DataFrame(table, columns=["group_id", "dataset", "label"])


@settings(max_examples=30, deadline=None)
@given(num_groups=st.integers(15, 120), seed=st.integers(0, 1000), paired=st.booleans())
def test_every_group_has_one_role_and_every_role_both_labels(num_groups: int, seed: int, paired: bool) -> None:
    frame = rows(num_groups, seed=seed, paired=paired)
    roles = assign_roles(frame, shares=SHARES, seed=seed)
    assert roles.index.is_unique
    assert set(roles.index) == set(frame["group_id"])
    assert set(roles) <= set(ROLES)
    if num_groups >= 40:
        split = frame["group_id"].map(roles)
        assert (frame.groupby(split)["label"].nunique() == 2).all()
        assert set(split) == set(ROLES)


def test_shares_are_met_in_every_stratum() -> None:
    frame = rows(600)
    split = frame["group_id"].map(assign_roles(frame, shares=SHARES, seed=1))
    for _, stratum in frame.groupby(["dataset", "label"]):
        held = split[stratum.index].value_counts(normalize=True)
        for role, share in SHARES.items():
            assert held[role] == pytest.approx(share, abs=0.02)


def test_few_groups_fill_every_role_and_a_huge_one_goes_where_it_fits() -> None:
    assert set(assign_roles(rows(5, largest=1), shares=SHARES, seed=0)) == set(ROLES)
    huge = pd.DataFrame([("huge", "d0", i % 2) for i in range(100)], columns=["group_id", "dataset", "label"])
    roles = assign_roles(pd.concat([rows(60, largest=1), huge]), shares=SHARES, seed=3)
    assert roles["huge"] == "train"
    assert set(roles) == set(ROLES)


def test_neither_the_order_of_rows_nor_the_index_matters() -> None:
    frame = rows(80)
    expected = assign_roles(frame, shares=SHARES, seed=5)
    shuffled = frame.sample(frac=1, random_state=9)
    pd.testing.assert_series_equal(assign_roles(shuffled, shares=SHARES, seed=5), expected)
    assert not assign_roles(frame, shares=SHARES, seed=6).equals(expected)


def test_folds_are_scikit_learns() -> None:
    frame = rows(50, seed=2)
    labels, groups = frame["label"].to_numpy(), list(frame["group_id"])
    fold = assign_folds(labels, groups, folds=5, seed=11)
    splitter = StratifiedGroupKFold(n_splits=5, shuffle=True, random_state=11)
    covered = np.zeros(len(frame), dtype=int)
    for number, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
        assert (fold[held_out] == number).all()
        covered[held_out] += 1
    assert (covered == 1).all()
    assert (frame.groupby(fold)["label"].nunique() == 2).all()
    check_disjoint(pd.Series(fold), frame["group_id"])


@pytest.mark.parametrize("label", [0, 1])
def test_too_few_groups_for_the_folds(label: int) -> None:
    frame = rows(20, paired=True)
    kept = frame[(frame["label"] != label) | frame["group_id"].isin(["g0000", "g0001", "g0002"])]
    with pytest.raises(ValueError, match=rf"label {label} has 3 group\(s\) in train, but 5 folds need at least 5"):
        assign_folds(kept["label"].to_numpy(), list(kept["group_id"]), folds=5, seed=0)


def test_dealt_folds_are_even_and_the_seed_decides() -> None:
    groups = [f"g{number}" for number in range(13)]
    dealt = deal_folds([*groups, *groups], folds=5, seed=0)
    assert sorted(dealt) == sorted(groups)
    assert sorted(np.bincount(list(dealt.values()))) == [2, 2, 3, 3, 3]
    assert dealt == deal_folds(groups[::-1], folds=5, seed=0) != deal_folds(groups, folds=5, seed=1)


def test_groups_in_two_roles_are_named() -> None:
    groups = pd.Series(["a", "a", "b"], index=[5, 6, 7])
    check_disjoint(pd.Series(["train", "train", "test"]), groups)
    with pytest.raises(ValueError, match=r"1 group\(s\) stand in more than one role: \['a'\]"):
        check_disjoint(pd.Series(["train", "test", "test"]), groups)


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (("train", " Training "), "train"),
        (("val", "VALIDATION", "valid", "dev"), "val"),
        (("test", "Testing"), "test"),
        (("calib",), "calib"),
        (("tune",), "tune"),
        (("eval", "holdout", "", None, 1, "NA"), None),
    ],
)
def test_what_splits_are_called_elsewhere(names: tuple[object, ...], role: str | None) -> None:
    assert {role_named(name) for name in names} == {role}


@pytest.mark.parametrize(
    ("declared", "donor", "giver"),
    [
        (("train", "val", "test"), "val", "val"),
        (("train", "val", "test"), "train", "train"),
        (("train", "val"), "val", "val"),
        (("train", "test"), "val", "train"),
        (("train",), "val", "train"),
        (ROLES, "val", None),
        (("test",), "val", None),
    ],
)
def test_empty_roles_get_groups_of_the_donor(declared: tuple[str, ...], donor: str, giver: str | None) -> None:
    frame = rows(120, seed=4)
    before = pd.Series(
        [declared[number % len(declared)] for number in range(120)], index=sorted(set(frame["group_id"]))
    )
    after = borrow_roles(frame, before, donor=donor, shares=SHARES, seed=1).sort_index()
    moved = after != before
    assert set(before[moved]) == ({giver} if giver else set())
    assert set(after) == (set(ROLES) if giver else set(declared))
    if giver is not None:
        missing = set(ROLES) - set(declared)
        assert set(after[moved]) == missing
        assert (after == giver).any()
        parts = after[before == giver].value_counts(normalize=True)
        total = sum(SHARES[role] for role in (giver, *missing))
        for role in missing:
            assert parts[role] == pytest.approx(SHARES[role] / total, abs=0.08)
