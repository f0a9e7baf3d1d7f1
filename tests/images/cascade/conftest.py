"""A cascade small enough to build in a test, with everything on disk as the stages leave it."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit

from assay.cli import main
from assay.core.io import write_json
from assay.images.cascade.model import Cascade, load
from assay.images.decode_set import DecodeSettings
from assay.images.model.backbones import DataConfig, create_network, save_checkpoint
from assay.images.model.embedding import embed_arrays
from assay.images.model.experts import build_expert, initial_state
from assay.images.model.prediction import load_predictor
from assay.images.stacking import EXPERTS
from assay.images.stacking.alignment import Alignment
from assay.images.stacking.meta_model import MetaModel
from assay.images.stacking.saved import save_alignments, save_meta
from assay.images.unlike import fit_seen, save_seen
from assay.shipped.sums import write_sums
from assay.stages.evaluate_cascade import SHIPPED

ROOT = Path(__file__).parents[3]
ARCHITECTURE, SIDE, STORE_SIDE, DIM, FOLDS = "mobilenetv3_small_050", 32, 40, 8, 2
JOIN = {"first": 0.6, "second": 0.9, "intercept": -0.1}
# Of the second level, whose logits hold stage 1's by then.
ALONE = {"first": 0.0, "second": 1.0, "intercept": 0.0}
DECODE = DecodeSettings(side=STORE_SIDE, resize="squash", max_pixels=2_000_000, min_side=8, hash_side=8)
EXPLANATION = ["forged that leave as real: 10.0% on tune", "  on test: 13.1%"]


def smooth_images(count: int) -> list[np.ndarray]:
    """uint8 RGB images of many sizes and colours."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        size = tuple(int(value) for value in rng.integers(SIDE, 3 * SIDE, 2))
        found.append(np.asarray(small.resize(size, Image.Resampling.BICUBIC)))
    return found


def save(folder: Path, network: torch.nn.Module, *, side: int = SIDE, **info: Any) -> None:
    config = DataConfig(side, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bilinear")
    save_checkpoint(folder, network.state_dict(), architecture=ARCHITECTURE, data_config=config, info=info)


def save_stage1(models: Path) -> None:
    torch.manual_seed(0)
    network = create_network(ARCHITECTURE, pretrained=False, image_size=SIDE)
    with torch.no_grad():
        network.get_classifier().weight.mul_(400.0)  # an untrained network says nearly the same to every image
    save(models / "stage1", network)


def save_experts(models: Path) -> None:
    """Refit and folds of both experts, the second at 48 pixels."""
    for number, expert in enumerate(EXPERTS):
        side = (SIDE, 48)[number]
        start = initial_state(ARCHITECTURE, weights={}, image_size=side, embedding_dim=DIM, seed=number)
        shared = {name: value for name, value in start.items() if not name.startswith("backbone.")}
        draw = torch.Generator().manual_seed(number)
        shared["head.weight"] = 3 * torch.randn(shared["head.weight"].shape, generator=draw)
        for fold, subset in enumerate(["full", *(f"fold_{fold}" for fold in range(FOLDS))]):
            torch.manual_seed(100 * number + fold + 1)
            network, _ = build_expert(ARCHITECTURE, weights={}, image_size=side, embedding_dim=DIM)
            network.load_state_dict(shared, strict=False)
            save(models / "experts" / expert / subset, network, side=side, embedding_dim=DIM)


def save_both_levels(models: Path) -> None:
    """Meta-model and thresholds; a third of the images leaves on either side, and a third is deferred."""
    rng = np.random.default_rng(1)
    maps = {
        (expert, fold): Alignment(rng.normal(size=DIM), np.linalg.qr(rng.normal(size=(DIM, DIM)))[0], np.zeros(DIM))
        for expert in EXPERTS
        for fold in range(FOLDS)
    }
    save_alignments(models / "meta/alignment.safetensors", maps)
    save_meta(models / "meta", MetaModel("mean_logit", EXPERTS), {"test_time_mode": "fold_average", "join": JOIN})
    images = [np.asarray(Image.fromarray(image).resize((SIDE, SIDE))) for image in smooth_images(60)]
    logits, embeddings = embed_arrays(load_predictor(models / "stage1", device="cpu"), np.stack(images))
    logits, seen = logits / 1.5, fit_seen(embeddings)
    save_seen(models / "stage1", seen)
    low, high = (float(value) for value in np.quantile(expit(logits), [1 / 3, 2 / 3]))
    assert high - low > 0.01, "stage 1 says the same to every image"
    levels = [{"network": "stage1", "temperature": 1.5, "join": None}]
    levels.append({"network": "ensemble", "temperature": 2.0, "join": ALONE})
    record = {"levels": levels, "unsure": None, "decode": asdict(DECODE)}
    record["explanation"] = EXPLANATION
    # Far enough for every image of these tests.
    record["unlike_distance"] = 3 * float(seen.distances(embeddings).max())
    write_json(models / "cascade/cascade.json", record | {"exit_real": low, "exit_forged": high})


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder: stage 1, two experts with refit and two folds, meta-model, cascade."""
    models = tmp_path_factory.mktemp("cascade") / "models"
    models.mkdir()
    save_stage1(models)
    save_experts(models)
    save_both_levels(models)
    write_sums(models, SHIPPED)
    return models


@pytest.fixture(scope="session")
def cascade(tiny_models: Path) -> Cascade:
    return load(tiny_models)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of 24 images in three formats."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, pixels in enumerate(smooth_images(24)):
        Image.fromarray(pixels).save(folder / f"{number:02}.{('png', 'jpg', 'webp')[number % 3]}")
    return folder


@pytest.fixture
def start(tiny_models: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Begins ``assay predict`` as a process in ``tmp_path`` with the tiny models; arguments may be bytes."""

    def heed_interrupts() -> None:
        # A shell's background job ignores SIGINT, nohup SIGHUP, and they would hand that on to what is started here.
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    def begin(*arguments: str | bytes, **streams: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "assay.cli", "predict", "--models", str(tiny_models), "--device", "cpu"]
        # Names and output must not depend on the locale.
        variables = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "LC_ALL": "C"}
        variables.pop("TQDM_DISABLE", None)
        return subprocess.Popen(
            [*command, *arguments], cwd=tmp_path, env=variables, preexec_fn=heed_interrupts, **streams
        )

    return begin


@pytest.fixture
def assay(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Iterator[Callable[..., tuple[int, bytes, str]]]:
    """The same command called in this process: exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfdbinary.readouterr()
        try:
            status = main(["predict", "--models", str(tiny_models), "--device", "cpu", "--threads", "1", *arguments])
        except SystemExit as stop:
            status = int(str(stop.code))
        shown = capfdbinary.readouterr()
        return status, shown.out, shown.err.decode()

    # The command sets these for its process.
    handler = signal.getsignal(signal.SIGTERM)
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield call
    signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)
