"""vlm_sft_high_risk@<network>: a second model, fine-tuned with LoRA to tell high risk from the rest.

    python -m assay.stages.vlm_sft_high_risk --network both

Networks: the keys of vlm_high_risk_networks, each with its parts (the gate of `assay.vlm.amplifier`, mistakes).
Output: models/vlm/high_risk/<network> (adapter with its gate, manifest.json and history.csv).
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState

from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.params.vlm import AmplifierSettings, HighRiskNetwork, Vlm
from assay.vlm.fine_tuning import ROWS, draw_weights, fine_tune, set_up
from assay.vlm.messages import read_messages
from assay.vlm.prompts import Prompt, risk_prompt
from assay.vlm.scores import OUT_OF_FOLD, raw_scores

PRETRAINED = Path("models/vlm/pretrained")
FIRST = Path("models/vlm/sft")
OUTPUT = Path("models/vlm/high_risk")
KEYS = ("sample_id", "group", "transform", "danger")


def asked_again(record: dict[str, Any], prompt: Prompt) -> dict[str, Any]:
    """The same image under the second model's question; every label but the high one is the rest."""
    label = record["label"] if record["label"] in prompt.labels else prompt.labels[0]
    return prompt.record(record["images"][0], label=label, **{key: record[key] for key in KEYS if key in record})


def out_of_fold_errors(records: Sequence[dict[str, Any]], params: Vlm) -> list[float]:
    """|label - probability| of high risk of each row, by the first model that was trained without the row's fold.

    Raises:
        ValueError: a row that no fold's network has scored.
    """
    high, prompt = params.prepare_vlm.high_risk.label, risk_prompt(params.prepare_vlm)
    found: dict[str, float] = {}
    for fold in params.folds:
        table = pd.read_parquet(FIRST / fold / OUT_OF_FOLD)
        probs = np.exp(raw_scores(table)["base"])[:, prompt.labels.index(high)]
        found |= dict(zip(table["sample_id"], np.abs((table["label"] == high) - probs), strict=True))
    if lacking := [record["sample_id"] for record in records if record["sample_id"] not in found]:
        raise ValueError(f"no fold has scored {lacking[0]}: run dvc repro vlm_sft_high_risk, which trains them first")
    return [float(found[record["sample_id"]]) for record in records]


def gate_of(network: HighRiskNetwork, params: Vlm) -> AmplifierSettings | None:
    """The gate of a network, if it has one."""
    parts: dict[str, Any] = {
        "amplify": network.amplify,
        "attend": network.attend,
        "danger_weight": network.danger_weight,
    }
    return AmplifierSettings(**params.vlm_sft_high_risk.gate.model_dump(), **parts) if network.gated else None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m assay.stages.vlm_sft_high_risk")
    parser.add_argument("--network", required=True, help="a key of vlm_high_risk_networks in params.yaml")
    name = parser.parse_args(arguments).network
    params = load(Vlm)
    settings, high, seed = params.vlm_sft_high_risk, params.prepare_vlm.high_risk, params.runtime.seed
    network = params.high_risk_network(name)
    changes = {"train_vision": settings.train_vision or network.train_vision, "lr": network.lr or settings.lr}
    settings = settings.model_copy(update=changes)
    set_up_torch(threads=params.runtime.threads)
    with timed(f"vlm_sft_high_risk@{name}") as measured:
        own = PRETRAINED / "high_risk"
        base = own if own.is_dir() else PRETRAINED / "base"
        setup = set_up(params, settings, base=base, asked="high")
        train = read_messages(ROWS / "train.jsonl")
        errors = out_of_fold_errors(train, params) if network.mistakes else None
        labels = [record["label"] for record in train]
        draw = draw_weights(labels, settings, high=high.label, near=high.near_misses, errors=errors)
        records = [asked_again(record, setup.prompt) for record in train]
        if PartialState().is_main_process:
            shutil.rmtree(OUTPUT / name, ignore_errors=True)
        options: dict[str, Any] = {"order_seed": seed, "draw": draw, "amplifier": gate_of(network, params)}
        fine_tune(f"vlm_sft_high_risk@{name}", records, setup, OUTPUT / name, num_rows=len(records), **options)
        measured["conversations"] = settings.epochs * len(records)


if __name__ == "__main__":
    run(main)
