"""``assay predict``: files, folders and lists in, one row per input out, in order and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from assay.core.parallel import Workers
from assay.data.decode import MAX_FILE_BYTES
from assay.data.image_inputs import Input, Row, begin_rows, decoded
from assay.images.cascade.model import Cascade

COLUMNS = ["path", "verdict", "probability", "decided_by", "warning", "status", "reason"]
NUMBERS = ("probability",)


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
    cascade: Cascade,
    inputs: Iterable[Input],
    *,
    readers: Workers[np.ndarray | str],
    batch_size: int,
    max_bytes: int = MAX_FILE_BYTES,
) -> Iterator[Row]:
    """Rows of many inputs, a batch at a time; ``readers`` call `assay.images.cascade.reading.read_square`.

    Memory holds at most three batches of images of the store's size; at full size they are in the readers' memory.
    """
    settings = cascade.decode
    options = {name: getattr(settings, name) for name in ("side", "resize", "max_pixels", "min_side")}
    images = decoded(readers, inputs, ahead=2 * batch_size, max_bytes=max_bytes, **options)
    while batch := list(islice(images, batch_size)):
        yield from predict_batch(cascade, batch)
