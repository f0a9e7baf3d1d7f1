"""pool_text: the classifier that ships: its networks, a linear member where asked for, their weights and a temperature.

    python -m assay.stages.pool_text

Output, in models/text/classifier: every network (network_0, ..., no_pretraining), linear, ensemble.json (classes, weights of
the pool, temperature) and history.csv of all networks.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from assay.calibration.pooling import fit_pool_temperature, fit_weights, pool
from assay.core.io import read_json, write_csv, write_json
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import pick_device, set_up_torch
from assay.params.text import Text
from assay.text.linear import fit_linear, save_linear
from assay.text.prediction import ENSEMBLE, load_predictor

ROWS = Path("data/text/rows")
NETWORKS = Path("models/text/networks")
OUTPUT = Path("models/text/classifier")
HISTORY = "history.csv"


def fit_ensemble(roles: dict[str, pd.DataFrame], record: dict[str, Any], *, device: str) -> dict[str, Any]:
    """The record with the pool's weights, fitted on val, and its temperature, fitted on calib."""
    write_json(OUTPUT / ENSEMBLE, record)
    predictor = load_predictor(OUTPUT, device=device)
    members = {role: predictor.member_log_probs(list(roles[role]["text"]), name=role) for role in ("val", "calib")}
    labels = {role: roles[role]["label"].to_numpy() for role in members}
    one = len(members["val"]) == 1
    weights = [1.0] if one else fit_weights(members["val"], labels["val"])
    temperature = fit_pool_temperature(pool(members["calib"], weights), labels["calib"])
    print(f"weights {weights} fitted on val, temperature {temperature:.3f} on calib")
    return record | {"weights": weights, "temperature": temperature}


def main() -> None:
    params = load(Text)
    settings = params.pool_text
    set_up_torch(threads=params.runtime.threads)
    with timed("pool_text"):
        shutil.rmtree(OUTPUT, ignore_errors=True)
        roles = {role: pd.read_parquet(ROWS / f"{role}.parquet") for role in ("train", "val", "calib")}
        for name in params.text_networks:
            shutil.copytree(NETWORKS / name, OUTPUT / name, ignore=shutil.ignore_patterns(HISTORY))
        # As written: pandas' quicker reader is off by a bit now and then.
        histories = [
            pd.read_csv(NETWORKS / name / HISTORY, float_precision="round_trip") for name in params.text_networks
        ]
        write_csv(OUTPUT / HISTORY, pd.concat(histories))
        train, linear = roles["train"], settings.linear.model_dump()
        model = fit_linear(list(train["text"]), train["label"].to_numpy(), seed=params.runtime.seed, **linear)
        save_linear(OUTPUT / "linear", model)
        members = [name for name in params.text_networks if name.startswith("network_")]
        record = {
            "classes": read_json(ROWS / "classes.json"),
            "networks": members,
            "fuse_linear": settings.fuse_linear,
            "max_tokens": params.train_text.max_tokens,
            "unicode_form": params.prepare_text.unicode_form,
            "weights": [1.0] * (len(members) + settings.fuse_linear),
            "temperature": 1.0,
        }
        device = pick_device(params.runtime.device).type
        write_json(OUTPUT / ENSEMBLE, fit_ensemble(roles, record, device=device))
    print(f"{', '.join(members)} pooled in {OUTPUT}")


if __name__ == "__main__":
    run(main)
