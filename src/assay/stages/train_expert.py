"""train_expert@<expert>-<subset>: one expert on all training rows (``full``) or on all but one fold (``fold_k``).

    python -m assay.stages.train_expert --expert maxvit --subset fold_0

Every subset starts from the values of init_expert, never from another subset's network: a network that saw a row cannot give
an unbiased embedding of it. The held-out fold is not looked at: not for stopping, not for selection, not for scaling. The
val role is watched; with ``selection: last`` the number of epochs is fixed and it decides nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from assay.core.params import load
from assay.core.resume import resumable
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.images.manifest import read_manifest
from assay.images.model.backbones import freeze
from assay.images.model.experts import build_expert, load_start
from assay.images.model.fit_network import FitTask, fit_network
from assay.images.model.store import META
from assay.params.stacking import Stacking

DATA = Path("data/processed")
MANIFESTS = ("train_manifest.csv", "val_manifest.csv")
MODELS = Path("models/experts")


def rows_of_subset(manifest: pd.DataFrame, folds: pd.DataFrame, subset: str) -> pd.DataFrame:
    """Training rows of a subset: all of them, or those outside fold k.

    Raises:
        ValueError: no such subset, or a fold table of other rows than the manifest's, which would leave held-out
            rows in training without a sound.
    """
    odd = sorted(set(folds["sample_id"]) ^ set(manifest["sample_id"]), key=str)
    if odd:
        raise ValueError(
            f"folds.csv and the train manifest differ in {len(odd)} sample(s) {odd[:5]}; run dvc repro prepare"
        )
    if subset == "full":
        return manifest
    known = [f"fold_{number}" for number in sorted(set(folds["fold"]))]
    if subset not in known:
        raise ValueError(f"subset {subset!r} is not one of full, {', '.join(known)}")
    held_out = set(folds.loc[folds["fold"] == int(subset.removeprefix("fold_")), "sample_id"])
    return manifest[~manifest["sample_id"].isin(held_out)].reset_index(drop=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m assay.stages.train_expert")
    parser.add_argument("--expert", required=True, help="a key of train_expert in params.yaml")
    parser.add_argument("--subset", required=True, help="full, or fold_0 and on")
    flags = parser.parse_args(arguments)
    params = load(Stacking)
    settings, seed = params.expert(flags.expert), params.runtime.seed
    set_up_torch(threads=params.runtime.threads)
    name = f"train_expert@{flags.expert}-{flags.subset}"
    with timed(name) as measured:
        folds = pd.read_csv(DATA / "folds.csv", dtype={"sample_id": str})
        rows = rows_of_subset(read_manifest(DATA, "train"), folds, flags.subset)
        network, config = build_expert(
            settings.architecture,
            weights={},
            image_size=settings.image_size,
            embedding_dim=settings.embedding_dim,
            input=settings.input,
        )
        init = MODELS / flags.expert / "init.safetensors"
        load_start(network, init)
        freeze(network.backbone, settings.frozen_layers)
        print(f"{name}: {len(rows)} images of {rows['group_id'].nunique()} groups", flush=True)
        task = FitTask(settings=settings, data_config=config, seed=seed, cpu=params.runtime.device == "cpu")
        info = {"embedding_dim": settings.embedding_dim, "subset": flags.subset, "num_rows": len(rows)}
        inputs = [init, *(DATA / file for file in (*MANIFESTS, "folds.csv", META))]
        with resumable(name, params={"network": settings, "runtime": params.runtime}, inputs=inputs) as resume:
            output = MODELS / flags.expert / flags.subset
            fit_network(network, task, train=rows, data_dir=DATA, output_dir=output, resume=resume, info=info)
        measured["images"] = len(rows) * settings.epochs


if __name__ == "__main__":
    run(main)
