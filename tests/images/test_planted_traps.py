"""Traps planted in clean data: each guard of ``prepare`` fires on its trap, and hardly ever where there is none."""

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from assay.core.params import load
from assay.images.audit import corner_auc, flipped_parts, metadata_auc, name_auc, shortcut_words
from assay.images.duplicates import fingerprint
from assay.images.forge.families import Photo, forge_photo
from assay.images.listing import two_labels
from assay.images.lookalikes import closest_pairs
from assay.images.model.store import open_store, open_writer
from assay.images.split import group_and_split, near_duplicates
from assay.params.images import Images

PARAMS = load(Images, Path(__file__).resolve().parents[2] / "params.yaml")
SIDE, SCENES, CROPS = 32, 40, 10
FORGE = PARAMS.forge.model_copy(
    update={"size": SIDE, "short_side": [48.0, 96.0], "families": ["blend", "resample"], "unseen": []}
)
ROLES = {"train": 0.4, "val": 0.15, "calib": 0.15, "tune": 0.15, "test": 0.15}
DRAWS = 20


class Picture(NamedTuple):
    """A picture as ``prepare`` meets it."""

    name: str
    label: int
    group: str
    pixels: np.ndarray
    quality: int
    file_bytes: int


@dataclass
class Data:
    pictures: list[Picture]
    # What is done to the roles once they are drawn: a row's role by its group.
    moved: dict[str, str]
    flipped: str | None = None


def scene(rng: np.random.Generator) -> np.ndarray:
    """A photograph of a few colours of its own, with edges and noise."""
    palette = rng.integers(0, 256, (4, 3))
    coarse = palette[rng.integers(4, size=(9, 11))].astype(np.uint8)
    smooth = cv2.resize(coarse, (150, 120), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def clean(folder: Path, *, seed: int) -> Data:
    """Pairs of real and forged crops of `SCENES` scenes; a forged file is named like its original."""
    rng = np.random.default_rng(seed)
    photos = []
    for number in range(SCENES):
        np.save(folder / f"{number}.npy", scene(rng))
        photos.append(Photo(f"s{number:02d}", f"s{number:02d}", folder / f"{number}.npy", range(CROPS), "train"))
    made = []
    for number, photo in enumerate(photos):
        for stem, family, data in forge_photo(number, photos, FORGE, seed=seed, networks={}):
            label = int(family != "real")
            name = f"{'forged' if label else 'real'}/{stem}.jpg"
            made.append(Picture(name, label, photo.group, decoded(data), 80 + int(stem[-1]), len(data)))
    return Data(made, {})


def again(picture: Picture, *, quality: int, **changes: object) -> Picture:
    """The picture compressed again."""
    buffer = io.BytesIO()
    Image.fromarray(picture.pixels).save(buffer, "JPEG", quality=quality)
    data = buffer.getvalue()
    return picture._replace(pixels=decoded(data), quality=quality, file_bytes=len(data), **changes)


def jpeg_quality(data: Data) -> None:
    data.pictures = [again(picture, quality=95) if picture.label else picture for picture in data.pictures]


def size(data: Data) -> None:
    data.pictures = [p._replace(file_bytes=int(1.6 * p.file_bytes)) if p.label else p for p in data.pictures]


def corner_pixel(data: Data) -> None:
    for number, picture in enumerate(data.pictures):
        if picture.label:
            marked = picture.pixels.copy()
            marked[0, 0] = (3, 3, 3)
            data.pictures[number] = picture._replace(pixels=marked)


def file_names(data: Data) -> None:
    data.pictures = [p._replace(name=p.name.replace("/s", "/out_s")) if p.label else p for p in data.pictures]


def scene_under_a_new_name(data: Data) -> None:
    data.pictures = [p._replace(group="new") if p.group == "s00" and int(p.name[-5]) % 2 else p for p in data.pictures]
    data.moved = {"s00": "train", "new": "test"}


def flipped_labels(data: Data) -> None:
    data.flipped = "tune"


def recompressed_copies(data: Data) -> None:
    data.pictures += [again(p, quality=60, name=f"copy/{i}.jpg", group="new") for i, p in enumerate(data.pictures[:3])]


def both_labels(data: Data) -> None:
    data.pictures.append(data.pictures[0]._replace(name="forged/x.jpg", label=1))


def fired(data: Data, folder: Path, *, seed: int) -> set[str]:
    """The guards that have something to say."""
    columns = ["image_path", "label", "group", "file_bytes", "jpeg_quality"]
    rows = [(p.name, p.label, p.group, p.file_bytes, p.quality) for p in data.pictures]
    frame = pd.DataFrame(rows, columns=columns).assign(dataset="own", role=None, sample_id=lambda t: t["image_path"])
    frame = frame.assign(width=SIDE, height=SIDE, format="JPEG").astype({"role": object})
    pixels = np.stack([p.pixels for p in data.pictures])
    with open_writer(folder, side=SIDE, sample_ids=list(frame["sample_id"])) as writer:
        writer.append(pixels)
    store = open_store(folder)
    prints = [fingerprint(picture, hash_side=PARAMS.prepare.near_duplicates.hash_side) for picture in pixels]
    roles = PARAMS.roles.model_copy(update=ROLES)
    frame = group_and_split(frame, prints, settings=PARAMS.prepare, roles=roles, seed=seed)
    frame["split"] = [data.moved.get(group, role) for group, role in zip(frame["group"], frame["split"], strict=True)]
    if data.flipped:
        frame["label"] = frame["label"].where(frame["split"] != data.flipped, 1 - frame["label"])
    train = frame[frame["split"] == "train"]
    aucs = {
        "metadata": metadata_auc(train, folds=5, seed=seed),
        "corners": corner_auc(train, pixels[store.rows_of(list(train["sample_id"]))], folds=5, seed=seed),
        "names": name_auc(train, folds=5, seed=seed),
    }
    found = set(shortcut_words(aucs, train, max_auc=PARAMS.prepare.audit.max_auc))
    pairs = closest_pairs(frame, prints, seed=seed)
    said = {
        "flipped": bool(flipped_parts(frame, store, seed=seed)),
        "lookalikes": bool(pairs["suspicious"].any()),
        "near-duplicates": bool(near_duplicates(frame)),
        "two labels": len(two_labels(frame, [picture.tobytes() for picture in pixels])) > 0,
    }
    return found | {name for name, true in said.items() if true}


TRAPS: dict[str, tuple[Callable[[Data], None], str]] = {
    "JPEG quality of the forged": (jpeg_quality, "metadata"),
    "file size of the forged": (size, "metadata"),
    "a mark in a corner of the forged": (corner_pixel, "corners"),
    "a habit in the names of the forged": (file_names, "names"),
    "a scene in train and, as another, in test": (scene_under_a_new_name, "lookalikes"),
    "labels of tune the wrong way round": (flipped_labels, "flipped"),
    "copies, compressed again, as another group": (recompressed_copies, "near-duplicates"),
    "a picture with both labels": (both_labels, "two labels"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_guard_fires_on_its_trap(trap: str, tmp_path: Path) -> None:
    plant, guard = TRAPS[trap]
    data = clean(tmp_path, seed=100)
    plant(data)
    assert guard in fired(data, tmp_path, seed=0)


@pytest.mark.slow
def test_guards_are_silent_on_clean_draws(tmp_path: Path) -> None:
    false_alarms = Counter(
        guard for seed in range(DRAWS) for guard in fired(clean(tmp_path, seed=seed), tmp_path, seed=seed)
    )
    assert all(count <= 1 for count in false_alarms.values()), false_alarms
