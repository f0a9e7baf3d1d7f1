"""From decoded images to manifests: groups, roles, folds, and the checks between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from assay.data.groups import join_groups
from assay.data.roles import CLASSES, assign_folds, check_disjoint, check_folds, complete_roles, deal_folds
from assay.images.duplicates import Fingerprint, near_duplicate_clusters
from assay.params.images import Prepare
from assay.params.shared import Roles

MANIFEST = ["image_path", "label", "dataset", "split", "sample_id", "group_id", "generator"]
MANIFEST += ["width", "height", "format", "file_bytes", "jpeg_quality"]
DRAWN = "set roles: drawn for the source"


def group_and_split(
    rows: pd.DataFrame, prints: Sequence[Fingerprint | None], *, settings: Prepare, roles: Roles, seed: int
) -> pd.DataFrame:
    """Add ``cluster`` (of near-duplicates), ``group_id`` (these joined) and ``split`` (a role) to the rows of images.

    A role that a source declares stays, and holds for all rows of its group; the others follow `complete_roles`.

    Args:
        rows: columns label, dataset, group, role, image_path; one row per image.
        prints: fingerprint of each row, or None.

    Raises:
        ValueError: near-duplicates or a group in two declared roles.
    """
    limits = settings.near_duplicates
    clusters = near_duplicate_clusters(prints, max_distance=limits.max_distance, max_difference=limits.max_difference)
    declared = rows["role"].notna()
    _check_collisions(rows[declared], clusters[declared.to_numpy()], name="near-duplicate images")
    joined = np.asarray(join_groups(list(rows["group"]), clusters), dtype=object)
    frame = rows.assign(cluster=clusters, group_id=joined)
    _check_collisions(frame[declared], frame.loc[declared, "group_id"].to_numpy(), name="images of one group")
    filled = complete_roles(
        frame, shares=roles.model_dump(), donor=settings.borrow_from, seed=seed, folds=settings.folds
    )
    frame = frame.assign(split=frame["group_id"].map(filled))
    check_disjoint(frame["split"], frame["group_id"])
    return frame


def near_duplicates(frame: pd.DataFrame) -> str:
    """Which declared groups `group_and_split` joined, in words with a pair of images; empty if none."""
    alike = frame[frame.groupby("cluster")["group"].transform("nunique") > 1]
    if alike.empty:
        return ""
    pair = alike[alike["cluster"] == alike["cluster"].iloc[0]].drop_duplicates("group")["image_path"]
    return (
        f"{len(alike)} near-duplicates, e.g. {pair.iloc[0]} and {pair.iloc[1]}, join {alike['group'].nunique()} groups into "
        f"{alike['group_id'].nunique()} (prepare.near_duplicates: what counts as one)"
    )


def _check_collisions(rows: pd.DataFrame, clusters: np.ndarray, *, name: str) -> None:
    spread = rows.groupby(clusters)["role"].transform("nunique") > 1
    if spread.any():
        spread_rows = rows[spread].assign(cluster=clusters[spread.to_numpy()])
        # One image per cluster and role: a long cluster must not hide what it collides with.
        worst = spread_rows.sort_values("cluster", kind="stable").drop_duplicates(["cluster", "role"]).head(4)
        raise ValueError(
            f"{int(spread.sum())} {name} stand in more than one role, so a metric would rest on seen images: "
            f"{list(zip(worst['image_path'], worst['role'], strict=True))}. Give them one role, or leave the role out "
            "(roles: drawn for the source)"
        )


def role_advice(frame: pd.DataFrame, role: str, label: int, *, donor: str) -> str:
    """What gives a role images of a class that it lacks."""
    name = CLASSES[label]
    groups = frame[frame["label"] == label].groupby("role")["group_id"].nunique()
    declared = set(frame["role"].dropna())
    # What gives in earnest; and whatever was declared, not to look at it helps.
    donor = donor if donor in declared - {role} else "train"
    moved = frame[frame["role"].notna() & (frame["role"] != frame["split"])]
    lenders = moved.loc[(moved["role"] == role) | (moved["split"] == role), "role"]
    if len(lenders):
        lender = lenders.iloc[0]
        other = "train" if lender == "val" else "val"
        # Another lender helps only where this one keeps what it has, and that one has some.
        borrow = f"set prepare.borrow_from to {other}" if min(groups.get(lender, 0), groups.get(other, 0)) else DRAWN
        return (
            f"which shares the declared {lender} with {', '.join(sorted({lender, *moved['split']} - {role}))}: "
            f"{groups.get(lender, 0)} {name} group(s) are too few for that; declare more of them, or {borrow}"
        )
    if role in declared:
        part = f"for none at all, so that it gets a part of {donor} (prepare.borrow_from)"
        lends = role not in (donor, "train") and groups.get(donor, 0) > 1
        return f"declare it for some of the {name} images, or {part if lends else DRAWN}"
    if frame["role"].notna().all():
        return f"declare some {name} images as {' or '.join(dict.fromkeys((role, 'train')))}, or {DRAWN}"
    return f"add {name} images of other groups, or raise roles.{role}"


def fold_table(train: pd.DataFrame, *, declared: Mapping[str, int], folds: int, seed: int) -> pd.DataFrame:
    """The one fold table for every expert and level: sample_id, group_id, label, fold of the train role.

    Args:
        train: columns sample_id, label, group (as its source says) and group_id (near-duplicates joined).
        declared: group -> fold, given before anything was forged; of joined groups with several, the lowest holds.
        folds: how many there are.
        seed: seeds the draw of the others.

    Raises:
        ValueError: too few groups, or a fold with one label only.
    """
    given = train["group"].map(declared).groupby(train["group_id"]).transform("min")
    free = train[given.isna()]
    groups = free.groupby("label")["group_id"].nunique().reindex(range(len(CLASSES)), fill_value=0)
    if len(free) == len(train) or groups.min() >= folds:
        drawn = assign_folds(free["label"].to_numpy(), list(free["group_id"]), folds=folds, seed=seed)
    else:
        dealt = deal_folds(list(free["group_id"]), folds=folds, seed=seed)
        drawn = free["group_id"].map(dealt).to_numpy(dtype=np.int64)
    table = train[["sample_id", "group_id", "label"]].assign(fold=given)
    table.loc[free.index, "fold"] = drawn
    check_folds(table["fold"], table["label"], folds=folds)
    return table.astype({"fold": np.int64})
