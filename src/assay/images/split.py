"""From decoded images to manifests: groups, roles, folds, and the checks between them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from assay.data.roles import (
    CLASSES,
    ROLES,
    assign_folds,
    assign_roles,
    borrow_roles,
    check_disjoint,
    check_group_count,
)
from assay.images.duplicates import Fingerprint, join_groups, near_duplicate_clusters
from assay.params.images import Prepare
from assay.params.shared import Roles

MANIFEST = ["image_path", "label", "dataset", "split", "sample_id", "group_id", "generator"]
MANIFEST += ["width", "height", "format", "file_bytes", "jpeg_quality"]


def group_and_split(
    rows: pd.DataFrame, prints: list[Fingerprint | None], *, settings: Prepare, roles: Roles, seed: int
) -> pd.DataFrame:
    """Add ``group_id`` (near-duplicates joined) and ``split`` (a role) to the rows of decoded images.

    A role that a source declares stays, and holds for all rows of its group; other groups get one by ``assign_roles``.
    Roles that are empty then get groups of ``settings.borrow_from``.

    Args:
        rows: columns label, dataset, group, role, image_path; one row per image.
        prints: fingerprint of each row, or None.

    Raises:
        ValueError: near-duplicates or a group in two declared roles; too few groups.
    """
    limits = settings.near_duplicates
    clusters = near_duplicate_clusters(prints, max_distance=limits.max_distance, max_difference=limits.max_difference)
    declared = rows["role"].notna()
    _check_collisions(rows[declared], clusters[declared.to_numpy()], name="near-duplicate images")
    # Also where every role is declared: folds and intervals rest on groups within a role.
    frame = rows.assign(group_id=np.asarray(join_groups(list(rows["group"]), clusters), dtype=object))
    check_group_count(frame, folds=settings.folds)
    _check_collisions(frame[declared], frame.loc[declared, "group_id"].to_numpy(), name="images of one group")
    given = frame[declared].groupby("group_id")["role"].first()
    free = frame[~frame["group_id"].isin(given.index)]
    chosen = [given]
    if len(free):
        chosen.append(assign_roles(free, shares=roles.model_dump(), seed=seed))
    shares, donor = roles.model_dump(), settings.borrow_from
    filled = borrow_roles(frame, pd.concat(chosen), donor=donor, shares=shares, seed=seed)
    frame = frame.assign(split=frame["group_id"].map(filled))
    check_disjoint(frame["split"], frame["group_id"])
    _check_roles_filled(frame, donor=donor)
    return frame


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


def _check_roles_filled(frame: pd.DataFrame, *, donor: str) -> None:
    for role in ROLES:
        part = frame[frame["split"] == role]
        for label, name in enumerate(CLASSES):
            if (part["label"] == label).any():
                continue
            everywhere = frame.loc[frame["label"] == label, "group_id"].nunique()
            if (part["role"] == role).any():
                advice = (
                    f"declare it for some of the {name} images, or declare {role} for none, so that it gets a part of "
                    f"{donor} (prepare.borrow_from)"
                )
            elif (frame["role"] == donor).any():
                advice = (
                    f"its rows come from {donor}, which holds too few {name} groups to share: give {donor} more, or "
                    f"set prepare.borrow_from to {'train' if donor == 'val' else 'val'}"
                )
            else:
                advice = f"add {name} images of other groups, or raise roles.{role}"
            raise ValueError(
                f"role {role} does not hold both labels: no {name} image, {len(part)} image(s) in "
                f"{part['group_id'].nunique()} group(s); {everywhere} group(s) hold {name} images in all. For role "
                f"{role}, {advice}"
            )


def fold_table(train: pd.DataFrame, *, folds: int, seed: int) -> pd.DataFrame:
    """The one fold table for every expert and level: sample_id, group_id, label, fold of the train role."""
    fold = assign_folds(train["label"].to_numpy(), list(train["group_id"]), folds=folds, seed=seed)
    return train[["sample_id", "group_id", "label"]].assign(fold=fold)
