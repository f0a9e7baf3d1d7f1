"""build_meta: the five folds joined, checked, aligned; X_meta and the report on how well alignment went.

    python -m assay.stages.build_meta

Output: data/meta (X_meta.npy, y_meta.npy, sample_ids.parquet, feature_names.json, alignment.safetensors),
metrics/alignment.json and a plot.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from assay.core.io import write_json, write_npy, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.images.manifest import read_manifest
from assay.images.model.dataset import PictureSet
from assay.images.model.experts import load_extractor
from assay.images.model.store import open_store
from assay.images.stacking import EXPERTS
from assay.images.stacking.alignment import Alignment, fit_procrustes, identity
from assay.images.stacking.alignment_report import alignment_report, save_alignment_data
from assay.images.stacking.out_of_fold import Stacked, feature_matrix, feature_names, join_anchors, join_folds
from assay.images.stacking.saved import save_alignments
from assay.params.stacking import Stacking

DATA = Path("data/processed")
KFOLD = Path("data/kfold")
MODELS = Path("models/experts")
OUTPUT = Path("data/meta")
METRICS = Path("metrics/alignment.json")
PLOTS = Path("plots/build_meta")


def refit_anchors(anchors: Stacked, *, device: str) -> dict[str, np.ndarray]:
    """The refit networks' embeddings of the anchors, in the anchors' order: expert -> float32 [n, d]."""
    manifest = read_manifest(DATA, "calib").set_index("sample_id").loc[anchors.keys["sample_id"]].reset_index()
    store = open_store(DATA)
    found = {}
    for expert in EXPERTS:
        extractor = load_extractor(MODELS / expert / "full", device=device)
        data = PictureSet(store, manifest, image_size=extractor.image_size)
        found[expert] = extractor.extract(data, what=f"{expert} full")[0]
    return found


def fit_alignments(
    anchors: list[Stacked], target: dict[str, np.ndarray], *, method: str
) -> dict[tuple[str, int], Alignment]:
    """(expert, fold) -> map onto the refit's space."""
    maps = {}
    for fold, stack in enumerate(anchors):
        for expert, source in stack.embeddings.items():
            maps[expert, fold] = (
                fit_procrustes(source, target[expert]) if method == "procrustes" else identity(source.shape[1])
            )
    return maps


def apply_alignments(stack: Stacked, maps: dict[tuple[str, int], Alignment]) -> dict[str, np.ndarray]:
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


def main() -> None:
    params = load(Stacking)
    settings, seed, threads = params.build_meta, params.runtime.seed, params.runtime.threads
    set_up_torch(threads=threads)
    dim = params.expert(EXPERTS[0]).embedding_dim
    with timed("build_meta"):
        tables = [pd.read_parquet(KFOLD / f"fold_{number}.parquet") for number in range(params.prepare.folds)]
        folds = pd.read_csv(DATA / "folds.csv", dtype={"sample_id": str})
        rows = join_folds(tables, folds, experts=EXPERTS, dim=dim)
        anchors = join_anchors(tables, experts=EXPERTS, dim=dim)
        target = refit_anchors(anchors[0], device=params.runtime.device)
        fitted = fit_alignments(anchors, target, method="procrustes")
        report = alignment_report(
            rows, apply_alignments(rows, fitted), anchors, fitted, target, seed=seed, threads=threads
        )
        write_json(METRICS, report)
        save_alignment_data(PLOTS, report)
        maps = fitted if settings.alignment == "procrustes" else fit_alignments(anchors, target, method="none")
        save_alignments(OUTPUT / "alignment.safetensors", maps)
        write_npy(OUTPUT / "X_meta.npy", feature_matrix(apply_alignments(rows, maps), rows.logits))
        write_npy(OUTPUT / "y_meta.npy", rows.keys["label"].to_numpy(dtype=np.int64))
        write_parquet(OUTPUT / "sample_ids.parquet", rows.keys)
        write_json(OUTPUT / "feature_names.json", feature_names(EXPERTS, dim))
    for name in ("correlation", "fold_predictability", "random_cv_auc", "leave_base_fold_out_auc", "gap"):
        print(f"{name:26s} raw {report[f'raw.{name}']:.4f}   aligned {report[f'aligned.{name}']:.4f}")


if __name__ == "__main__":
    run(main)
