"""score_vlm: what every fine-tuned model says of calib, tune and test, and of grey images in the place of test's.

    python -m assay.stages.score_vlm

Output: data/vlm/scores_<role>.parquet: sample_id, name, group, label, picture, and ``<system>.<number>``: a class's
log-probability; ``soup`` is the mean of the weights of base and its other orders, second models are
``high_risk/<network>``. data/vlm/marks.parquet: what their gates amplify of some test images. vlm_predict calibrates, fuses
and measures these and runs no network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assay.core.io import write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.params.vlm import Vlm
from assay.vlm.examples import Cache
from assay.vlm.messages import read_messages
from assay.vlm.prediction import blank_copies, open_scorers, open_soup
from assay.vlm.scores import SECOND, as_rows, scores_table, told_apart

ROWS = Path("data/vlm/rows")
MODELS = Path("models/vlm")
OUTPUT = Path("data/vlm")
ROLES = ("calib", "tune", "test")


def main() -> None:
    params = load(Vlm)
    set_up_torch(threads=params.runtime.threads)
    with timed("score_vlm"):
        records = {role: read_messages(ROWS / f"{role}.jsonl") for role in ROLES}
        folders = {name: MODELS / "sft" / name for name in sorted(set(params.vlm_networks) - set(params.folds))}
        folders |= {f"{SECOND}{name}": MODELS / SECOND / name for name in sorted(params.vlm_high_risk_networks)}
        options: dict[str, Any] = {"decode_pixels": params.render_corridors.max_pixels, "cache": Cache()}
        options |= {"device": params.runtime.device, "batch_size": params.vlm_predict.batch_size}
        is_high = np.array([row["label"] == params.prepare_vlm.high_risk.label for row in records["test"]])
        marks: list[pd.DataFrame] = []
        raw: dict[str, dict[str, Any]] = {role: {} for role in ROLES}
        for name, scorer in zip(folders, open_scorers(list(folders.values()), **options), strict=True):
            for role, rows in records.items():
                raw[role][name] = scorer.log_probs(rows, name=f"{name} {role}")
            if name == "base":
                with blank_copies(records["test"], max_pixels=scorer.decode_pixels) as blanks:
                    raw["test"]["blank"] = scorer.log_probs(blanks, name="blank")
            if name.startswith(SECOND):
                shown = told_apart(records["test"], raw["test"][name], is_high)
                marks.append(scorer.marks(shown).assign(network=name.removeprefix(SECOND)))
        orders = [folders[name] for name in folders if name == "base" or name.startswith("order_")]
        if len(orders) > 1 and (soup := open_soup(orders, **options)):
            for role, rows in records.items():
                raw[role]["soup"] = soup.log_probs(rows, name=f"soup {role}")
        write_parquet(OUTPUT / "marks.parquet", pd.concat(marks, ignore_index=True))
        for role, rows in records.items():
            write_parquet(OUTPUT / f"scores_{role}.parquet", scores_table(as_rows(rows), raw[role]))
    print(f"{', '.join(f'{role} {len(rows)}' for role, rows in records.items())} scored by {', '.join(folders)}")


if __name__ == "__main__":
    run(main)
