"""A picture as the cascade takes it; imported by the processes that decode, it needs no network's library."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from assay.core.worker import reserve
from assay.data.decode import decode_rgb
from assay.data.image_inputs import Input, pixels_or_reason
from assay.images.model.store import fit_square


def limit_of(models: Path) -> int:
    """Pixels of the largest picture that the cascade of a models folder takes.

    Raises:
        ValueError: its record does not say.
    """
    # The processes that decode do without it.
    from assay.shipped.records import CascadeRecord, read_record

    return read_record(models / "cascade" / "cascade.json", CascadeRecord).decode.max_pixels


def read_square(
    item: Input, *, side: int, resize: str, max_pixels: int, min_side: int, max_bytes: int
) -> np.ndarray | str:
    """Pixels uint8 [S, S, 3] as ``prepare`` would store them, or why there are none."""

    def read(path: str) -> np.ndarray:
        pixels = decode_rgb(path, max_pixels=max_pixels, min_side=min_side, max_bytes=max_bytes, reserve=reserve)
        return fit_square(pixels, side, resize=resize)

    return pixels_or_reason(item, read, too_large=(MemoryError, cv2.error))
