"""From decoded images to manifests: groups, roles, folds, and the checks between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from assay.data.groups import join_groups
from assay.data.roles import (
    CLASSES,
    assign_folds,
    assign_roles,
    borrow_roles,
    check_disjoint,
)
from assay.images.duplicates import Fingerprint, near_duplicate_clusters
from assay.params.images import Prepare
from assay.params.shared import Roles

MANIFEST = ["image_path", "label", "dataset", "split", "sample_id", "group_id", "generator"]
MANIFEST += ["width", "height", "format", "file_bytes", "jpeg_quality"]


def group_and_split(
    rows: pd.DataFrame, prints: Sequence[Fingerprint | None], *, settings: Prepare, roles: Roles, seed: int
) -> pd.DataFrame:
    """Add ``group_id`` (near-duplicates joined) and ``split`` (a role) to the rows of decoded images.

    A role that a source declares stays, and holds for all rows of its group; other groups get one by ``assign_roles``.
    Roles that are empty then get groups of ``settings.borrow_from``.

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
    frame = rows.assign(group_id=np.asarray(join_groups(list(rows["group"]), clusters), dtype=object))
    _check_collisions(frame[declared], frame.loc[declared, "group_id"].to_numpy(), name="images of one group")
    given = frame[declared].groupby("group_id")["role"].first()
    free = frame[~frame["group_id"].isin(given.index)]
    chosen = [given]
    if len(free):
        chosen.append(_draw(free, shares=roles.model_dump(), seed=seed, folds=settings.folds if given.empty else 1))
    shares, donor = roles.model_dump(), settings.borrow_from
    filled = borrow_roles(frame, pd.concat(chosen), donor=donor, shares=shares, seed=seed)
    frame = frame.assign(split=frame["group_id"].map(filled))
    check_disjoint(frame["split"], frame["group_id"])
    return frame


def _draw(free: pd.DataFrame, *, shares: Mapping[str, float], seed: int, folds: int) -> pd.Series:
    """Roles by ``assign_roles``; where a few large groups fill train, so that its folds lack groups, with enough of them."""
    drawn = assign_roles(free, shares=shares, seed=seed)
    train = free[free["group_id"].map(drawn) == "train"]
    if train.groupby("label")["group_id"].nunique().reindex([0, 1], fill_value=0).min() >= folds:
        return drawn
    return assign_roles(free, shares=shares, seed=seed, least=folds)


def borrowed(frame: pd.DataFrame) -> str:
    """What `group_and_split` took from declared roles for those that had no rows, in words; empty if nothing."""
    moved = frame[frame["role"].notna() & (frame["role"] != frame["split"])]
    parts = []
    for (source, role), part in moved.groupby(["role", "split"], sort=False):
        left = int((frame["split"] == source).sum())
        parts.append(
            f"role {role} had no rows and takes {len(part)} images ({part['group_id'].nunique()} groups) from "
            f"{source}, which keeps {left}"
        )
    return "\n".join(parts)


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
    moved = frame[frame["role"].notna() & (frame["role"] != frame["split"])]
    lenders = moved.loc[(moved["role"] == role) | (moved["split"] == role), "role"]
    if len(lenders):
        lender = lenders.iloc[0]
        groups = frame.loc[(frame["role"] == lender) & (frame["label"] == label), "group_id"].nunique()
        return (
            f"which shares the declared {lender} with {', '.join(sorted({lender, *moved['split']} - {role}))}: "
            f"{groups} {name} group(s) are too few for that; declare more of them, or set prepare.borrow_from to "
            f"{'train' if lender == 'val' else 'val, and declare some val'}"
        )
    if (frame["role"] == role).any():
        return (
            f"declare it for some of the {name} images, or for none at all, so that it gets a part of "
            f"{donor if donor != role else 'train'} (prepare.borrow_from)"
        )
    return f"add {name} images of other groups, or raise roles.{role}"


def fold_table(train: pd.DataFrame, *, folds: int, seed: int) -> pd.DataFrame:
    """The one fold table for every expert and level: sample_id, group_id, label, fold of the train role."""
    fold = assign_folds(train["label"].to_numpy(), list(train["group_id"]), folds=folds, seed=seed)
    return train[["sample_id", "group_id", "label"]].assign(fold=fold)
