"""Roles of the images, by scene: as declared, and drawn for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from assay.data.roles import ROLES, check_disjoint, complete_roles


def split(table: pd.DataFrame, *, shares: Mapping[str, float], donor: str, seed: int) -> pd.Series:
    """The role of each row; all rows of a group have one.

    A declared role holds for all rows of its group; the others follow ``complete_roles``.

    Args:
        table: columns label, group, and perhaps role, as it was declared (or None); one row per image.
        shares: role -> share of the groups.
        donor: val or train.

    Raises:
        ValueError: a group has two declared roles.
    """
    frame = with_roles(table).assign(dataset="vlm")
    pairs = frame[["group_id", "role"]].dropna().drop_duplicates()
    twice = pairs.groupby("group_id").size() > 1
    if twice.any():
        group = twice.index[twice][0]
        names = list(zip(table["name"], frame["role"], strict=True))
        shown = [pair for pair, other in zip(names, table["group"], strict=True) if other == group][:4]
        raise ValueError(
            f"{int(twice.sum())} group(s) stand in more than one role, so a metric would rest on seen images: {group!r} "
            f"{shown}. Give the group one role, or leave the column role out"
        )
    found = table["group"].map(complete_roles(frame, shares=shares, donor=donor, seed=seed))
    check_disjoint(found, table["group"])
    return found


def fold_numbers(records: Sequence[Mapping[str, Any]], *, count: int, seed: int) -> np.ndarray:
    """The fold int64 [n] of each conversation, 0 to ``count`` - 1: groups are whole, labels in equal parts.

    Raises:
        ValueError: fewer groups than folds.
    """
    labels, groups = ([record[key] for record in records] for key in ("label", "group"))
    if len(set(groups)) < count:
        raise ValueError(f"vlm_networks: {count} folds of {len(set(groups))} training group(s); take fewer folds")
    folds = np.full(len(records), -1, dtype=np.int64)
    splitter = StratifiedGroupKFold(n_splits=count, shuffle=True, random_state=seed)
    for number, (_, held) in enumerate(splitter.split(np.zeros(len(records)), labels, groups)):
        folds[held] = number
    return folds


def with_roles(table: pd.DataFrame) -> pd.DataFrame:
    """Columns group_id, label and role (as declared, or None) of a table with group, label and perhaps role."""
    declared = table["role"] if "role" in table else pd.Series(None, index=table.index, dtype=object)
    return pd.DataFrame({"group_id": table["group"], "label": table["label"], "role": declared})


def check_classes(
    table: pd.DataFrame, roles: pd.Series, names: Mapping[str, str], *, donor: str, rejected: str
) -> None:
    """Check that each class has images in each role.

    Args:
        table: columns label and group.
        roles: of the rows.
        names: label -> name of the class.
        donor: of the roles that no row declares.
        rejected: rows that can't be used, in words.

    Raises:
        ValueError: a class is lacking in a role; all sizes are told, and what can be done.
    """
    problems = []
    for label, name in names.items():
        rows = table["label"] == label
        lacking = [role for role in ROLES if not (roles[rows] == role).any()]
        if lacking:
            groups = table.loc[rows, "group"].nunique()
            problems.append(
                f"{name} ({label}): {int(rows.sum())} image(s) in {groups} group(s), none for {', '.join(lacking)}"
            )
    if problems:
        sizes = {name: int((table["label"] == label).sum()) for label, name in names.items()}
        if "role" in table and table["role"].notna().any():
            advice = (
                f"Declare these roles for some of its groups, or let {donor} (prepare_vlm.borrow_from) hold more of it"
            )
        else:
            advice = f"Each class needs a group for each of the {len(ROLES)} roles: add images"
        raise ValueError(
            f"prepare_vlm.classes: too few images: {'; '.join(problems)}. Images by class: {sizes}. {advice}, "
            f"or leave the class out of prepare_vlm.classes. Rejected: {rejected}"
        )
