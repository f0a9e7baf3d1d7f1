"""One fine-tuning with LoRA from its rows to a saved adapter, for the first model and the second alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState
from sklearn.utils.class_weight import compute_sample_weight

from assay.core.io import read_json, write_csv, write_json
from assay.core.resume import resumable
from assay.core.torch_setup import pick_device
from assay.params.vlm import AmplifierSettings, Tuning, Vlm, VlmSftHighRisk
from assay.vlm.examples import Examples
from assay.vlm.network import RECORD, add_adapter, load_base, manifest, merge_adapter
from assay.vlm.processor import load_processor
from assay.vlm.prompts import Prompt, prompt_from_json
from assay.vlm.training import Weighted, train, training_arguments

SOURCE = Path("data/vlm/source")
ROWS = Path("data/vlm/rows")


@dataclass(frozen=True)
class Setup:
    """What a training is given: the section of its stage, the network below the adapter, and the question."""

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


def set_up(params: Vlm, settings: Tuning, *, base: Path, asked: str) -> Setup:
    """The setup of a stage with the section ``settings``; ``asked`` is the question's key in prompt.json."""
    prepared = params.prepare_vlm
    pixels = prepared.min_pixels, prepared.max_pixels
    return Setup(
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


def class_weights(labels: Sequence[str], method: str) -> list[float]:
    """Weight of each row in the loss: 1, or ``balanced``: n / (num_classes * rows of its class), of scikit-learn."""
    if method == "none":
        return [1.0] * len(labels)
    weights: list[float] = compute_sample_weight("balanced", list(labels)).tolist()
    return weights


def draw_weights(
    labels: Sequence[str],
    settings: VlmSftHighRisk,
    *,
    high: str,
    near: Sequence[str],
    errors: Sequence[float] | None = None,
) -> list[float]:
    """How often each row is drawn, so that high risk and its near misses get their shares of the draws.

    Args:
        errors: of another model on rows that it was not trained on, |label - probability| of high risk in 0..1:
            ``settings.mistake_share`` of the draws goes to the rows in proportion to them. None: no draw does.

    Raises:
        ValueError: a share above 0 has no rows.
    """
    part = np.array([0 if label == high else 1 if label in near else 2 for label in labels])
    shares = np.array([settings.high_share, settings.near_share, 1 - settings.high_share - settings.near_share])
    counts = np.bincount(part, minlength=3)
    if ((shares > 1e-9) & (counts == 0)).any():
        raise ValueError(f"high_share, near_share and the rest are {shares.tolist()} of the draws, of {counts} rows")
    weights = shares[part] / counts[part]
    if errors is not None and sum(errors) > 0:
        # As boosting does (Freund and Schapire 1997), by how wrong and not by whether: few rows are wrong outright.
        missed = np.asarray(errors, dtype=np.float64)
        weights = (1 - settings.mistake_share) * weights + settings.mistake_share * missed / missed.sum()
    return weights.tolist()


def fine_tune(
    stage: str,
    records: Sequence[Mapping[str, Any]],
    setup: Setup,
    output: Path,
    *,
    num_rows: int,
    order_seed: int,
    draw: Sequence[float] | None = None,
    amplifier: AmplifierSettings | None = None,
) -> None:
    """Train one adapter; write it with its manifest and history.csv into ``output``.

    Args:
        stage: as DVC names it, ``vlm_sft@base``.
        records: answered conversations.
        output: a folder, empty or not there.
        num_rows: an epoch has so many, whatever the number of records: networks to be compared take equally many steps.
        order_seed: decides the order of the rows and nothing else.
        draw: see `assay.vlm.training.train`.
        amplifier: the gate of the network, see `assay.vlm.amplifier`.
    """
    settings, name = setup.settings, stage.partition("@")[2] or stage
    inputs = [SOURCE, ROWS / "prompt.json", setup.processor_folder, setup.base]
    params = {
        "settings": settings,
        "records": [dict(record) for record in records],
        "pixels": [*setup.pixels, setup.decode_pixels],
        "seeds": [setup.seed, order_seed],
        "device": setup.device,
        "num_rows": num_rows,
        "draw": None if draw is None else list(draw),
        "amplifier": amplifier,
    }
    with resumable(stage, params=params, inputs=inputs) as checkpoints:
        model = load_base(setup.base, weights_dtype=settings.weights_dtype, processor=setup.processor)
        model = add_adapter(model, settings, seed=setup.seed, amplifier=amplifier)
        examples = Examples(records, setup.processor, root=Path(), max_pixels=setup.decode_pixels)
        rows = Weighted(examples, class_weights([record["label"] for record in records], settings.class_weights))
        arguments = training_arguments(
            settings.model_copy(update={"epochs": settings.epochs * num_rows / len(records)}),
            checkpoints,
            num_rows=len(records),
            seed=setup.seed,
            order_seed=order_seed,
            cpu=pick_device(setup.device).type == "cpu",
            workers=setup.workers,
        )
        print(f"{name}: {len(records)} conversations", flush=True)
        pad_token_id = setup.processor.tokenizer.pad_token_id
        options: dict[str, Any] = {"draw": draw, "danger_weight": amplifier.danger_weight if amplifier else 0.0}
        history = train(model, rows, arguments, pad_token_id=pad_token_id, name=name, save_to=output, **options)
        if PartialState().is_main_process:
            prompt = setup.prompt.to_json() | {"min_pixels": setup.pixels[0], "max_pixels": setup.pixels[1]}
            options = {"model": model, "weights_dtype": settings.weights_dtype, "amplifier": amplifier}
            record = manifest(setup.base, setup.processor_folder, prompt, **options)
            write_json(output / RECORD, record)
            if settings.merge:
                merge_adapter(output, setup.processor)
            write_csv(output / "history.csv", pd.DataFrame(history))
        PartialState().wait_for_everyone()
    print(f"{name}: saved in {output}", flush=True)
