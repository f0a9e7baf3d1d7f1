"""build_meta: the five folds joined, checked and aligned; X_meta.

    python -m assay.stages.build_meta

Output: data/meta (X_meta.npy, y_meta.npy, sample_ids.parquet, feature_names.json, alignment.safetensors), and the same
columns of the calib role, whose images are the anchors: X_calib.npy [folds + 1, n, f] (every fold's networks, then the
refit's) and calib_ids.parquet.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from assay.core.io import write_json, write_npy, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.images.stacking import EXPERTS
from assay.images.stacking.alignment import Alignment, identity
from assay.images.stacking.folds import apply_alignments, calib_views, fit_alignments, read_folds, refit_anchors
from assay.images.stacking.out_of_fold import feature_matrix, feature_names
from assay.images.stacking.saved import save_alignments
from assay.params.stacking import Stacking

OUTPUT = Path("data/meta")


def main() -> None:
    params = load(Stacking)
    set_up_torch(threads=params.runtime.threads)
    with timed("build_meta"):
        rows, anchors = read_folds(params)
        target = refit_anchors(anchors[0], device=params.runtime.device)
        maps: Mapping[tuple[str, int], Alignment] = fit_alignments(anchors, target)
        if params.build_meta.alignment == "none":
            maps = {key: identity(len(item.rotation)) for key, item in maps.items()}
        features = feature_matrix(apply_alignments(rows, maps), rows.logits)
        save_alignments(OUTPUT / "alignment.safetensors", maps)
        write_npy(OUTPUT / "X_meta.npy", features)
        write_npy(OUTPUT / "y_meta.npy", rows.keys["label"].to_numpy(dtype=np.int64))
        write_parquet(OUTPUT / "sample_ids.parquet", rows.keys)
        write_npy(OUTPUT / "X_calib.npy", calib_views(anchors, target, maps))
        write_parquet(OUTPUT / "calib_ids.parquet", target.keys)
        write_json(OUTPUT / "feature_names.json", feature_names(EXPERTS, params.expert(EXPERTS[0]).embedding_dim))
    print(f"X_meta {features.shape}, alignment {params.build_meta.alignment}")


if __name__ == "__main__":
    run(main)
