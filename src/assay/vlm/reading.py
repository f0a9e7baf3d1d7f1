"""A picture as both models of the vlm line take it; imported by the processes that decode, it needs no network's library."""

from __future__ import annotations

import numpy as np

from assay.core.worker import reserve
from assay.data.decode import decode_rgb
from assay.data.image_inputs import Input, pixels_or_reason
from assay.vlm.own_pictures import ASPECT


def read_image(item: Input, *, min_side: int, max_pixels: int, max_bytes: int) -> np.ndarray | str:
    """Pixels uint8 [H, W, 3], or why there are none: the limits are those of the training images."""

    def read(path: str) -> np.ndarray | str:
        pixels = decode_rgb(path, max_pixels=max_pixels, min_side=min_side, max_bytes=max_bytes, reserve=reserve)
        height, width, _ = pixels.shape
        if max(height, width) > ASPECT * min(height, width):
            return f"too_narrow: {width}x{height} pixels; one side may be {ASPECT} times the other at most"
        return pixels

    return pixels_or_reason(item, read)
