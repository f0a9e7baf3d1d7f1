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


def check_group_count(frame: pd.DataFrame, *, folds: int) -> None:
    """Check that data (columns ``group_id`` and ``label``) can fill every role and every fold with both labels.

    Raises:
        ValueError: a label is missing, or has fewer than ``folds + 4`` groups.
    """
    needed = folds + len(ROLES) - 1
    groups = frame.groupby("label")["group_id"].nunique()
    for label, name in enumerate(CLASSES):
        if label not in groups:
            raise ValueError(
                f"no {name} image (label {label}) is left of {len(frame)}: a classifier needs both classes"
            )
        if groups[label] < needed:
            rows = int((frame["label"] == label).sum())
            raise ValueError(
                f"{groups[label]} group(s) hold {name} images ({rows} of {len(frame)} images are {name}), but five "
                f"roles with {folds} folds in train need at least {needed} groups: add {name} images from other "
                "sources, or set prepare.folds lower"
            )


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


def assign_roles(frame: pd.DataFrame, *, shares: Mapping[str, float], seed: int) -> pd.Series:
    """Give every group one role, so that each role gets its share of every (dataset, label) stratum.

    Iterative stratification (Sechidis et al. 2011) of groups: in a random order, the largest first, each goes to the
    role that lacks most, relative to its share, of what the group holds. Roles that have no group of some label yet
    come first, so that small data still fill every role.

    Args:
        frame: columns ``group_id``, ``dataset``, ``label``; one row per image.
        shares: role -> share, in (0, 1), summing to 1.
        seed: seeds the order of groups of equal size.

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
    has_label = np.zeros((len(names), len(label_of)), dtype=bool)
    chosen = np.empty(len(counts), dtype=object)
    for row in order:
        group = counts[row]
        held = group > 0
        # How full a role is, as a share of its target, in the strata this group would add to.
        fullness = (filled[:, held] / (weights[:, None] * total[held])).mean(axis=1)
        lacking = ~has_label[:, label_of[held]].all(axis=1)
        pick = int(np.lexsort((-weights, fullness, ~lacking))[0])
        has_label[pick, label_of[held]] = True
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
            f"label {held.idxmin()} has {held.min()} group(s) here, but {folds} folds need at least {folds}: add "
            "images from other sources, raise roles.train, or set prepare.folds lower"
        )
    fold = np.full(len(labels), -1, dtype=np.int64)
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
        fold[held_out] = number
        if len(np.unique(labels[held_out])) < 2:
            raise ValueError(
                f"fold {number} of {folds} holds one label only: {len(set(groups))} groups are too few or too uneven; "
                "set prepare.folds lower"
            )
    return fold


def check_disjoint(roles: pd.Series, groups: pd.Series) -> None:
    """Raise a ValueError that names the groups standing in two roles."""
    spread = roles.groupby(groups.to_numpy()).nunique()
    shared = list(spread.index[spread > 1])
    if shared:
        raise ValueError(f"{len(shared)} group(s) stand in more than one role: {shared[:5]}")
