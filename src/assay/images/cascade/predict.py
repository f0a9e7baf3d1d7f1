"""``assay predict``: files, folders and lists in, one row per input out, in order and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

import cv2
import numpy as np

from assay.data.decode import decode_rgb
from assay.data.image_inputs import Input, Row, begin_rows, in_threads, pixels_or_reason
from assay.images.cascade.model import Cascade
from assay.images.decode_set import DecodeSettings
from assay.images.model.store import fit_square

COLUMNS = ["path", "verdict", "probability", "decided_by", "warning", "status", "reason"]
NUMBERS = ("probability",)


def read_image(item: Input, settings: DecodeSettings) -> np.ndarray | str:
    """Pixels uint8 [S, S, 3] as ``prepare`` would store them, or why there are none."""

    def read(path: str) -> np.ndarray:
        pixels = decode_rgb(path, max_pixels=settings.max_pixels, min_side=settings.min_side)
        return fit_square(pixels, settings.side, resize=settings.resize)

    return pixels_or_reason(item, read, too_large=(MemoryError, cv2.error))


def predict_batch(cascade: Cascade, batch: Sequence[tuple[Input, np.ndarray | str]]) -> list[Row]:
    """One row per input, in order; one that gave no image has status ``error`` and a reason."""
    rows, images = begin_rows(batch, COLUMNS)
    if images:
        found = cascade.decide(np.stack([pixels for _, pixels in images]))
        columns = zip(found.verdicts, found.probs, found.decided_by, found.warnings, strict=True)
        for (row, _), (verdict, prob, by, warning) in zip(images, columns, strict=True):
            row |= {"verdict": str(verdict), "probability": round(float(prob), 6), "decided_by": str(by)}
            row["warning"] = warning
    return rows


def predict_paths(
    cascade: Cascade, inputs: Iterable[Input], *, batch_size: int, decode_threads: int = 1
) -> Iterator[Row]:
    """Rows of many inputs, a batch at a time.

    Memory holds at most three batches of decoded images, and ``decode_threads`` images at their full size.
    """
    read = partial(read_image, settings=cascade.decode)
    decoded = in_threads(read, inputs, workers=decode_threads, ahead=2 * batch_size)
    while batch := list(islice(decoded, batch_size)):
        yield from predict_batch(cascade, batch)
