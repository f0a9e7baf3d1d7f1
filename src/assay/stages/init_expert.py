"""init_expert@<expert>: the starting values of an expert: its pretrained backbone, fixed projection and head.

    python -m assay.stages.init_expert --expert maxvit

Saved once, so that all folds and the refit start from the same values and end in spaces that resemble each other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.tensors import save_tensors
from assay.images.model.backbones import load_weights
from assay.images.model.experts import initial_state
from assay.params.stacking import Stacking

WEIGHTS = Path("data/weights")
MODELS = Path("models/experts")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m assay.stages.init_expert")
    parser.add_argument("--expert", required=True, help="a key of train_expert in params.yaml")
    expert = parser.parse_args(arguments).expert
    params = load(Stacking)
    settings = params.expert(expert)
    with timed(f"init_expert@{expert}"):
        values = initial_state(
            settings.architecture,
            weights=load_weights(WEIGHTS / f"{expert}.safetensors"),
            image_size=settings.image_size,
            embedding_dim=settings.embedding_dim,
            seed=params.runtime.seed,
        )
        save_tensors(MODELS / expert / "init.safetensors", values)
    print(f"{expert}: {len(values)} tensors, projection {tuple(values['projection'].shape)}")


if __name__ == "__main__":
    run(main)
