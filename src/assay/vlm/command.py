"""``assay corridor``: images in, a row each out: label, class probabilities of the first model, and corrected ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.core.parallel import Workers
from assay.data.decode import MAX_FILE_BYTES
from assay.data.image_inputs import Input, Row, begin_rows, decoded
from assay.shipped.opening import Opening, patterns_of
from assay.vlm.examples import encode, pad
from assay.vlm.fusion import FUSION
from assay.vlm.network import MERGE, PATCH
from assay.vlm.prediction import CorridorPredictor, Scorer, open_predictor, read_fusion, second_folders
from assay.vlm.scoring import answer_log_probs, answer_tokens

# A smaller image gives the model less than one token.
MIN_SIDE = PATCH * MERGE
# Images decoded while one is encoded, which takes longer.
AHEAD = 3
TEXTS = ("path", "status", "reason", "label", "name")
Encoded = list[dict[str, torch.Tensor]]


def open_corridor(
    models: Path, *, device: str, batch_size: int, max_pixels: int, verify: bool = True
) -> CorridorPredictor:
    """The predictor of a models folder, its files compared with SHA256SUMS if ``verify``.

    The base and the processor of its adapters, which lie elsewhere, are always compared with the hashes in their manifests.

    Raises:
        ValueError: something is missing, damaged or does not belong together: what, and the command that makes it.
    """
    with Opening(models, "vlm_predict", verify) as opening:
        opening.check(FUSION)
        opening.check(*patterns_of(["sft/base", *second_folders(read_fusion(models))]))
        return open_predictor(models, device=device, batch_size=batch_size, decode_pixels=max_pixels)


def numbers(predictor: CorridorPredictor) -> list[str]:
    """The columns of a row that hold numbers."""
    names = predictor.base.prompt.names
    return ["confidence", *(f"{kind}_{name}" for kind in ("base", "corrected") for name in names)]


def encode_image(predictor: CorridorPredictor, pixels: np.ndarray) -> Encoded:
    """What each model takes, the base first: it is small however large the image is."""
    scorers = (predictor.base, *predictor.high_risk)
    # Pixels are given: the name in the record is not looked at.
    return [encode(item.processor, item.prompt.record("image"), pixels) for item in scorers]


def score(scorer: Scorer, rows: Sequence[Mapping[str, torch.Tensor]]) -> np.ndarray:
    """Log-probabilities float64 [n, C] of the classes, each row normalised over the classes, not calibrated."""
    tokenizer = scorer.processor.tokenizer
    batch = pad(rows, pad_token_id=tokenizer.pad_token_id)
    try:
        found = answer_log_probs(scorer.model, batch, answer_tokens(tokenizer, scorer.prompt.answers))
    except torch.OutOfMemoryError as error:
        raise ValueError(f"out of memory with {len(rows)} image(s) at a time: lower --batch-size") from error
    return found.log_softmax(-1).numpy()


def judge_batch(predictor: CorridorPredictor, batch: Sequence[tuple[Input, Encoded | str]]) -> list[Row]:
    """One row per input, in order; one that gave no image has status ``error`` and a reason."""
    measured = numbers(predictor)
    rows, images = begin_rows(batch, [*TEXTS, *measured])
    if images:
        first, *seconds = (
            score(scorer, [encoded[number] for _, encoded in images])
            for number, scorer in enumerate((predictor.base, *predictor.high_risk))
        )
        base, corrected = predictor.combine(first, seconds)
        prompt = predictor.base.prompt
        for (row, _), before, after in zip(images, base, corrected, strict=True):
            best = int(after.argmax())
            values = [after[best], *before, *after]
            row |= {"label": prompt.labels[best], "name": prompt.names[best]}
            row |= {name: round(float(value), 6) for name, value in zip(measured, values, strict=True)}
    return rows


def judge(
    predictor: CorridorPredictor,
    inputs: Iterable[Input],
    *,
    readers: Workers[np.ndarray | str],
    batch_size: int,
    max_pixels: int,
    max_bytes: int = MAX_FILE_BYTES,
) -> Iterator[Row]:
    """Rows of many inputs, a batch at a time; ``readers`` call `assay.vlm.reading.read_image`.

    Each image is decoded once; memory holds `AHEAD` + 1 of them at their full size, and a batch as the models see it.
    """
    options = {"min_side": MIN_SIDE, "max_pixels": max_pixels, "max_bytes": max_bytes}
    images = decoded(readers, inputs, ahead=AHEAD, **options)
    encoded = ((item, found if isinstance(found, str) else encode_image(predictor, found)) for item, found in images)
    while batch := list(islice(encoded, batch_size)):
        yield from judge_batch(predictor, batch)


def sentence(row: Mapping[str, Any], predictor: CorridorPredictor) -> str:
    """A row of `judge` in words, for a person."""
    if row["status"] == "error":
        return f"{row['path']}: error: {row['reason']}"
    names, best = predictor.base.prompt.names, row["name"]
    first = max(names, key=lambda name: row[f"base_{name}"])
    said = f"{row['path']}: {row['label']} ({best}) {row['confidence']:.2f} after correction"
    said += f", {row[f'base_{best}']:.2f} before"
    if first != best:
        said += f", when {first} was first with {row[f'base_{first}']:.2f}"
    others = ", ".join(f"{name} {row[f'corrected_{name}']:.2f}" for name in names if name != best)
    return f"{said}; {others}"
