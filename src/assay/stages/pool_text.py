"""pool_text: the classifiers that ship: networks, a linear member where asked for, their weights and a scaling.

    python -m assay.stages.pool_text

Output, in models/text/classifier and, of a small network, in models/text/small: each network, linear, ensemble.json
(classes, weights of the pool, scaling), calib.parquet (what the pool says of the calib role before it is scaled: sample_id,
label, group and a column of log-probabilities per class), history.csv of all networks and SHA256SUMS of all files.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from assay.calibration.pooling import fit_weights, pool
from assay.calibration.scaling import Choice, Scaling, choose_scaling
from assay.core.io import read_json, write_csv, write_json, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import pick_device, set_up_torch
from assay.params.text import Text, TrainText
from assay.shipped.sums import write_sums
from assay.text.linear import fit_linear, save_linear
from assay.text.prediction import ENSEMBLE, load_predictor
from assay.text.teachers import TAUGHT

ROWS = Path("data/text/rows")
NETWORKS = Path("models/text/networks")
OUTPUTS = {"members": Path("models/text/classifier"), "small": Path("models/text/small")}
HISTORY, CALIB = "history.csv", "calib.parquet"


def fit_ensemble(
    folder: Path, roles: dict[str, pd.DataFrame], record: dict[str, Any], *, scaling: Choice, device: str
) -> dict[str, Any]:
    """The record with the pool's weights, fitted on val, and its scaling, fitted and chosen on calib."""
    write_json(folder / ENSEMBLE, record)
    predictor = load_predictor(folder, device=device, dtype=torch.float32)
    members = {role: predictor.member_log_probs(list(roles[role]["text"]), name=role) for role in ("val", "calib")}
    labels = {role: roles[role]["label"].to_numpy() for role in members}
    one = len(members["val"]) == 1
    weights = [1.0] if one else fit_weights(members["val"], labels["val"])
    calib, pooled = roles["calib"], pool(members["calib"], weights)
    _, found = choose_scaling(
        pooled, labels["calib"], calib["group"].to_numpy(), choice=scaling, name="the text classifier"
    )
    keys = calib[["sample_id", "label", "group"]].reset_index(drop=True)
    write_parquet(folder / CALIB, pd.concat([keys, pd.DataFrame(pooled, columns=record["classes"])], axis=1))
    print(f"weights {weights} fitted on val, {found['scaling']} (T = {found['temperature']:.3f}) on calib", flush=True)
    return record | {"weights": weights} | found


def put_networks(folder: Path, names: list[str]) -> None:
    """Copies of these networks, and the history of all networks as one file."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in names:
        shutil.copytree(NETWORKS / name, folder / name, ignore=shutil.ignore_patterns(HISTORY, TAUGHT))
    # As written: pandas' quicker reader is off by a bit now and then.
    histories = [
        pd.read_csv(NETWORKS / name / HISTORY, float_precision="round_trip") for name in TrainText.model_fields
    ]
    write_csv(folder / HISTORY, pd.concat(histories))


def main() -> None:
    params = load(Text)
    settings = params.pool_text
    set_up_torch(threads=params.runtime.threads)
    with timed("pool_text"):
        roles = {role: pd.read_parquet(ROWS / f"{role}.parquet") for role in ("train", "val", "calib")}
        train, linear = roles["train"], settings.linear.model_dump()
        model = fit_linear(list(train["text"]), train["label"].to_numpy(), seed=params.runtime.seed, **linear)
        classes, device = read_json(ROWS / "classes.json"), pick_device(params.runtime.device).type
        for which, folder in OUTPUTS.items():
            names: list[str] = getattr(settings, which)
            put_networks(folder, names)
            save_linear(folder / "linear", model)
            record = {
                "classes": classes,
                "networks": names,
                "fuse_linear": settings.fuse_linear,
                "unicode_form": params.prepare_text.unicode_form,
                "weights": [1.0] * (len(names) + settings.fuse_linear),
                **asdict(Scaling.of_temperature(1.0, num_classes=len(classes))),
            }
            found = fit_ensemble(folder, roles, record, scaling=settings.scaling, device=device)
            write_json(folder / ENSEMBLE, found)
            write_sums(folder, ["*", "*/*"])
            print(f"{', '.join(names)} pooled in {folder}", flush=True)


if __name__ == "__main__":
    run(main)
