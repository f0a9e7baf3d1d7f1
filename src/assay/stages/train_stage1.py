"""train_stage1: the fast filter, one network with one logit (forged).

    python -m assay.stages.train_stage1
    python -m assay.stages.train_stage1 --epochs 2 --lr 1e-4 --output_dir models/try
    accelerate launch -m assay.stages.train_stage1

Flags override params.yaml. Output: ``model.safetensors``, ``model.json``, ``history.csv`` and DVCLive's ``live``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from dvclive import Live

from assay.images.backbones import build, save_checkpoint
from assay.images.dataset import load_pictures
from assay.images.resume import ResumeFolder, resume_key
from assay.images.training import Row, fit, start
from assay.images.transforms import Normalize, train_transform
from assay.io import read_json, sha256_file, write_csv
from assay.params.base import load, validate
from assay.params.images import Images, Training
from assay.timing import timed
from assay.torch_runtime import set_up_torch


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Flags of a run by hand; those left out keep the value of params.yaml."""
    parser = argparse.ArgumentParser(prog="python -m assay.stages.train_stage1", description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, default=Path("data/processed"), help="output of prepare (%(default)s)")
    parser.add_argument("--output_dir", type=Path, default=Path("models/stage1"), help="default: %(default)s")
    parser.add_argument("--model_name", dest="architecture", help="a timm model")
    parser.add_argument("--weights", help="hub, random, 'file: PATH' or 'package: NAME==VERSION'")
    parser.add_argument("--image_size", type=int, help="pixels")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch_size", type=int)
    parser.add_argument("--lr", type=float, help="learning rate of AdamW")
    return parser.parse_args(arguments)


def override(settings: Training, flags: argparse.Namespace) -> Training:
    """The settings with the flags that were given; checked like the file itself."""
    given = {key: value for key, value in vars(flags).items() if value is not None and key in Training.model_fields}
    return validate(Training, settings.model_dump() | given, path=Path("flags"))


def print_row(row: Row) -> None:
    """One line per epoch."""
    parts = [f"{side} " + " ".join(f"{k} {row[f'{side}_{k}']:.4f}" for k in ("loss", "accuracy", "auc", "f1")) for side in ("train", "val")]
    print(f"epoch {row['epoch']:.0f}  lr {row['lr']:.2e}  " + "  |  ".join(parts), flush=True)


def log_epochs(live: Live) -> Any:
    """A callback that prints an epoch and logs it with DVCLive."""

    def on_epoch(row: Row) -> None:
        print_row(row)
        for name, value in row.items():
            if name != "epoch":
                live.log_metric(name.replace("_", "/", 1), value, plot=True)
        live.next_step()

    return on_epoch


def train(settings: Training, *, data_dir: Path, output_dir: Path, seed: int, cpu: bool) -> tuple[float, int]:
    """Train and save; returns (best validation AUC, its epoch)."""
    model, data_config = build(settings.architecture, weights=settings.weights, image_size=settings.image_size)
    size = settings.image_size
    _, train_set = load_pictures(data_dir, "train", image_size=size, transform=train_transform(settings.augment), seed=seed)
    _, val_set = load_pictures(data_dir, "val", image_size=size)
    normalize = Normalize(data_config.mean, data_config.std)
    loop, schedule = start(model, train_set, val_set, settings=settings, normalize=normalize, seed=seed, cpu=cpu)
    key = resume_key(
        params=settings.model_dump(),
        seed=seed,
        pixels=read_json(data_dir / "pixels.json")["sha256"],
        manifests=[sha256_file(data_dir / f"{role}_manifest.csv") for role in ("train", "val")],
    )
    resume = ResumeFolder("train_stage1", key)
    with Live(str(output_dir / "live"), dvcyaml=False, save_dvc_exp=False, report=None) as live:
        state = fit(loop, schedule, epochs=settings.epochs, resume=resume, on_epoch=log_epochs(live))
    info = {"params": settings.model_dump(), "best_epoch": state.best_epoch, "best_val_auc": state.best_auc, "seed": seed}
    path = save_checkpoint(
        output_dir, state.best_state, architecture=settings.architecture, data_config=data_config, info=info
    )
    write_csv(output_dir / "history.csv", pd.DataFrame(state.history).astype({"epoch": int}))
    resume.remove()
    print(f"best val AUC {state.best_auc:.4f} at epoch {state.best_epoch}; weights in {path}")
    return state.best_auc, state.best_epoch


def main(arguments: list[str] | None = None) -> None:
    flags = parse_arguments(arguments)
    params = load(Images)
    settings = override(params.train_stage1, flags)
    set_up_torch(threads=params.runtime.threads)
    # Random weights of the classifier come from here; everything later is seeded per epoch.
    import torch

    torch.manual_seed(params.runtime.seed)
    with timed("train_stage1") as figures:
        train(
            settings,
            data_dir=flags.data_dir,
            output_dir=flags.output_dir,
            seed=params.runtime.seed,
            cpu=params.runtime.device == "cpu",
        )
        figures["epochs"] = settings.epochs


if __name__ == "__main__":
    main()
