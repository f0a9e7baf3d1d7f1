"""The fast filter's trainings, which differ in the loss alone (`assay.images.model.FILTERS`), and what each says of val."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import PartialState
from dvclive import Live
from scmrepo.exceptions import SCMError

from assay.core.io import write_parquet
from assay.core.resume import resumable
from assay.images.manifest import read_manifest
from assay.images.model import FILTERS, VAL_SCORES
from assay.images.model.backbones import build, freeze, load_weights
from assay.images.model.checkpoint import Row
from assay.images.model.dataset import PictureSet
from assay.images.model.fit_network import FitTask, fit_network
from assay.images.model.prediction import load_predictor
from assay.images.model.store import META, open_store
from assay.images.model.training import Distillation
from assay.params.images import Training
from assay.params.shared import Runtime

WEIGHTS = Path("data/weights/stage1.safetensors")
MANIFESTS = ("train_manifest.csv", "val_manifest.csv")
KEYS = ["sample_id", "label", "group_id"]


def open_live(folder: Path) -> Live:
    """DVCLive's log; it wants to know the commit it is logging for.

    Raises:
        RuntimeError: a git repository without a commit.
    """
    try:
        return Live(str(folder), dvcyaml=False, save_dvc_exp=False, report=None)
    except SCMError as error:
        raise RuntimeError(
            f"DVCLive can't read the git repository ({error}): git commit once, then run again"
        ) from error


def log_with(live: Live) -> Callable[[Row], None]:
    """A callback that logs an epoch with DVCLive."""

    def on_epoch(row: Row) -> None:
        for name, value in row.items():
            if name != "epoch":
                live.log_metric(name.replace("_", "/", 1), value, plot=True)
        live.next_step()

    return on_epoch


def score_val(folder: Path, *, data_dir: Path, device: str) -> None:
    """Write what the network of a folder says of the val role beside it: `KEYS` and ``logit``."""
    predictor, val = load_predictor(folder, device=device), read_manifest(data_dir, "val")
    data = PictureSet(open_store(data_dir), val, image_size=predictor.image_size)
    write_parquet(folder / VAL_SCORES, val[KEYS].assign(logit=predictor.logits(data, name=f"{folder.name} on val")))


def train_filter(
    name: str,
    train: pd.DataFrame,
    settings: Training,
    runtime: Runtime,
    *,
    weights: Path,
    data_dir: Path,
    output_dir: Path,
    distillation: Distillation | None = None,
    inputs: Sequence[Path] = (),
) -> None:
    """Train a filter of `FILTERS` on the rows of ``train``, from the file ``weights`` on.

    Writes what `fit_network` does, DVCLive's ``live`` and `VAL_SCORES` into ``output_dir``. A killed run goes on from its
    last epoch if all is as it was, the files of ``inputs``, too.
    """
    # Random weights come from here; everything later is seeded per epoch.
    torch.manual_seed(runtime.seed)
    network, config = build(
        settings.architecture, weights=load_weights(weights), image_size=settings.image_size, input=settings.input
    )
    freeze(network, settings.frozen_layers)
    cpu, taught = runtime.device == "cpu", asdict(distillation) if distillation else {}
    main_process = PartialState(cpu=cpu).is_main_process
    task = FitTask(settings=settings, data_config=config, seed=runtime.seed, cpu=cpu, distillation=distillation)
    files = [weights, *(data_dir / file for file in (*MANIFESTS, META)), *inputs]
    values: dict[str, Any] = {"network": settings, "runtime": runtime, "distillation": taught}
    with ExitStack() as stack:
        on_epoch = log_with(stack.enter_context(open_live(output_dir / "live"))) if main_process else None
        resume = stack.enter_context(resumable(FILTERS[name], params=values, inputs=files))
        options: dict[str, Any] = {"data_dir": data_dir, "output_dir": output_dir, "resume": resume}
        fit_network(network, task, train=train, **options, info={"filter": name, **taught}, on_epoch=on_epoch)
    if main_process:
        score_val(output_dir, data_dir=data_dir, device=runtime.device)
