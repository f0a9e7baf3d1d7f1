"""vlm_sft@<network>: the first model, fine-tuned with LoRA to answer with the class; and those it is compared with.

    python -m assay.stages.vlm_sft --network base
    accelerate launch --config_file params/accelerate/fsdp.yaml -m assay.stages.vlm_sft --network base    (several GPUs)

Networks: base, order_1, order_2, ... (the same rows in another order), no_augmentation and no_filter.
Output: models/vlm/sft/<network> (adapter, manifest.json and history.csv).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from accelerate import PartialState

from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.params.vlm import Vlm
from assay.vlm.fine_tuning import fine_tune, set_up
from assay.vlm.messages import read_messages

DATA = Path("data/vlm")
BASE = Path("models/vlm/pretrained/base")
OUTPUT = Path("models/vlm/sft")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m assay.stages.vlm_sft")
    parser.add_argument("--network", required=True, help="a key of vlm_networks in params.yaml")
    name = parser.parse_args(arguments).network
    params = load(Vlm)
    settings, rows = params.vlm_sft, params.network_rows(name)
    set_up_torch(threads=params.runtime.threads)
    with timed(f"vlm_sft@{name}") as measured:
        setup = set_up(params, settings, base=BASE, asked="risk")
        records = read_messages(DATA / rows)
        plain = [record for record in records if record["transform"] == "none"]
        # Networks to be compared take as many steps, those with fewer rows more epochs.
        num_rows = len(plain) * (1 + params.prepare_vlm.augment.copies)
        if name == "no_augmentation":
            records = plain
        order_seed = params.runtime.seed + (int(name.removeprefix("order_")) if name.startswith("order_") else 0)
        if PartialState().is_main_process:
            shutil.rmtree(OUTPUT / name, ignore_errors=True)
        fine_tune(f"vlm_sft@{name}", records, setup, OUTPUT / name, num_rows=num_rows, order_seed=order_seed)
        measured["conversations"] = settings.epochs * num_rows


if __name__ == "__main__":
    run(main)
