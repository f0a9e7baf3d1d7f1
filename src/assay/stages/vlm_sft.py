"""vlm_sft@<network>: the first model, fine-tuned with LoRA to answer with the class; and those it is compared with.

    python -m assay.stages.vlm_sft --network base
    accelerate launch --config_file params/accelerate/fsdp.yaml -m assay.stages.vlm_sft --network base    (several GPUs)

Networks: base, order_1, order_2, ... (the same rows in another order), no_augmentation and no_filter; and fold_0_of_2,
fold_1_of_2, which are trained without a fold of the rows and say what they think of it.
Output: models/vlm/sft/<network> (adapter, manifest.json, history.csv; of a fold out_of_fold.parquet, too).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from accelerate import PartialState

from assay.core.io import write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.params.vlm import Vlm
from assay.vlm.fine_tuning import fine_tune, set_up
from assay.vlm.messages import read_messages
from assay.vlm.prediction import open_scorer
from assay.vlm.scores import OUT_OF_FOLD, as_rows, scores_table
from assay.vlm.splitting import fold_numbers

DATA = Path("data/vlm")
BASE = Path("models/vlm/pretrained/base")
OUTPUT = Path("models/vlm/sft")
Records = list[dict[str, Any]]


def say_out_of_fold(held: Records, folder: Path, params: Vlm) -> None:
    """Write what a fold's network says of the rows that it was not trained on, copies included."""
    options = {"device": params.runtime.device, "batch_size": params.vlm_sft.batch_size}
    scorer = open_scorer(folder, decode_pixels=params.render_corridors.max_pixels, **options)
    raw = {"base": scorer.log_probs(held, name="out of fold")}
    write_parquet(folder / OUT_OF_FOLD, scores_table(as_rows(held), raw))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m assay.stages.vlm_sft")
    parser.add_argument("--network", required=True, help="a key of vlm_networks in params.yaml")
    name = parser.parse_args(arguments).network
    params = load(Vlm)
    settings, rows, seed = params.vlm_sft, params.network_rows(name), params.runtime.seed
    set_up_torch(threads=params.runtime.threads)
    with timed(f"vlm_sft@{name}") as measured:
        setup = set_up(params, settings, base=BASE, asked="risk")
        records, held = read_messages(DATA / rows), Records()
        plain = [record for record in records if record["transform"] == "none"]
        # Networks to be compared take as many steps, those with fewer rows more epochs.
        num_rows = len(plain) * (1 + params.prepare_vlm.augment.copies)
        if name == "no_augmentation":
            records = plain
        if name in params.folds:
            folds, count = fold_numbers(records, count=len(params.folds), seed=seed), len(params.folds)
            out = folds == params.folds.index(name)
            held = [record for record, left in zip(records, out, strict=True) if left]
            records = [record for record, left in zip(records, out, strict=True) if not left]
            num_rows = num_rows * (count - 1) // count
        order_seed = seed + (int(name.removeprefix("order_")) if name.startswith("order_") else 0)
        if PartialState().is_main_process:
            shutil.rmtree(OUTPUT / name, ignore_errors=True)
        fine_tune(f"vlm_sft@{name}", records, setup, OUTPUT / name, num_rows=num_rows, order_seed=order_seed)
        if held and PartialState().is_main_process:
            say_out_of_fold(held, OUTPUT / name, params)
        measured["conversations"] = settings.epochs * num_rows


if __name__ == "__main__":
    run(main)
