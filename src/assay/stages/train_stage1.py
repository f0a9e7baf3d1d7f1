"""train_stage1: the fast filter, one network with one logit (forged).

    python -m assay.stages.train_stage1
    python -m assay.stages.train_stage1 --epochs 2 --lr 1e-4 --output_dir models/try
    accelerate launch -m assay.stages.train_stage1

Flags override params.yaml. Output: ``model.safetensors``, ``model.json``, ``history.csv`` and DVCLive's ``live``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from accelerate import PartialState
from dvclive import Live
from scmrepo.exceptions import SCMError

from assay.core.params import load, validate
from assay.core.resume import resumable
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.images.manifest import read_manifest
from assay.images.model.backbones import build, load_weights
from assay.images.model.checkpoint import Row
from assay.images.model.fit_network import FitTask, fit_network
from assay.images.model.store import META
from assay.params.images import Images, Training

WEIGHTS = Path("data/weights/stage1.safetensors")
MANIFESTS = ("train_manifest.csv", "val_manifest.csv")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Flags of a run by hand; those left out keep the value of params.yaml."""
    parser = argparse.ArgumentParser(prog="python -m assay.stages.train_stage1", description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, default=Path("data/processed"), help="output of prepare (%(default)s)")
    parser.add_argument("--output_dir", type=Path, default=Path("models/stage1"), help="default: %(default)s")
    parser.add_argument("--model_name", dest="architecture", help="a timm model")
    parser.add_argument(
        "--weights", dest="file", type=Path, default=WEIGHTS, help="output of fetch_weights (%(default)s)"
    )
    parser.add_argument("--image_size", type=int, help="pixels")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch_size", type=int)
    parser.add_argument("--lr", type=float, help="learning rate of AdamW")
    return parser.parse_args(arguments)


def override(settings: Training, flags: argparse.Namespace) -> Training:
    """The settings with the flags that were given; checked like the file itself."""
    given = {key: value for key, value in vars(flags).items() if value is not None and key in Training.model_fields}
    return validate(Training, settings.model_dump() | given, path=Path("flags"))


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


def main(arguments: list[str] | None = None) -> None:
    flags = parse_arguments(arguments)
    params = load(Images)
    settings, seed, cpu = override(params.train_stage1, flags), params.runtime.seed, params.runtime.device == "cpu"
    set_up_torch(threads=params.runtime.threads)
    # Random weights come from here; everything later is seeded per epoch.
    torch.manual_seed(seed)
    with timed("train_stage1") as measured, ExitStack() as stack:
        weights = load_weights(flags.file)
        network, config = build(settings.architecture, weights=weights, image_size=settings.image_size)
        train = read_manifest(flags.data_dir, "train")
        on_epoch = None
        if PartialState(cpu=cpu).is_main_process:
            on_epoch = log_with(stack.enter_context(open_live(flags.output_dir / "live")))
        task = FitTask(settings=settings, data_config=config, seed=seed, cpu=cpu)
        inputs = [flags.file, *(flags.data_dir / name for name in (*MANIFESTS, META))]
        with resumable(
            "train_stage1", params={"network": settings, "runtime": params.runtime}, inputs=inputs
        ) as resume:
            fit_network(
                network,
                task,
                train=train,
                data_dir=flags.data_dir,
                output_dir=flags.output_dir,
                resume=resume,
                info={},
                on_epoch=on_epoch,
            )
        measured["images"] = len(train) * settings.epochs


if __name__ == "__main__":
    run(main)
