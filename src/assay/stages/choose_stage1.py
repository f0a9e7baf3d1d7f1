"""choose_stage1: which filter is stage 1, the plain or the distilled one; judged on val alone.

    python -m assay.stages.choose_stage1

Output: the chosen network in models/stage1, as its training left it (model.json names it under ``filter``), and
metrics/filters.json. Both networks met the same pictures of val, so that their difference has an interval over scenes
(`assay.images.stacking.bake_off`). They cost the same to run; the plain one is the simpler to make.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from assay.core.io import atomic_path, write_json
from assay.core.params import load
from assay.core.stage import run, timed
from assay.images.model import FILTERS, VAL_SCORES
from assay.images.stacking.bake_off import choose
from assay.metrics.binary import flatten, resample
from assay.metrics.claims import claim
from assay.metrics.discrimination import ranking_metrics
from assay.metrics.paired import gain
from assay.params.stacking import Stacking

MODELS = Path("models/filters")
OUTPUT = Path("models/stage1")
METRICS = Path("metrics/filters.json")
FILES = ("model.safetensors", "model.json", "history.csv")


def main() -> None:
    params = load(Stacking)
    with timed("choose_stage1"):
        scores = {name: pd.read_parquet(MODELS / name / VAL_SCORES) for name in FILTERS}
        assert scores["plain"]["sample_id"].equals(scores["distilled"]["sample_id"])
        measured = {
            name: resample(one["label"], one["logit"], one["group_id"], metrics=ranking_metrics)
            for name, one in scores.items()
        }
        shipped, gains = choose(measured, metric="auc", ship=params.distill_stage1.ship)
        reports = {name: one.summary() | gains[name] for name, one in measured.items()}
        reports["distilled"] |= gain(measured["distilled"], measured["plain"], "auc", key="auc_gain_plain")
        for file in FILES:
            with atomic_path(OUTPUT / file) as temporary:
                shutil.copyfile(MODELS / shipped / file, temporary)
        write_json(METRICS, flatten(reports) | {"shipped": shipped})
    words = {"ours": "The distilled filter", "theirs": "the plain one", "metric": "AUC on val"}
    print(claim(reports["distilled"], "auc_gain_plain", one_training=True, **words))
    print(f"stage 1: the {shipped} filter (distill_stage1.ship: {params.distill_stage1.ship})")


if __name__ == "__main__":
    run(main)
