"""One fine-tuning with LoRA from its rows to a saved adapter, for the first model and the second alike."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from sklearn.utils.class_weight import compute_sample_weight

from assay.core.io import read_json, sha256_bytes, write_json
from assay.core.resume import ROOT, resume_key
from assay.core.torch_setup import pick_device
from assay.params.vlm import Tuning, Vlm, VlmSftHighRisk
from assay.training.networks import folder_hashes
from assay.vlm.examples import Cache, Examples
from assay.vlm.network import RECORD, add_adapter, load_base, manifest, merge_adapter
from assay.vlm.processor import load_processor
from assay.vlm.prompts import Prompt, prompt_from_json
from assay.vlm.training import HISTORY, LIBRARIES, Weighted, train, training_arguments

ROWS = Path("data/vlm/rows")
ADAPTER, HISTORY_FILE = "adapter", "history.json"


@dataclass(frozen=True)
class Setup:
    """What the trainings of a stage have in common."""

    stage: str
    settings: Tuning
    base: Path
    processor_folder: Path
    processor: Any
    prompt: Prompt
    pixels: tuple[int, int]
    seed: int
    device: str
    workers: int
    decode_pixels: int
    cache: Cache = field(default_factory=Cache)


def set_up(params: Vlm, stage: str, settings: Tuning, *, base: Path, asked: str) -> Setup:
    """What all trainings of ``stage`` share; ``asked`` is the question's key in prompt.json."""
    prepared = params.prepare_vlm
    pixels = prepared.min_pixels, prepared.max_pixels
    return Setup(
        stage=stage,
        settings=settings,
        base=base,
        processor_folder=ROWS / "processor",
        processor=load_processor(ROWS / "processor", min_pixels=pixels[0], max_pixels=pixels[1]),
        prompt=prompt_from_json(read_json(ROWS / "prompt.json")[asked]),
        pixels=pixels,
        seed=params.runtime.seed,
        device=params.runtime.device,
        workers=params.runtime.workers,
        decode_pixels=params.render_corridors.max_pixels,
    )


def class_weights(labels: Sequence[str], how: str) -> list[float]:
    """Weight of each row in the loss: 1, or ``balanced``: n / (num_classes * rows of its class), of scikit-learn."""
    if how == "none":
        return [1.0] * len(labels)
    weights: list[float] = compute_sample_weight("balanced", list(labels)).tolist()
    return weights


def draw_weights(labels: Sequence[str], settings: VlmSftHighRisk, *, high: str, near: Sequence[str]) -> list[float]:
    """How often each row is drawn, so that high risk and its near misses get their shares of the draws.

    Raises:
        ValueError: a share above 0 has no rows.
    """
    part = np.array([0 if label == high else 1 if label in near else 2 for label in labels])
    shares = np.array([settings.high_share, settings.near_share, 1 - settings.high_share - settings.near_share])
    counts = np.bincount(part, minlength=3)
    if ((shares > 1e-9) & (counts == 0)).any():
        raise ValueError(f"high_share, near_share and the rest are {shares.tolist()} of the draws, of {counts} rows")
    return (shares[part] / counts[part]).tolist()


def fine_tune(
    name: str,
    records: Sequence[Mapping[str, Any]],
    setup: Setup,
    *,
    num_rows: int,
    order_seed: int,
    draw: Sequence[float] | None = None,
) -> tuple[Path, list[dict[str, Any]]]:
    """Train one adapter.

    Finished ones are kept until the stage ends, in a folder named after all that decides the result, so that a killed
    stage trains none twice.

    Args:
        records: answered conversations.
        num_rows: an epoch has so many, whatever the number of records: networks to be compared take equally many steps.
        order_seed: decides the order of the rows and nothing else.
        draw: see `assay.vlm.training.train`.

    Returns:
        The folder of the adapter, and the history.
    """
    settings = setup.settings
    cpu = pick_device(setup.device).type == "cpu"
    key = resume_key(
        libraries=LIBRARIES,
        params=settings.model_dump(),
        prompt=setup.prompt.to_json(),
        pixels=list(setup.pixels),
        seeds=[setup.seed, order_seed],
        cpu=cpu,
        num_rows=num_rows,
        draw=None if draw is None else list(draw),
        files=[folder_hashes(setup.base), folder_hashes(setup.processor_folder)],
        records=sha256_bytes(repr([sorted(record.items()) for record in records]).encode()),
    )
    work = ROOT / f"{setup.stage}-{name}-{key}"
    if (work / HISTORY_FILE).is_file():
        print(f"{name}: finished before", flush=True)
        # JSON has sorted the keys, and history.csv takes its columns from their order.
        rows = read_json(work / HISTORY_FILE)
        return work / ADAPTER, [{key: row[key] for key in ("network", *HISTORY)} for row in rows]
    model = load_base(setup.base, weights_dtype=settings.weights_dtype, processor=setup.processor)
    model = add_adapter(model, settings, seed=setup.seed)
    how: dict[str, Any] = {"root": Path(), "max_pixels": setup.decode_pixels, "cache": setup.cache}
    examples = Examples(records, setup.processor, **how)
    rows = Weighted(examples, class_weights([record["label"] for record in records], settings.class_weights))
    arguments = training_arguments(
        settings.model_copy(update={"epochs": settings.epochs * num_rows / len(records)}),
        work / "checkpoints",
        num_rows=len(records),
        seed=setup.seed,
        order_seed=order_seed,
        cpu=cpu,
        workers=setup.workers,
    )
    print(f"{name}: {len(records)} conversations", flush=True)
    pad_token_id = setup.processor.tokenizer.pad_token_id
    history = train(model, rows, arguments, pad_token_id=pad_token_id, name=name, draw=draw, save_to=work / ADAPTER)
    if PartialState().is_main_process:
        prompt = setup.prompt.to_json() | {"min_pixels": setup.pixels[0], "max_pixels": setup.pixels[1]}
        record = manifest(setup.base, setup.processor_folder, prompt, model=model, weights_dtype=settings.weights_dtype)
        write_json(work / ADAPTER / RECORD, record)
        if settings.merge:
            merge_adapter(work / ADAPTER, setup.processor)
        write_json(work / HISTORY_FILE, history)
    PartialState().wait_for_everyone()
    return work / ADAPTER, history


def collect(stage: str, adapters: Mapping[str, Path], output: Path) -> None:
    """Copy finished adapters to ``output``/<name> and forget how far the stage had come."""
    for name, folder in adapters.items():
        shutil.copytree(folder, output / name, dirs_exist_ok=True)
    for folder in ROOT.glob(f"{stage}-*"):
        shutil.rmtree(folder)
