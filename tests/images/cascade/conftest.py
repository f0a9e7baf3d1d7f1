"""A cascade small enough to build in a test, with everything on disk as the stages leave it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from assay.core.io import write_json
from assay.images.decode_set import DecodeSettings
from assay.images.model.backbones import DataConfig, create_network, save_checkpoint
from assay.images.model.experts import build_expert, initial_head, load_head
from assay.images.model.prediction import load_predictor
from assay.images.stacking import EXPERTS
from assay.images.stacking.alignment import Alignment
from assay.images.stacking.meta import Columns, MetaModel
from assay.images.stacking.saved import save_alignments, save_meta

ROOT = Path(__file__).parents[3]
ARCHITECTURE, SIDE, STORE_SIDE, DIM, FOLDS = "mobilenetv3_small_050", 32, 40, 8, 2
CONFIG = DataConfig(SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bilinear")
DECODE = DecodeSettings(side=STORE_SIDE, resize="squash", max_pixels=2_000_000, min_side=8, hash_side=8)


def smooth_pictures(count: int, *, seed: int = 0) -> list[np.ndarray]:
    """uint8 RGB pictures of many sizes and colours."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        size = tuple(int(value) for value in rng.integers(SIDE, 3 * SIDE, 2))
        found.append(np.asarray(small.resize(size, Image.Resampling.BICUBIC)))
    return found


def save_stage1(models: Path) -> None:
    torch.manual_seed(0)
    network = create_network(ARCHITECTURE, pretrained=False, image_size=SIDE)
    with torch.no_grad():
        network.get_classifier().weight.mul_(400.0)  # an untrained network says nearly the same to every picture
    state = network.state_dict()
    save_checkpoint(models / "stage1", state, architecture=ARCHITECTURE, data_config=CONFIG, info={})
    write_json(models / "stage1/calibration_temp.json", {"temperature": 1.5})


def save_experts(models: Path) -> None:
    for number, expert in enumerate(EXPERTS):
        head = initial_head(ARCHITECTURE, image_size=SIDE, embedding_dim=DIM, seed=number)
        save_file({name: value * 20 for name, value in head.items()}, models / "head.safetensors")
        for fold, subset in enumerate(["full", *(f"fold_{fold}" for fold in range(FOLDS))]):
            torch.manual_seed(100 * number + fold + 1)
            network, _ = build_expert(ARCHITECTURE, weights={}, image_size=SIDE, embedding_dim=DIM)
            load_head(network, models / "head.safetensors")
            save_checkpoint(
                models / "experts" / expert / subset,
                network.state_dict(),
                architecture=ARCHITECTURE,
                data_config=CONFIG,
                info={"embedding_dim": DIM, "subset": subset},
            )


def save_both_levels(models: Path) -> None:
    """Meta-model and thresholds; a third of the pictures leaves on either side, and a third is deferred."""
    means = np.random.default_rng(1).normal(size=(len(EXPERTS), FOLDS, DIM))
    maps = {
        (expert, fold): Alignment(np.zeros(DIM), np.eye(DIM), means[number, fold])
        for number, expert in enumerate(EXPERTS)
        for fold in range(FOLDS)
    }
    save_alignments(models / "meta/alignment.safetensors", maps)
    save_meta(models / "meta", MetaModel("mean_logit", Columns(EXPERTS)), {"test_time_mode": "fold_average"})
    record = {"stage1_temperature": 1.5, "ensemble_temperature": 2.0, "unsure": None, "decode": asdict(DECODE)}
    stage1 = load_predictor(models / "stage1", device="cpu")
    pictures = [np.asarray(Image.fromarray(picture).resize((SIDE, SIDE))) for picture in smooth_pictures(60)]
    logits = stage1.array_logits(np.stack(pictures)) / 1.5
    low, high = (float(value) for value in np.quantile(1 / (1 + np.exp(-logits)), [1 / 3, 2 / 3]))
    assert high - low > 0.01, "stage 1 says the same to every picture"
    write_json(models / "cascade/cascade.json", record | {"exit_real": low, "exit_forged": high})


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder: stage 1, two experts with refit and two folds, meta-model, cascade."""
    models = tmp_path_factory.mktemp("cascade") / "models"
    models.mkdir()
    save_stage1(models)
    save_experts(models)
    save_both_levels(models)
    return models


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 24 pictures in three formats."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, pixels in enumerate(smooth_pictures(24)):
        Image.fromarray(pixels).save(folder / f"{number:02}.{('png', 'jpg', 'webp')[number % 3]}")
    return folder


@pytest.fixture
def assay(tiny_models: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """The real command, run in ``tmp_path`` with the tiny models; arguments may be bytes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}

    def call(*arguments: str | bytes, stdin: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "assay.cli", "predict", "--models", str(tiny_models), "--device", "cpu"]
        return subprocess.run(
            [*command, *arguments],
            cwd=tmp_path,
            env=environment | variables,
            input=stdin,
            capture_output=True,
            timeout=240,
            check=False,
        )

    return call
