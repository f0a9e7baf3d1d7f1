"""forge: make pairs of real and forged crops from the photographs.

    python -m assay.stages.forge

Photographs are decoded once, near-duplicates joined, some groups set aside for the generator of ``recon``, every other
one given its role and the train role's their fold, and only then is anything cropped, learned or forged. Output:
``data/forged/real``, ``data/forged/forged``, ``manifest.csv`` (path, label, group, generator, role, fold), ``rejected.csv``.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from assay.core.io import read_npy, write_csv
from assay.core.params import load
from assay.core.progress import progress
from assay.core.stage import run, timed
from assay.data.decode import ImageRejected
from assay.data.groups import join_groups
from assay.data.roles import assign_roles, deal_folds
from assay.images.duplicates import Fingerprint, near_duplicate_clusters
from assay.images.forge.families import (
    Photo,
    Reconstruct,
    crop_numbers,
    forge_photo,
    generator_crops,
    manifest_frame,
    manifest_row,
    set_aside,
)
from assay.images.forge.photographs import decode_photos
from assay.images.listing import names_of_photos, with_rejected
from assay.params.images import Forge, Images

PHOTOS = Path("data/photos")
OUTPUT = Path("data/forged")
REFUSED = OUTPUT / "rejected.csv"


def why_rejected(result: ImageRejected | None) -> tuple[str, str]:
    """Reason and detail of a photograph that can't be used; None for one without a fingerprint."""
    if result is None:
        return "flat", "next to nothing is to be seen, so that a forgery would change next to nothing"
    return str(result.reason), result.detail


def load_photos(scratch: Path, params: Images) -> tuple[list[Photo], list[Path]]:
    """Decode all photographs into ``scratch``, join near-duplicates and give every group its role and fold.

    Those that can't be used are written to `REFUSED`.

    Returns:
        The photographs to forge, and the pixels of those that the generator learns from.
    """
    table = pd.read_csv(PHOTOS / "photos.csv", dtype=str, keep_default_na=False)
    tasks = [(PHOTOS / "pictures" / name, scratch / f"{number}.npy") for number, name in enumerate(table["file"])]
    results = list(progress(decode_photos(tasks, params), total=len(tasks), name="decoding", unit="photo"))
    is_rejected = [not isinstance(result, Fingerprint) for result in results]
    rejected = pd.DataFrame(
        [
            (name, *why_rejected(result))
            for name, result in zip(names_of_photos(table), results, strict=True)
            if not isinstance(result, Fingerprint)
        ],
        columns=["file", "reason", "detail"],
    )
    # Written at once, since what follows may stop for want of these photographs.
    write_csv(REFUSED, rejected)
    kept = table[~np.array(is_rejected, dtype=bool)]
    if kept.empty:
        told = f"none of {len(table)} photograph(s) can be used, e.g. {rejected['file'].iloc[0]}"
        raise ValueError(with_rejected(told, rejected, REFUSED, joint="; "))
    prints = [result for result in results if isinstance(result, Fingerprint)]
    limits = params.prepare.near_duplicates
    clusters = near_duplicate_clusters(prints, max_distance=limits.max_distance, max_difference=limits.max_difference)
    groups = join_groups(list(kept["group_id"]), clusters)
    seed, paths = params.runtime.seed, [task[1] for task, bad in zip(tasks, is_rejected, strict=True) if not bad]
    aside = set_aside(groups, params.forge, seed=seed)
    scenes = sorted(set(groups) - aside)
    # One row per group: the shares are of scenes, since it is scenes that intervals rest on.
    roles = assign_roles(
        pd.DataFrame({"group_id": scenes, "dataset": "photos", "label": 0}),
        shares=params.roles.model_dump(),
        seed=seed,
    )
    folds = deal_folds(list(roles.index[roles == "train"]), folds=params.prepare.folds, seed=seed)
    crops = crop_numbers(groups, crops_per_scene=params.forge.crops_per_scene)
    items = list(zip(kept["file"], groups, paths, crops, strict=True))
    photos = [Photo(*item, role=str(roles[item[1]]), fold=folds.get(item[1])) for item in items if item[1] not in aside]
    return photos, [path for _, group, path, _ in items if group in aside]


def learn_generator(learned_from: list[Path], settings: Forge, *, seed: int, threads: int) -> Reconstruct:
    """The ``recon`` family's generator, learned from the photographs that are set aside for it."""
    # Here and not above: the decoding processes import this module, and need no torch.
    from assay.core.torch_setup import set_up_torch
    from assay.images.forge.autoencoder import reconstruct, train_autoencoder

    set_up_torch(threads=threads)
    crops = generator_crops([read_npy(path) for path in learned_from], settings, seed=seed)
    options = settings.recon.model_dump(exclude={"photos"})
    return partial(reconstruct, train_autoencoder(crops, seed=seed, **options))


def forge_all(photos: list[Photo], learned_from: list[Path], params: Images) -> pd.DataFrame:
    """Write every crop and its forgeries; returns the manifest."""
    settings, seed = params.forge, params.runtime.seed
    generator = None
    if learned_from:
        generator = learn_generator(learned_from, settings, seed=seed, threads=params.runtime.threads)
    rows = []
    for number, photo in enumerate(progress(photos, name="forging", unit="photo")):
        for stem, family, data in forge_photo(number, photos, settings, seed=seed, reconstruct=generator):
            row = manifest_row(photo, stem, family)
            (OUTPUT / str(row["path"])).write_bytes(data)
            rows.append(row)
    told = f"{len({photo.group for photo in photos})} scenes forged"
    print(f"{told}; the generator of recon learned from {len(learned_from)} photographs of other scenes")
    return manifest_frame(rows)


def main() -> None:
    params = load(Images)
    with timed("forge"):
        for name in ("real", "forged"):
            (OUTPUT / name).mkdir(parents=True, exist_ok=True)
        if (PHOTOS / "photos.csv").read_text(encoding="utf-8").count("\n") < 2:
            print("no photographs were fetched: nothing is forged")
            manifest = manifest_frame([])
            write_csv(REFUSED, pd.DataFrame(columns=["file", "reason", "detail"]))
        else:
            with tempfile.TemporaryDirectory(dir=OUTPUT) as scratch:
                manifest = forge_all(*load_photos(Path(scratch), params), params)
        write_csv(OUTPUT / "manifest.csv", manifest)
    print(pd.crosstab(manifest["role"], manifest["generator"]).to_string())


if __name__ == "__main__":
    run(main)
