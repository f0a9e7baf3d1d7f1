"""Roles of the images, by scene: as declared, and drawn for the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pandas as pd

from assay.data.roles import ROLES, assign_roles, borrow_roles, check_disjoint


def split(table: pd.DataFrame, *, shares: Mapping[str, float], donor: str, seed: int) -> pd.Series:
    """The role of each row; all rows of a group have one.

    A declared role holds for all rows of its group; other groups get one by ``assign_roles``, and then roles that are
    empty get groups of the donor (``borrow_roles``).

    Args:
        table: columns label, group, and perhaps role, as it was declared (or None); one row per image.
        shares: role -> share of the groups.
        donor: val or train.

    Raises:
        ValueError: a group has two declared roles.
    """
    frame = pd.DataFrame({"group_id": table["group"], "label": table["label"], "dataset": "vlm"})
    declared = table["role"] if "role" in table else pd.Series(None, index=table.index, dtype=object)
    pairs = pd.DataFrame({"group": table["group"], "role": declared}).dropna().drop_duplicates()
    twice = pairs.groupby("group").size() > 1
    if twice.any():
        group = twice.index[twice][0]
        names = list(zip(table["name"], declared, strict=True))
        shown = [pair for pair, other in zip(names, table["group"], strict=True) if other == group][:4]
        raise ValueError(
            f"{int(twice.sum())} group(s) stand in more than one role, so a metric would rest on seen images: {group!r} "
            f"{shown}. Give the group one role, or leave the column role out"
        )
    given = declared.groupby(table["group"]).first().dropna()
    free = frame[~frame["group_id"].isin(given.index)]
    drawn = [assign_roles(free, shares=shares, seed=seed)] if len(free) else []
    roles = borrow_roles(frame, pd.concat([given, *drawn]), donor=donor, shares=shares, seed=seed)
    found = table["group"].map(roles)
    check_disjoint(found, table["group"])
    return found


def borrowed(table: pd.DataFrame, roles: pd.Series) -> list[str]:
    """What `split` took from declared roles for those that had no rows, a line for each."""
    if "role" not in table:
        return []
    moved = Counter(zip(table["role"].dropna(), roles[table["role"].notna()], strict=True))
    return [
        f"role {role} had no rows and takes {count} image(s) from {declared}, which keeps {int((roles == declared).sum())}"
        for (declared, role), count in moved.items()
        if role != declared
    ]


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
