"""Decode a list of images in several processes, in order and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from assay.core.parallel import ordered_map
from assay.data.decode import ImageInfo, ImageRejected, decode_with_info
from assay.images.duplicates import Fingerprint, fingerprint
from assay.images.model.store import fit_square
from assay.params.images import Prepare

# Decoded images that travel between processes at a time: so many, and of so many bytes together.
CHUNK = 64
CHUNK_BYTES = 2**22


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


def _decode(path: str, settings: DecodeSettings) -> Decoded | Refused:
    """Read, check, hash and resize one file."""
    try:
        pixels, info = decode_with_info(path, max_pixels=settings.max_pixels, min_side=settings.min_side)
    except ImageRejected as error:
        return Refused(str(error.reason), error.detail)
    found = fingerprint(pixels, hash_side=settings.hash_side)
    return Decoded(fit_square(pixels, settings.side, resize=settings.resize), info, found)


def _decode_chunk(paths: list[str], *, settings: DecodeSettings) -> list[Decoded | Refused]:
    return [_decode(path, settings) for path in paths]


def decode_all(paths: Sequence[str], settings: DecodeSettings, *, workers: int) -> Iterator[Decoded | Refused]:
    """One result per path, in the order of ``paths``; only a few chunks are held at a time."""
    step = max(1, min(CHUNK, CHUNK_BYTES // (3 * settings.side**2)))
    chunks = (list(paths[start : start + step]) for start in range(0, len(paths), step))
    for results in ordered_map(partial(_decode_chunk, settings=settings), chunks, workers=workers):
        yield from results
