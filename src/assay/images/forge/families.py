"""From photographs to pairs of real and forged crops on disk.

Photographs are decoded and grouped and groups get their role before anything is cropped, learned or forged. The
generator of ``recon`` learns from photographs of the train role alone; ``splice`` takes donors from its own role.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from assay.images.forge import forging
from assay.params.images import Forge

Reconstruct = Callable[[np.ndarray], np.ndarray]

# The autoencoder learns from at most this many crops, which bounds its memory whatever the number of photographs.
MAX_GENERATOR_CROPS = 4000
# How a crop is forged, by family; recon has a network of its own.
FORGERS: dict[str, Callable[..., np.ndarray]] = {
    "blend": forging.blend,
    "splice": forging.splice,
    "inpaint": forging.inpaint,
    "resample": forging.resample,
}


@dataclass(frozen=True)
class Photo:
    """A decoded photograph, scaled to the largest short side that crops are cut from, kept on disk."""

    name: str
    group: str
    role: str
    pixels: Path

    def load(self) -> np.ndarray:
        """uint8 [H, W, 3], memory-mapped."""
        return np.load(self.pixels, mmap_mode="r", allow_pickle=False)


def scale_to_short_side(pixels: np.ndarray, short_side: float) -> np.ndarray:
    """The photograph with its shorter side at ``short_side`` pixels (never enlarged)."""
    height, width = pixels.shape[:2]
    factor = short_side / min(height, width)
    if factor >= 1:
        return pixels
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def cut_crop(photo: np.ndarray, rng: np.random.Generator, settings: Forge) -> np.ndarray:
    """A random square crop at a random scale, uint8 [size, size, 3]; of five flat ones the one of most contrast."""
    best, best_contrast = None, -1.0
    for _ in range(5):
        short = rng.uniform(settings.short_side[0], settings.short_side[1])
        edge = min(round(settings.size * min(photo.shape[:2]) / short), min(photo.shape[:2]))
        top = int(rng.integers(photo.shape[0] - edge + 1))
        left = int(rng.integers(photo.shape[1] - edge + 1))
        region = np.ascontiguousarray(photo[top : top + edge, left : left + edge])
        crop = cv2.resize(region, (settings.size, settings.size), interpolation=cv2.INTER_AREA)
        contrast = float(crop.mean(axis=2).std())
        if contrast >= settings.min_contrast:
            return crop
        if contrast > best_contrast:
            best, best_contrast = crop, contrast
    assert best is not None
    return best


def encode_jpeg(crop: np.ndarray, *, quality: int) -> bytes:
    """JPEG bytes of a crop, 4:2:0, the same encoder for real and forged."""
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, "JPEG", quality=quality, subsampling=2)
    return buffer.getvalue()


def generator_crops(photos: list[Photo], settings: Forge, *, seed: int) -> np.ndarray:
    """Crops for training the ``recon`` generator, from photographs of the train role: uint8 [n, S, S, 3]."""
    train = [photo for photo in photos if photo.role == "train"]
    if not train:
        raise ValueError("role train holds no photograph for family recon to learn from: add photographs")
    each = max(1, min(settings.crops_per_photo, MAX_GENERATOR_CROPS // len(train)))
    crops: list[np.ndarray] = []
    for number, photo in enumerate(train):
        rng = np.random.default_rng([seed, 1, number])
        pixels = photo.load()
        crops.extend(cut_crop(pixels, rng, settings) for _ in range(each))
    return np.stack(crops)


def families_for(position: int, role: str, settings: Forge) -> list[str]:
    """Families the crop at this position is forged by: one seen family in turn, in test the unseen one as well."""
    chosen = [settings.seen[position % len(settings.seen)]]
    if role == "test" and settings.unseen is not None:
        chosen.append(settings.unseen)
    return [str(family) for family in chosen]


def forge_photo(
    number: int, photos: list[Photo], settings: Forge, *, seed: int, reconstruct: Reconstruct | None
) -> Iterator[tuple[str, str, bytes]]:
    """Yield (crop name, generator, JPEG bytes) of one photograph: each real crop, then what was forged from it."""
    photo = photos[number]
    rng = np.random.default_rng([seed, 2, number])
    pixels = photo.load()
    crops = np.stack([cut_crop(pixels, rng, settings) for _ in range(settings.crops_per_photo)])
    plan = [families_for(i, photo.role, settings) for i in range(len(crops))]
    copies = reconstruct(crops) if reconstruct is not None and any("recon" in names for names in plan) else None
    donors = [other for other in photos if other.role == photo.role and other.group != photo.group]
    for position, crop in enumerate(crops):
        quality = int(rng.integers(settings.jpeg_quality[0], settings.jpeg_quality[1] + 1))
        stem = f"{photo.name}_{position:04d}"
        yield stem, "real", encode_jpeg(crop, quality=quality)
        for family in plan[position]:
            if family == "recon":
                assert copies is not None
                forged = copies[position]
            else:
                options = getattr(settings, family).model_dump()
                if family == "splice":
                    options["donor"] = cut_crop(donors[int(rng.integers(len(donors)))].load(), rng, settings)
                forged = FORGERS[family](crop, rng, **options)
            yield stem, family, encode_jpeg(forged, quality=quality)


def check_donors(photos: list[Photo], settings: Forge) -> None:
    """Raise a ValueError when ``splice`` would find no other photograph in a role it forges for."""
    for role in sorted({photo.role for photo in photos}):
        needed = "splice" in settings.seen or (role == "test" and settings.unseen == "splice")
        if needed and len({photo.group for photo in photos if photo.role == role}) < 2:
            raise ValueError(
                f"role {role} holds one group of photographs only, so splice has no donor there: add photographs, "
                f"raise roles.{role}, or drop splice from forge.families"
            )


def manifest_row(photo: Photo, stem: str, generator: str) -> dict[str, object]:
    """One row of the forged set's manifest; the path is relative to the set's folder."""
    return {
        "path": f"{'real' if generator == 'real' else 'forged'}/{stem}_{generator}.jpg",
        "label": int(generator != "real"),
        "group": photo.group,
        "generator": generator,
        "role": photo.role,
    }


def manifest_frame(rows: list[dict[str, object]]) -> pd.DataFrame:
    """The manifest as a table; the columns stand even when there are no rows."""
    return pd.DataFrame(rows, columns=["path", "label", "group", "generator", "role"])
