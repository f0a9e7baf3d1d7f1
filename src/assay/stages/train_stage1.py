"""train_stage1: the fast filter, one network with one logit (forged), which learns from the labels alone.

    python -m assay.stages.train_stage1
    python -m assay.stages.train_stage1 --epochs 2 --lr 1e-4 --output_dir models/try
    accelerate launch -m assay.stages.train_stage1

Flags override params.yaml. Output: ``model.safetensors``, ``model.json``, ``history.csv``, DVCLive's ``live`` and
``scores_val.parquet`` (its logits of the val role). It or what distill_stage1 makes of it is stage 1: choose_stage1 says
which.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from assay.core.params import load, validate
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.images.manifest import read_manifest
from assay.images.model.filters import WEIGHTS, train_filter
from assay.params.images import Images, Training


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Flags of a run by hand; those left out keep the value of params.yaml."""
    parser = argparse.ArgumentParser(prog="python -m assay.stages.train_stage1", description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, default=Path("data/processed"), help="output of prepare (%(default)s)")
    parser.add_argument("--output_dir", type=Path, default=Path("models/filters/plain"), help="default: %(default)s")
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


def main(arguments: list[str] | None = None) -> None:
    flags = parse_arguments(arguments)
    params = load(Images)
    settings, places = override(params.train_stage1, flags), {"data_dir": flags.data_dir, "weights": flags.file}
    set_up_torch(threads=params.runtime.threads)
    with timed("train_stage1") as measured:
        train = read_manifest(flags.data_dir, "train")
        train_filter("plain", train, settings, params.runtime, output_dir=flags.output_dir, **places)
        measured["images"] = len(train) * settings.epochs


if __name__ == "__main__":
    run(main)
