"""Five roles and the folds, disjoint by group.

A group is whatever must not be split: a source photograph, a video, an identity, a cluster of near-duplicates. Every
role has one purpose: train, val (early stopping), calib (temperature), tune (thresholds), test (read once).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

ROLES = ("train", "val", "calib", "tune", "test")
CLASSES = ("real", "forged")
# What splits are called elsewhere. "eval" is not among them: some mean val by it, some test.
ALIASES = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}


def role_named(name: object) -> str | None:
    """The role that a name means, without case and surrounding spaces, or None."""
    word = str(name).strip().casefold()
    role = ALIASES.get(word, word)
    return role if role in ROLES else None


def borrow_roles(
    frame: pd.DataFrame, roles: pd.Series, *, donor: str, shares: Mapping[str, float], seed: int
) -> pd.Series:
    """Give every role that has no group some of the donor's, each its share of what they divide.

    Splits made elsewhere know train, val and test; calibration and thresholds need rows of their own. Where the donor
    itself is missing, train gives. The test role never gives any.

    Args:
        frame: columns ``group_id``, ``dataset``, ``label``; one row per image.
        roles: group_id -> role.
        donor: val or train.
        shares: role -> share of all groups.
        seed: seeds the draw.
    """
    present = set(roles)
    missing = [role for role in ROLES if role not in present]
    donor = donor if donor in present else "train"
    if not missing or donor not in present:
        return roles
    given = frame[frame["group_id"].map(roles) == donor]
    parts = {role: shares[role] for role in ROLES if role in (donor, *missing)}
    total = sum(parts.values())
    drawn = assign_roles(given, shares={role: share / total for role, share in parts.items()}, seed=seed)
    return pd.concat([roles.drop(drawn.index), drawn])


def complete_roles(
    frame: pd.DataFrame, *, shares: Mapping[str, float], donor: str, seed: int, folds: int = 1
) -> pd.Series:
    """The role of every group: as declared, which holds for all its rows, and drawn for the others.

    Roles that are then empty get groups of the donor (`borrow_roles`). Where all are drawn, and a few large groups fill
    train, so that its folds lack groups, it is drawn again with enough of them.

    Args:
        frame: columns ``group_id``, ``dataset``, ``label`` and ``role`` (missing where none is declared); one row per
            image. A group has one declared role at most.
        shares: role -> share of the groups.
        donor: val or train.
        seed: seeds the draw.
        folds: into which train is to be parted.

    Returns:
        Series of role names, indexed by group_id.
    """
    given = frame.dropna(subset="role").groupby("group_id")["role"].first()
    free = frame[~frame["group_id"].isin(given.index)]
    chosen = [given]
    if len(free):
        drawn = assign_roles(free, shares=shares, seed=seed)
        train = free[free["group_id"].map(drawn) == "train"]
        groups = train.groupby("label")["group_id"].nunique().reindex(free["label"].unique(), fill_value=0)
        if given.empty and groups.min() < folds:
            drawn = assign_roles(free, shares=shares, seed=seed, least=folds)
        chosen.append(drawn)
    return borrow_roles(frame, pd.concat(chosen), donor=donor, shares=shares, seed=seed)


def borrowed(frame: pd.DataFrame) -> str:
    """What `complete_roles` took from declared roles for those that had no rows, in words; empty if nothing.

    ``frame``: columns ``role`` (as declared, or missing), ``split`` (the role it has) and ``group_id``.
    """
    moved = frame[frame["role"].notna() & (frame["role"] != frame["split"])]
    parts = []
    for (source, role), part in moved.groupby(["role", "split"], sort=False):
        left = int((frame["split"] == source).sum())
        parts.append(
            f"role {role} had no rows and takes {len(part)} images ({part['group_id'].nunique()} groups) from "
            f"{source}, which keeps {left}"
        )
    return "\n".join(parts)


def assign_roles(frame: pd.DataFrame, *, shares: Mapping[str, float], seed: int, least: int = 1) -> pd.Series:
    """Give every group one role, so that each role gets its share of every (dataset, label) stratum.

    Iterative stratification (Sechidis et al. 2011) of groups: in a random order, the largest first, each goes to the
    role that lacks most, relative to its share, of what the group holds. Roles that have too few groups of some label
    come first (one is enough, but in train), so that small data still fill every role.

    Args:
        frame: columns ``group_id``, ``dataset``, ``label``; one row per image.
        shares: role -> share, in (0, 1), summing to 1.
        seed: seeds the order of groups of equal size.
        least: groups of each label that train must get, one per fold.

    Returns:
        Series of role names, indexed by group_id.
    """
    strata = frame["dataset"].astype(str) + "|" + frame["label"].astype(str)
    table = pd.crosstab(frame["group_id"], strata).sort_index()
    counts = table.to_numpy()
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-counts.sum(axis=1)[order], kind="stable")]
    names = [role for role in ROLES if shares.get(role, 0) > 0]
    weights = np.array([shares[role] for role in names])
    total = counts.sum(axis=0)
    filled = np.zeros((len(names), counts.shape[1]))
    label_of = np.unique([name.rsplit("|", 1)[1] for name in table.columns], return_inverse=True)[1]
    groups_held = np.zeros((len(names), label_of.max(initial=0) + 1), dtype=np.int64)
    needed = np.array([[least if role == "train" else 1] for role in names])
    chosen = np.empty(len(counts), dtype=object)
    for row in order:
        group = counts[row]
        held = group > 0
        # How full a role is, as a share of its target, in the strata this group would add to.
        fullness = (filled[:, held] / (weights[:, None] * total[held])).mean(axis=1)
        labels = np.unique(label_of[held])
        lacking = (groups_held[:, labels] < needed).any(axis=1)
        pick = int(np.lexsort((-weights, fullness, ~lacking))[0])
        groups_held[pick, labels] += 1
        filled[pick] += group
        chosen[row] = names[pick]
    return pd.Series(chosen, index=table.index, name="role")


def assign_folds(labels: np.ndarray, groups: Sequence[object], *, folds: int, seed: int) -> np.ndarray:
    """Fold number of each row (int64 [n], 0 .. folds-1) by scikit-learn's StratifiedGroupKFold.

    Raises:
        ValueError: a label has fewer groups than there are folds, or a fold would hold one label only.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labels = np.asarray(labels)
    held = pd.Series(np.asarray(groups, dtype=object)).groupby(labels).nunique()
    if held.min() < folds:
        raise ValueError(
            f"label {held.idxmin()} has {held.min()} group(s) in train, but {folds} folds need at least {folds}: add "
            "images of other groups to train (by a larger roles.train, or declared), or set prepare.folds lower"
        )
    fold = np.full(len(labels), -1, dtype=np.int64)
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
        fold[held_out] = number
    check_folds(fold, labels, folds=folds)
    return fold


def check_folds(fold: Sequence[int] | np.ndarray | pd.Series, labels: np.ndarray | pd.Series, *, folds: int) -> None:
    """Raise a ValueError where one of the ``folds`` does not hold both labels."""
    held = pd.Series(np.asarray(labels)).groupby(np.asarray(fold)).nunique().reindex(range(folds), fill_value=0)
    if held.min() < 2:
        raise ValueError(
            f"fold {held.idxmin()} of {folds} holds {held.min()} of two labels: the groups of train are too few or too "
            "uneven; add groups, or set prepare.folds lower"
        )


def deal_folds(groups: Sequence[str], *, folds: int, seed: int) -> dict[str, int]:
    """Fold of each group, 0 .. folds-1: the groups are shuffled and dealt out in turn.

    For groups that are alike in size and labels, where stratifying has nothing to do.
    """
    names = np.array(sorted(set(groups)), dtype=object)
    order = np.random.default_rng([seed, len(names)]).permutation(names)
    return {str(name): number % folds for number, name in enumerate(order)}


def check_disjoint(roles: pd.Series, groups: pd.Series) -> None:
    """Raise a ValueError that names the groups standing in two roles."""
    spread = roles.groupby(groups.to_numpy()).nunique()
    shared = list(spread.index[spread > 1])
    if shared:
        raise ValueError(f"{len(shared)} group(s) stand in more than one role: {shared[:5]}")
