"""Pictures from strangers, decoded in processes that are ended where one takes too long, too much memory, or crashes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from assay.core.parallel import Ended, Limits, Why, Workers
from assay.core.worker import reserve
from assay.data.decode import MAX_FILE_BYTES, ImageInfo, ImageRejected, Reason, decode_with_info, probe

Result = TypeVar("Result")

SECONDS = 10.0
"""Of processor time for one picture, where nobody says otherwise."""


@dataclass(frozen=True)
class PictureLimits:
    """What a picture's file may hold, and what decoding it may take: ``seconds`` are of processor time."""

    max_pixels: int
    min_side: int = 1
    max_bytes: int = MAX_FILE_BYTES
    seconds: float = SECONDS


def decoders(
    function: Callable[..., Result], *, count: int, max_pixels: int, seconds: float = SECONDS
) -> Workers[Result]:
    """Processes that call a function that decodes pictures, one at a time.

    A process has 0.75 GiB and 24 bytes for each of ``max_pixels``: more than any decoder was seen to take (8 to 10 bytes a
    pixel, WebP 17). All together decode ``max_pixels`` at a time, not counting small pictures.
    """
    memory = 3 * 2**28 + 24 * max_pixels
    return Workers(function, count=count, limits=Limits(seconds=seconds, memory=memory, at_once=max_pixels))


def rejection(ended: Ended) -> ImageRejected:
    """Why a picture can't be used over which its process ended."""
    return ImageRejected(Reason.TOO_SLOW if ended.why == Why.TIME else Reason.CRASHED, ended.detail)


def header_or_reason(path: str | Path, *, limits: PictureLimits, whole: bool) -> ImageInfo | ImageRejected:
    """What a picture's header says, or why it can't be used; ``whole``: its pixels are decoded, too, and forgotten."""
    try:
        if not whole:
            return probe(path, max_pixels=limits.max_pixels, max_bytes=limits.max_bytes)
        options = {"max_pixels": limits.max_pixels, "min_side": limits.min_side, "max_bytes": limits.max_bytes}
        _, info = decode_with_info(path, **options, reserve=reserve)
    except ImageRejected as error:
        return error
    return info
