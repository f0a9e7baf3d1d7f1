"""kfold_fold_<k>: what both experts of fold k say of the rows they never saw, and of the common anchors.

    python -m assay.stages.kfold_fold --fold 0

Output: data/kfold/fold_<k>.parquet with sample_id, label, group_id, base_fold, part (held_out or anchor) and, per expert,
the embedding and a logit. The anchors are the images of the calib role, the same for every fold; their labels are not
used to align.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd

from assay.core.io import write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.images.manifest import read_manifest
from assay.images.model.dataset import PictureSet
from assay.images.model.experts import load_extractor
from assay.images.model.store import PixelStore, open_store
from assay.images.stacking import EXPERTS
from assay.images.stacking.out_of_fold import ANCHOR, HELD_OUT, expert_frame
from assay.params.stacking import Stacking

DATA = Path("data/processed")
MODELS = Path("models/experts")
OUTPUT = Path("data/kfold")


def rows_to_embed(fold: int) -> pd.DataFrame:
    """Held-out rows of the fold and the anchors: sample_id, label, group_id, base_fold, part."""
    folds = pd.read_csv(DATA / "folds.csv", dtype={"sample_id": str, "group_id": str})
    held_out = folds[folds["fold"] == fold].assign(part=HELD_OUT)
    anchors = read_manifest(DATA, "calib").assign(part=ANCHOR)
    columns = ["sample_id", "label", "group_id", "part"]
    rows = pd.concat([held_out[columns], anchors[columns]], ignore_index=True)
    return rows.assign(base_fold=fold)


def embed(rows: pd.DataFrame, store: PixelStore, *, expert: str, subset: str, device: str) -> pd.DataFrame:
    """Embedding and logit columns of one expert, with a line that says how long it took."""
    began = time.perf_counter()
    extractor = load_extractor(MODELS / expert / subset, device=device)
    data = PictureSet(store, rows, image_size=extractor.image_size)
    embeddings, logits = extractor.extract(data, name=f"{expert} {subset}")
    print(f"{expert} {subset}: {len(rows)} images embedded in {time.perf_counter() - began:.1f} s", flush=True)
    return expert_frame(expert, embeddings, logits)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m assay.stages.kfold_fold")
    parser.add_argument("--fold", type=int, required=True, help="0 and on")
    fold = parser.parse_args(arguments).fold
    params = load(Stacking)
    set_up_torch(threads=params.runtime.threads)
    with timed(f"kfold_fold_{fold}"):
        rows = rows_to_embed(fold)
        if not (rows["part"] == HELD_OUT).any():
            raise ValueError(f"fold {fold} holds no row: prepare.folds is smaller, so this stage has nothing to do")
        store = open_store(DATA)
        parts = [embed(rows, store, expert=e, subset=f"fold_{fold}", device=params.runtime.device) for e in EXPERTS]
        keys = rows[["sample_id", "label", "group_id", "base_fold", "part"]]
        write_parquet(OUTPUT / f"fold_{fold}.parquet", pd.concat([keys, *parts], axis=1))


if __name__ == "__main__":
    run(main)
