"""vlm_sft_high_risk: the second model, fine-tuned with LoRA to tell high risk from the rest.

    python -m assay.stages.vlm_sft_high_risk

Output: models/vlm/high_risk (adapter, manifest.json and history.csv).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from accelerate import PartialState

from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.params.vlm import Vlm
from assay.vlm.fine_tuning import ROWS, draw_weights, fine_tune, set_up
from assay.vlm.messages import read_messages
from assay.vlm.prompts import Prompt

PRETRAINED = Path("models/vlm/pretrained")
OUTPUT = Path("models/vlm/high_risk")
KEYS = ("sample_id", "group", "transform")


def asked_again(record: dict[str, Any], prompt: Prompt) -> dict[str, Any]:
    """The same image under the second model's question; every label but the high one is the rest."""
    label = record["label"] if record["label"] in prompt.labels else prompt.labels[0]
    return prompt.record(record["images"][0], label=label, **{key: record[key] for key in KEYS})


def main() -> None:
    params = load(Vlm)
    settings, high, seed = params.vlm_sft_high_risk, params.prepare_vlm.high_risk, params.runtime.seed
    set_up_torch(threads=params.runtime.threads)
    with timed("vlm_sft_high_risk") as measured:
        own = PRETRAINED / "high_risk"
        base = own if own.is_dir() else PRETRAINED / "base"
        setup = set_up(params, settings, base=base, asked="high")
        train = read_messages(ROWS / "train.jsonl")
        labels = [record["label"] for record in train]
        draw = draw_weights(labels, settings, high=high.label, near=high.near_misses)
        records = [asked_again(record, setup.prompt) for record in train]
        if PartialState().is_main_process:
            shutil.rmtree(OUTPUT, ignore_errors=True)
        fine_tune("vlm_sft_high_risk", records, setup, OUTPUT, num_rows=len(records), order_seed=seed, draw=draw)
        measured["conversations"] = settings.epochs * len(records)


if __name__ == "__main__":
    run(main)
