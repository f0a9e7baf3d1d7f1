"""From decoded images to manifests: groups, roles, folds, and the checks between them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from assay.data.roles import assign_folds, assign_roles, check_disjoint
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
        chosen.append(assign_roles(free, shares=roles.model_dump(), seed=seed))
    frame = frame.assign(split=frame["group_id"].map(pd.concat(chosen)))
    check_disjoint(frame["split"], frame["group_id"])
    return frame


def _check_collisions(rows: pd.DataFrame, clusters: np.ndarray, *, name: str) -> None:
    spread = rows.groupby(clusters)["role"].transform("nunique") > 1
    if spread.any():
        spread_rows = rows[spread].assign(cluster=clusters[spread.to_numpy()])
        # One image per cluster and role: a long cluster must not hide what it collides with.
        worst = spread_rows.sort_values("cluster", kind="stable").drop_duplicates(["cluster", "role"]).head(4)
        raise ValueError(
            f"{int(spread.sum())} {name} stand in more than one role, so a metric would rest on seen images: "
            f"{list(zip(worst['image_path'], worst['role'], strict=True))}. Give them one role, or leave the role out"
        )


def fold_table(train: pd.DataFrame, *, folds: int, seed: int) -> pd.DataFrame:
    """The one fold table for every expert and level: sample_id, group_id, label, fold of the train role."""
    fold = assign_folds(train["label"].to_numpy(), list(train["group_id"]), folds=folds, seed=seed)
    return train[["sample_id", "group_id", "label"]].assign(fold=fold)
