"""distill_stage1: the fast filter once more, taught by the experts.

    python -m assay.stages.distill_stage1

The teacher is the mean of the experts' logits, and out of fold: what it says of a picture comes from networks that saw
neither the picture nor its scene. On rows that it learned from it would repeat the labels. All else is as in train_stage1,
and so is the output, in models/filters/distilled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.images.manifest import read_manifest
from assay.images.model.dataset import TEACHER
from assay.images.model.filters import WEIGHTS, train_filter
from assay.images.model.training import Distillation, epoch_metrics
from assay.images.stacking import EXPERTS
from assay.images.stacking.out_of_fold import join_folds
from assay.params.stacking import Stacking

DATA = Path("data/processed")
KFOLD = Path("data/kfold")
OUTPUT = Path("models/filters/distilled")


def with_teacher(train: pd.DataFrame, *, folds: Path, kfold: Path) -> pd.DataFrame:
    """The rows of train with the mean of the experts' out-of-fold logits in the column `TEACHER`.

    Raises:
        ValueError: the folds' tables do not hold each row once, said by networks that did not see it; or the fold table
            is of other rows than train.
    """
    tables = [pd.read_parquet(path) for path in sorted(kfold.glob("fold_*.parquet"))]
    if not tables:
        raise ValueError(f"no fold_*.parquet in {kfold}; run dvc repro on the kfold stages")
    rows = join_folds(tables, pd.read_csv(folds, dtype={"sample_id": str}), experts=EXPERTS, dim=0)
    said = pd.Series(np.mean(list(rows.logits.values()), axis=0), index=rows.keys["sample_id"])
    taught = train.assign(**{TEACHER: said.reindex(train["sample_id"]).to_numpy()})
    if untold := sorted(taught.loc[taught[TEACHER].isna(), "sample_id"]):
        raise ValueError(
            f"{folds} lacks {len(untold)} sample(s) of the train manifest {untold[:5]}; run dvc repro prepare"
        )
    return taught


def main() -> None:
    params = load(Stacking)
    settings, how = params.train_stage1, params.distill_stage1
    set_up_torch(threads=params.runtime.threads)
    with timed("distill_stage1") as measured:
        folds = DATA / "folds.csv"
        train = with_teacher(read_manifest(DATA, "train"), folds=folds, kfold=KFOLD)
        said = epoch_metrics(train[TEACHER].to_numpy(), train["label"].to_numpy())
        print(f"the teacher on train, out of fold: AUC {said['auc']:.4f}, loss {said['loss']:.4f}", flush=True)
        train_filter(
            "distilled",
            train,
            settings,
            params.runtime,
            weights=WEIGHTS,
            data_dir=DATA,
            output_dir=OUTPUT,
            distillation=Distillation(how.temperature, how.weight),
            inputs=[KFOLD, folds],
        )
        measured["images"] = len(train) * settings.epochs


if __name__ == "__main__":
    run(main)
