"""From photographs to pairs of real and forged crops on disk.

Photographs are decoded and grouped and groups get their role and fold before anything is cropped, learned or forged. A
crop shows one scene and nothing else: ``splice`` and ``clone`` take their donor from the same scene, and the generator of
``recon`` learns from photographs that are set aside and stand in no role.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from assay.images.forge import forging
from assay.params.images import Forge

# What a family's network makes of crops, uint8 [n, S, S, 3] both.
Network = Callable[[np.ndarray], np.ndarray]

# The autoencoder learns from so many crops, whatever the number of photographs.
GENERATOR_CROPS = 2000
# A forgery that alters fewer pixels than this share, by more than LEAST_LEVELS of 255, is none to speak of: it would carry
# the label forged on a picture that is as good as real.
LEAST_CHANGE, LEAST_LEVELS = 0.01, 4
# Crops that are tried for one in which all forgeries show.
TRIES = 30
# How a crop is forged, by family; recon and superres have networks of their own.
FORGERS: dict[str, Callable[..., np.ndarray]] = {
    "blend": forging.blend,
    "clone": forging.clone,
    "inpaint": forging.inpaint,
    "patchmatch": forging.patchmatch,
    "resample": forging.resample,
    "splice": forging.splice,
}
# Families that paste from another crop of the scene.
FROM_DONOR = ("splice", "clone")


# ``group`` names every scene that a row shows; ``fold`` is empty outside the train role.
MANIFEST = ["path", "label", "group", "generator", "role", "fold"]


@dataclass(frozen=True)
class Photo:
    """A decoded photograph, scaled to the largest short side that crops are cut from, kept on disk.

    ``crops`` numbers its crops within the scene; ``fold`` is None outside the train role.
    """

    name: str
    group: str
    pixels: Path
    crops: range
    role: str
    fold: int | None = None

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
    """A random square crop at a random scale, uint8 [size, size, 3]; of five flat ones the one of most contrast.

    The photograph is made smaller to a short side drawn from ``short_side``, as far as its own reaches. It is never
    enlarged: the traces of that are what the family ``resample`` is forged by.
    """
    shortest = min(photo.shape[:2])
    low, high = settings.short_side[0], min(settings.short_side[1], shortest)
    assert high >= low, f"a photograph of {photo.shape} is smaller than short_side {settings.short_side}"
    best, best_contrast = None, -1.0
    for _ in range(5):
        edge = round(settings.size * shortest / rng.uniform(low, high))
        assert settings.size <= edge <= shortest
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


def set_aside(groups: Sequence[str], settings: Forge, *, seed: int) -> set[str]:
    """The groups whose photographs only the generator of ``recon`` learns from; none where it is not asked for.

    The largest groups, until they hold ``recon.photos``: a group counts as one scene, however many photographs it has.

    Args:
        groups: the group of each photograph.
        settings: of the section ``forge``.
        seed: decides between groups of one size.

    Raises:
        ValueError: no photograph would be left to forge.
    """
    if "recon" not in settings.families:
        return set()
    names, counts = np.unique(np.asarray(groups, dtype=object), return_counts=True)
    order = np.random.default_rng([seed, 3]).permutation(len(names))
    order = order[np.argsort(-counts[order], kind="stable")]
    needed = 1 + int(np.searchsorted(np.cumsum(counts[order]), settings.recon.photos))
    if needed >= len(names):
        raise ValueError(
            f"family recon sets {settings.recon.photos} photographs aside to learn from (forge.recon.photos), which leaves "
            f"none of {len(groups)} in {len(names)} group(s) to forge: add photographs, set forge.recon.photos lower, or "
            "drop recon from forge.families"
        )
    return {str(name) for name in names[order[:needed]]}


def crop_numbers(groups: Sequence[str], *, crops_per_scene: int) -> list[range]:
    """The crops of each photograph, numbered within its group, which shares out ``crops_per_scene``; one each at least."""
    sizes, done, numbers = Counter(groups), Counter[str](), list[range]()
    start = dict.fromkeys(sizes, 0)
    for group in groups:
        each, more = divmod(crops_per_scene, sizes[group])
        count = max(1, each + (done[group] < more))
        numbers.append(range(start[group], start[group] + count))
        start[group] += count
        done[group] += 1
    return numbers


def generator_crops(photos: Sequence[np.ndarray], settings: Forge, *, seed: int) -> np.ndarray:
    """Crops for training the ``recon`` generator, as many of each photograph: uint8 [n, S, S, 3], S ``recon.side``.

    They are small windows of the scale that crops have: it is made of convolutions and then runs at any size. Their colour
    channels are shuffled and half of them are negatives, since a few rooms have few colours and the generator is to draw
    scenes that it never saw.
    """
    crops: list[np.ndarray] = []
    settings = settings.model_copy(update={"size": settings.recon.side})
    for number, pixels in enumerate(photos):
        rng = np.random.default_rng([seed, 1, number])
        for _ in range(max(1, GENERATOR_CROPS // len(photos))):
            crop = cut_crop(pixels, rng, settings)[:, :, rng.permutation(3)]
            crops.append(255 - crop if rng.random() < 0.5 else crop)
    return np.stack(crops)


def families_for(position: int, role: str, settings: Forge) -> list[str]:
    """Families the crop at this position is forged by: one seen family in turn, in test an unseen one as well."""
    lists = [settings.seen, settings.unseen if role == "test" else []]
    return [str(families[position % len(families)]) for families in lists if families]


def share_changed(crop: np.ndarray, forged: np.ndarray) -> float:
    """The share of pixels that differ by more than `LEAST_LEVELS` in some channel; both uint8 [S, S, 3]."""
    difference = np.abs(forged.astype(np.int16) - crop).max(axis=2)
    return float((difference > LEAST_LEVELS).mean())


def forge_crop(
    crop: np.ndarray,
    family: str,
    rng: np.random.Generator,
    *,
    scene: Sequence[np.ndarray],
    settings: Forge,
    networks: Mapping[str, Network],
) -> np.ndarray:
    """The crop forged by ``family``; ``scene`` holds the photographs of its own group."""
    if family in networks:
        return networks[family](crop[None])[0]
    options = getattr(settings, family).model_dump()
    if family in FROM_DONOR:
        options["donor"] = cut_crop(scene[int(rng.integers(len(scene)))], rng, settings)
    return FORGERS[family](crop, rng, **options)


def forge_photo(
    number: int, photos: list[Photo], settings: Forge, *, seed: int, networks: Mapping[str, Network]
) -> Iterator[tuple[str, str, bytes]]:
    """Yield (crop name, generator, JPEG bytes) of one photograph: each real crop, then what was forged from it.

    ``networks``: of the families that have one.

    Raises:
        ValueError: a forgery leaves every crop of the photograph as it is.
    """
    photo = photos[number]
    rng = np.random.default_rng([seed, 2, number])
    pixels = photo.load()
    scene = [other.load() for other in photos if other.group == photo.group]
    for position in photo.crops:
        families, best, most = families_for(position, photo.role, settings), [], 0.0
        for _ in range(TRIES):
            crop = cut_crop(pixels, rng, settings)
            forge = partial(forge_crop, crop, rng=rng, scene=scene, settings=settings, networks=networks)
            made = [crop, *(forge(family) for family in families)]
            least = min(share_changed(crop, forged) for forged in made[1:])
            if least > most:
                best, most = made, least
            if most >= LEAST_CHANGE:
                break
        if not best:
            raise ValueError(
                f"photograph {photo.name}: {' or '.join(families)} changes none of {TRIES} crops by more than "
                f"{LEAST_LEVELS} of 255; it shows too little: remove it from fetch_photos.source"
            )
        quality = int(rng.integers(settings.jpeg_quality[0], settings.jpeg_quality[1] + 1))
        for family, image in zip(("real", *families), best, strict=True):
            yield f"{photo.name}_{position:04d}", family, encode_jpeg(image, quality=quality)


def matched_settings(photos: Sequence[Photo], settings: Forge) -> Forge:
    """Settings by which crops of all these photographs are cut at scales that each of them can give."""
    smallest = min(min(photo.load().shape[:2]) for photo in photos)
    low, high = settings.short_side
    return settings.model_copy(update={"short_side": [low, min(high, float(smallest))]})


def cut_photo(photo: Photo, settings: Forge, *, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield (crop name, JPEG bytes) of one picture that is only cut: the set of generated pictures, and its real ones.

    The crop of a number has one JPEG quality in every group, so that both halves have the same.
    """
    rng = np.random.default_rng([seed, 4, *photo.name.encode()])
    for position in photo.crops:
        crop = cut_crop(photo.load(), rng, settings)
        low, high = settings.jpeg_quality
        quality = int(np.random.default_rng([seed, 5, position]).integers(low, high + 1))
        yield f"{photo.name}_{position:04d}", encode_jpeg(crop, quality=quality)


def manifest_row(photo: Photo, stem: str, generator: str) -> dict[str, object]:
    """One row of the forged set's manifest; the path is relative to the set's folder."""
    return {
        "path": f"{'real' if generator == 'real' else 'forged'}/{stem}_{generator}.jpg",
        "label": int(generator != "real"),
        "group": photo.group,
        "generator": generator,
        "role": photo.role,
        "fold": photo.fold,
    }


def manifest_frame(rows: list[dict[str, object]]) -> pd.DataFrame:
    """The manifest as a table; the columns stand even when there are no rows."""
    return pd.DataFrame(rows, columns=MANIFEST).astype({"fold": "Int64"})
