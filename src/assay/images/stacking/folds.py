"""The folds' embeddings and their common anchors as files, and each fold's map onto the refit's space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from assay.images.manifest import read_manifest
from assay.images.model.dataset import PictureSet
from assay.images.model.experts import load_extractor
from assay.images.model.store import open_store
from assay.images.stacking import EXPERTS
from assay.images.stacking.alignment import Alignment, Procrustes, fit_procrustes
from assay.images.stacking.out_of_fold import Stacked, feature_matrix, join_anchors, join_folds
from assay.params.stacking import Stacking

DATA = Path("data/processed")
KFOLD = Path("data/kfold")
MODELS = Path("models/experts")


def read_folds(params: Stacking) -> tuple[Stacked, list[Stacked]]:
    """The out-of-fold rows of all folds, and what each fold's networks say of the anchors."""
    dim = params.expert(EXPERTS[0]).embedding_dim
    tables = [pd.read_parquet(KFOLD / f"fold_{number}.parquet") for number in range(params.prepare.folds)]
    folds = pd.read_csv(DATA / "folds.csv", dtype={"sample_id": str})
    rows = join_folds(tables, folds, experts=EXPERTS, dim=dim)
    return rows, join_anchors(tables, experts=EXPERTS, dim=dim)


def refit_anchors(anchors: Stacked, *, device: str) -> Stacked:
    """What the refit networks say of the anchors, in the anchors' order."""
    manifest = read_manifest(DATA, "calib").set_index("sample_id").loc[anchors.keys["sample_id"]].reset_index()
    store = open_store(DATA)
    embeddings, logits = {}, {}
    for expert in EXPERTS:
        extractor = load_extractor(MODELS / expert / "full", device=device)
        data = PictureSet(store, manifest, image_size=extractor.image_size)
        embeddings[expert], logits[expert] = extractor.extract(data, name=f"{expert} full")
    return Stacked(anchors.keys.drop(columns="base_fold"), embeddings, logits)


def fit_alignments(anchors: list[Stacked], target: Stacked) -> dict[tuple[str, int], Procrustes]:
    """(expert, fold) -> map onto the refit's space."""
    return {
        (expert, fold): fit_procrustes(source, target.embeddings[expert], stack.keys["group_id"].to_numpy())
        for fold, stack in enumerate(anchors)
        for expert, source in stack.embeddings.items()
    }


def apply_alignments(stack: Stacked, maps: Mapping[tuple[str, int], Alignment]) -> dict[str, np.ndarray]:
    """Every row mapped by its own fold's map: expert -> float32 [n, d]."""
    fold = stack.keys["base_fold"].to_numpy()
    aligned = {}
    for expert, values in stack.embeddings.items():
        result = np.empty_like(values)
        for number in np.unique(fold):
            mask = fold == number
            result[mask] = maps[expert, int(number)].apply(values[mask])
        aligned[expert] = result
    return aligned


def calib_views(anchors: list[Stacked], target: Stacked, maps: Mapping[tuple[str, int], Alignment]) -> np.ndarray:
    """The anchors' rows of X_meta as every set of networks sees them, float32 [number of folds + 1, n, f].

    First the folds' networks, each through its own map, then the refit's: what an ensemble in either test-time mode reads.
    """
    views = [feature_matrix(apply_alignments(stack, maps), stack.logits) for stack in anchors]
    return np.stack([*views, feature_matrix(target.embeddings, target.logits)])
