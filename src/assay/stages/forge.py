"""forge: make pairs of real and forged crops from the photographs.

    python -m assay.stages.forge

Photographs are decoded once, near-duplicates joined, every group given its role, and only then cropped and forged.
Output: ``data/forged/real``, ``data/forged/forged``, ``manifest.csv`` (path, label, group, generator, role) and
``rejected.csv``.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from assay.core.io import write_csv, write_npy
from assay.core.parallel import ordered_map
from assay.core.params import load
from assay.core.progress import progress
from assay.core.stage import run, timed
from assay.data.decode import ImageRejected, decode_rgb
from assay.data.groups import join_groups
from assay.data.roles import assign_roles
from assay.images.duplicates import Fingerprint, fingerprint, near_duplicate_clusters
from assay.images.forge.families import (
    Photo,
    Reconstruct,
    check_donors,
    forge_photo,
    generator_crops,
    manifest_frame,
    manifest_row,
    scale_to_short_side,
)
from assay.images.listing import names_of_photos, with_rejected
from assay.params.images import Forge, Images

PHOTOS = Path("data/photos")
OUTPUT = Path("data/forged")
REFUSED = OUTPUT / "rejected.csv"


def decode_photo(task: tuple[Path, Path], *, params: Images) -> Fingerprint | ImageRejected | None:
    """Decode one photograph into ``task[1]``; returns its fingerprint, or why it can't be used."""
    source, target = task
    try:
        pixels = decode_rgb(source, max_pixels=params.fetch_photos.max_pixels, min_side=params.forge.size)
    except ImageRejected as error:
        return error
    write_npy(target, scale_to_short_side(pixels, params.forge.short_side[1]))
    return fingerprint(pixels, hash_side=params.prepare.near_duplicates.hash_side)


def load_photos(scratch: Path, params: Images) -> list[Photo]:
    """Decode all photographs into ``scratch``, join near-duplicates and give every group its role.

    Those that can't be used are written to `REFUSED`.
    """
    table = pd.read_csv(PHOTOS / "photos.csv", dtype=str, keep_default_na=False)
    tasks = [(PHOTOS / "pictures" / name, scratch / f"{number}.npy") for number, name in enumerate(table["file"])]
    work = ordered_map(partial(decode_photo, params=params), tasks, workers=params.runtime.workers)
    results = list(progress(work, total=len(tasks), name="decoding", unit="photo"))
    is_rejected = [isinstance(result, ImageRejected) for result in results]
    rejected = pd.DataFrame(
        [
            (name, str(r.reason), r.detail)
            for name, r in zip(names_of_photos(table), results, strict=True)
            if isinstance(r, ImageRejected)
        ],
        columns=["file", "reason", "detail"],
    )
    # Written at once, since what follows may stop for want of these photographs.
    write_csv(REFUSED, rejected)
    kept = table[~np.array(is_rejected, dtype=bool)]
    if kept.empty:
        told = f"none of {len(table)} photograph(s) can be used, e.g. {rejected['file'].iloc[0]}"
        raise ValueError(with_rejected(told, rejected, REFUSED, joint="; "))
    prints = [result for result in results if not isinstance(result, ImageRejected)]
    limits = params.prepare.near_duplicates
    clusters = near_duplicate_clusters(prints, max_distance=limits.max_distance, max_difference=limits.max_difference)
    groups = join_groups(list(kept["group_id"]), clusters)
    # One row per group: the shares are of scenes, since it is scenes that intervals rest on.
    roles = assign_roles(
        pd.DataFrame({"group_id": sorted(set(groups)), "dataset": "photos", "label": 0}),
        shares=params.roles.model_dump(),
        seed=params.runtime.seed,
    )
    pixels = [target for (_, target), bad in zip(tasks, is_rejected, strict=True) if not bad]
    return [Photo(*item) for item in zip(kept["file"], groups, roles.loc[groups], pixels, strict=True)]


def learn_generator(photos: list[Photo], settings: Forge, *, seed: int, threads: int) -> Reconstruct | None:
    """The ``recon`` family's generator, learned on photographs of the train role; None where it is not asked for."""
    if "recon" not in settings.families:
        return None
    # Here and not above: the decoding processes import this module, and need no torch.
    from assay.core.torch_setup import set_up_torch
    from assay.images.forge.autoencoder import reconstruct, train_autoencoder

    set_up_torch(threads=threads)
    crops = generator_crops(photos, settings, seed=seed)
    return partial(reconstruct, train_autoencoder(crops, seed=seed, **settings.recon.model_dump()))


def forge_all(photos: list[Photo], params: Images) -> pd.DataFrame:
    """Write every crop and its forgeries; returns the manifest."""
    check_donors(photos, params.forge)
    seed = params.runtime.seed
    generator = learn_generator(photos, params.forge, seed=seed, threads=params.runtime.threads)
    rows = []
    for number, photo in enumerate(progress(photos, name="forging", unit="photo")):
        for stem, family, data in forge_photo(number, photos, params.forge, seed=seed, reconstruct=generator):
            row = manifest_row(photo, stem, family)
            (OUTPUT / str(row["path"])).write_bytes(data)
            rows.append(row)
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
                manifest = forge_all(load_photos(Path(scratch), params), params)
        write_csv(OUTPUT / "manifest.csv", manifest)
    print(pd.crosstab(manifest["role"], manifest["generator"]).to_string())


if __name__ == "__main__":
    run(main)
