"""Decode a list of images in processes that can be ended, in order and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from assay.core.parallel import Ended
from assay.core.worker import reserve
from assay.data.decode import ImageInfo, ImageRejected, Reason, decode_with_info
from assay.data.decoders import decoders, rejection
from assay.images.duplicates import Fingerprint, fingerprint
from assay.images.model.store import fit_square

if TYPE_CHECKING:
    from assay.params.images import Prepare
    from assay.params.shared import Limits

# Decoded images that wait for the caller, a process's: so many, and of so many bytes together.
CHUNK = 64
CHUNK_BYTES = 2**22
# What an image's header says, and manifests repeat.
FACTS = ["width", "height", "format", "file_bytes", "jpeg_quality"]


@dataclass(frozen=True)
class DecodeSettings:
    """How an image becomes a row of the pixel store."""

    side: int
    resize: str
    max_pixels: int
    min_side: int
    hash_side: int


def decode_settings(settings: Prepare, *, side: int) -> DecodeSettings:
    """How ``prepare`` makes a row of the pixel store, for images of another side if need be."""
    return DecodeSettings(
        side=side,
        resize=settings.resize,
        max_pixels=settings.max_pixels,
        min_side=settings.min_side,
        hash_side=settings.near_duplicates.hash_side,
    )


@dataclass(frozen=True)
class Decoded:
    """One image: pixels uint8 [S, S, 3], its header and fingerprint (None for a flat image)."""

    pixels: np.ndarray
    info: ImageInfo
    fingerprint: Fingerprint | None


@dataclass(frozen=True)
class Refused:
    """Why a file gave no image."""

    reason: str
    detail: str


def decode_one(path: str, *, settings: DecodeSettings, max_bytes: int) -> Decoded | Refused:
    """Read, check, hash and resize one file."""
    limits = {"max_pixels": settings.max_pixels, "min_side": settings.min_side, "max_bytes": max_bytes}
    try:
        pixels, info = decode_with_info(path, **limits, reserve=reserve)
        found = fingerprint(pixels, hash_side=settings.hash_side)
        return Decoded(fit_square(pixels, settings.side, resize=settings.resize), info, found)
    except ImageRejected as error:
        return _refused(error)
    except (MemoryError, cv2.error) as error:
        return Refused(str(Reason.TOO_MUCH_MEMORY), type(error).__name__)


def _refused(error: ImageRejected) -> Refused:
    return Refused(str(error.reason), error.detail)


def decode_all(
    paths: Sequence[str], settings: DecodeSettings, *, workers: int, limits: Limits
) -> Iterator[Decoded | Refused]:
    """One result per path, in the order of ``paths``; only a few chunks are held at a time."""
    step = max(1, min(CHUNK, CHUNK_BYTES // (3 * settings.side**2)))
    limit, seconds = settings.max_pixels, limits.picture_seconds
    with decoders(decode_one, count=workers, max_pixels=limit, seconds=seconds) as processes:
        results = processes.map(paths, chunk=step, settings=settings, max_bytes=limits.picture_bytes)
        for _, result in results:
            yield _refused(rejection(result)) if isinstance(result, Ended) else result
