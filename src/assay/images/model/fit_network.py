"""From prepared data and a fresh network to a saved checkpoint: what stage 1 and the experts share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from assay.core.io import write_csv
from assay.images.manifest import read_manifest
from assay.images.model.backbones import DataConfig, save_checkpoint
from assay.images.model.checkpoint import Row, TrainingState
from assay.images.model.dataset import PictureSet
from assay.images.model.store import open_store
from assay.images.model.training import Distillation, fit, start
from assay.images.model.transforms import normalizer, train_transform
from assay.params.images import Training


@dataclass(frozen=True)
class FitTask:
    """How a network is fitted; ``cpu`` keeps Accelerate from looking for anything else.

    ``distillation``: the training rows have a column `assay.images.model.dataset.TEACHER`.
    """

    settings: Training
    data_config: DataConfig
    seed: int
    cpu: bool
    distillation: Distillation | None = None


def print_row(row: Row) -> None:
    """One line per epoch."""
    parts = [
        f"{side} " + " ".join(f"{k} {row[f'{side}_{k}']:.4f}" for k in ("loss", "accuracy", "auc", "f1"))
        for side in ("train", "val")
    ]
    print(f"epoch {row['epoch']:.0f}  lr {row['lr']:.2e}  " + "  |  ".join(parts), flush=True)


def fit_network(
    network: nn.Module,
    task: FitTask,
    *,
    train: pd.DataFrame,
    data_dir: Path,
    output_dir: Path,
    resume: Path,
    info: dict[str, Any],
    on_epoch: Callable[[Row], None] | None = None,
) -> TrainingState:
    """Train ``network`` on the rows of ``train``, watch the val role, and save the chosen state.

    Writes ``model.safetensors``, ``model.json`` and ``history.csv`` into ``output_dir``. In a run of several processes
    the main one prints, logs and writes. ``resume`` is a folder for checkpoints (see `assay.core.resume.resumable`).
    """
    settings, config = task.settings, task.data_config
    store, val = open_store(data_dir), read_manifest(data_dir, "val")
    size = settings.image_size
    train_set = PictureSet(store, train, image_size=size, transform=train_transform(settings.augment), seed=task.seed)
    val_set = PictureSet(store, val, image_size=size)
    options: dict[str, Any] = {"seed": task.seed, "cpu": task.cpu, "distillation": task.distillation}
    loop = start(network, train_set, val_set, settings=settings, normalize=normalizer(config), **options)
    main_process = loop.accelerator.is_main_process

    def report(row: Row) -> None:
        if main_process:
            print_row(row)
            if on_epoch is not None:
                on_epoch(row)

    state = fit(loop, epochs=settings.epochs, selection=settings.selection, resume=resume, on_epoch=report)
    if main_process:
        chosen = {"best_epoch": state.best_epoch, "best_val_auc": state.best_auc, "seed": task.seed}
        path = save_checkpoint(
            output_dir,
            state.best_state,
            architecture=settings.architecture,
            data_config=config,
            info={**info, **chosen, "params": settings.model_dump()},
        )
        write_csv(output_dir / "history.csv", pd.DataFrame(state.history).astype({"epoch": int}))
        which = "best" if settings.selection == "best" else "last"
        print(f"{which} val AUC {state.best_auc:.4f} at epoch {state.best_epoch}; weights in {path}")
    loop.accelerator.wait_for_everyone()
    loop.accelerator.end_training()
    return state
