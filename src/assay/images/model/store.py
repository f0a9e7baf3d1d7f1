"""Pixels decoded once: a uint8 array on disk that every later stage maps into memory.

``pixels/pixels.npy`` holds uint8 [n, S, S, 3]; ``pixels_index.csv`` names the ``sample_id`` of every row; ``pixels.json``
holds the array's shape and the SHA-256 of its values, so that a reader can key a resume checkpoint without hashing it
again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from assay.core.io import atomic_path, read_json, read_npy, write_csv, write_json

PIXELS, INDEX, META = "pixels/pixels.npy", "pixels/pixels_index.csv", "pixels/pixels.json"


def fit_square(pixels: np.ndarray, side: int, *, resize: str) -> np.ndarray:
    """One image uint8 [H, W, 3] as uint8 [side, side, 3].

    ``crop`` takes the middle square first; ``squash`` changes the aspect ratio. Area averaging when made smaller.
    """
    if resize == "crop":
        edge = min(pixels.shape[:2])
        top, left = (pixels.shape[0] - edge) // 2, (pixels.shape[1] - edge) // 2
        pixels = pixels[top : top + edge, left : left + edge]
    if pixels.shape[:2] == (side, side):
        return np.ascontiguousarray(pixels)
    method = cv2.INTER_AREA if min(pixels.shape[:2]) >= side else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(pixels), (side, side), interpolation=method)


class StoreWriter:
    """Appends images to a pixel store; memory does not grow with their number."""

    def __init__(self, path: Path, side: int) -> None:
        self._file = path.open("wb")
        self._side = side
        self._digest = hashlib.sha256()
        self.count = 0
        self._write_header()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[n, S, S, 3] of what was appended."""
        return self.count, self._side, self._side, 3

    def append(self, images: np.ndarray) -> None:
        """Add uint8 [k, S, S, 3]."""
        assert images.shape[1:] == self.shape[1:], images.shape
        assert images.dtype == np.uint8
        data = np.ascontiguousarray(images).tobytes()
        self._file.write(data)
        self._digest.update(data)
        self.count += len(images)

    def close(self) -> dict[str, object]:
        """Finish the file; returns what belongs into pixels.json."""
        with self._file:
            self._file.seek(0)
            self._write_header()
        return {"shape": list(self.shape), "sha256": self._digest.hexdigest()}

    def _write_header(self) -> None:
        # NumPy pads the header for growth along the first axis, so its length does not depend on the count.
        header = {"descr": "|u1", "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(self._file, header)


@contextmanager
def open_writer(folder: Path, *, side: int, sample_ids: list[str]) -> Iterator[StoreWriter]:
    """Write a store into ``folder``; ``sample_ids`` is read at the end, one per appended image."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / PIXELS) as temporary:
        writer = StoreWriter(temporary, side)
        try:
            yield writer
        finally:
            meta = writer.close()
    assert writer.count == len(sample_ids), (writer.count, len(sample_ids))
    write_csv(folder / INDEX, pd.DataFrame({"sample_id": sample_ids}))
    write_json(folder / META, meta)


@dataclass(frozen=True)
class PixelStore:
    """A pixel store open for reading."""

    pixels: np.ndarray
    rows: pd.Series
    sha256: str

    @property
    def side(self) -> int:
        return int(self.pixels.shape[1])

    def rows_of(self, sample_ids: Sequence[str]) -> np.ndarray:
        """Row numbers int64 [n] of these samples.

        Raises:
            ValueError: samples that the store does not hold.
        """
        found = self.rows.reindex(list(sample_ids))
        if found.isna().any():
            missing = list(found.index[found.isna()])
            raise ValueError(f"{len(missing)} sample(s) are not in the pixel store: {missing[:5]}; run prepare again")
        return found.to_numpy(dtype=np.int64)


def open_store(folder: Path) -> PixelStore:
    """Map the store of ``folder`` into memory, read-only.

    Raises:
        ValueError: files that do not belong together.
    """
    pixels = read_npy(folder / PIXELS, mmap=True)
    ids = pd.read_csv(folder / INDEX, dtype=str)["sample_id"]
    meta = read_json(folder / META)
    if list(pixels.shape) != meta["shape"] or len(ids) != len(pixels):
        raise ValueError(f"{folder}: {PIXELS} {pixels.shape}, {INDEX} ({len(ids)}) and {META} {meta['shape']} disagree")
    return PixelStore(pixels, pd.Series(np.arange(len(ids)), index=ids.to_numpy()), str(meta["sha256"]))
