"""forge: make pairs of real and forged crops from the photographs.

    python -m assay.stages.forge

Photographs are decoded once, near-duplicates joined, some groups set aside for the generator of ``recon``, every other
one given its role and the train role's their fold, and only then is anything cropped, learned or forged. Output:
``data/forged/real``, ``data/forged/forged``, ``manifest.csv`` (path, label, group, generator, role, fold), ``rejected.csv``.

Pictures that a generator made are cut alone, and so are the photographs with a declared role of test, once more, for a real
half beside them: ``data/generated``, with the same manifest, which ``evaluate.external`` can name. It is empty without
such pictures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import compress
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
    Network,
    Photo,
    crop_numbers,
    cut_photo,
    forge_photo,
    generator_crops,
    manifest_frame,
    manifest_row,
    matched_settings,
    set_aside,
)
from assay.images.forge.photographs import decode_photos
from assay.images.listing import names_of_photos, with_rejected
from assay.params.images import Images

PHOTOS = Path("data/photos")
OUTPUT = Path("data/forged")
GENERATED = Path("data/generated")
REFUSED = OUTPUT / "rejected.csv"


def why_rejected(result: ImageRejected | None) -> tuple[str, str]:
    """Reason and detail of a photograph that can't be used; None for one without a fingerprint."""
    if result is None:
        return "flat", "next to nothing is to be seen, so that a forgery would change next to nothing"
    return str(result.reason), result.detail


def decode_table(scratch: Path, params: Images) -> tuple[pd.DataFrame, list[Fingerprint]]:
    """Decode all pictures into ``scratch``; those that can't be used are written to `REFUSED`.

    Returns:
        The table of the others with the column ``pixels``, paths, and their fingerprints.
    """
    table = pd.read_csv(PHOTOS / "photos.csv", dtype=str, keep_default_na=False)
    tasks = [(PHOTOS / "pictures" / name, scratch / f"{number}.npy") for number, name in enumerate(table["file"])]
    results = list(progress(decode_photos(tasks, params), total=len(tasks), name="decoding", unit="photo"))
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
    good = np.array([isinstance(result, Fingerprint) for result in results], dtype=bool)
    kept = table.assign(pixels=[str(target) for _, target in tasks])[good]
    if kept.empty:
        told = f"none of {len(table)} photograph(s) can be used, e.g. {rejected['file'].iloc[0]}"
        raise ValueError(with_rejected(told, rejected, REFUSED, joint="; "))
    return kept, [result for result in results if isinstance(result, Fingerprint)]


def draw_roles(scenes: Sequence[str], declared: Mapping[str, str], params: Images) -> dict[str, str]:
    """The role of every scene: as declared, and drawn for the others so that each role gets its share of all.

    The shares are of scenes and not of pictures, since it is scenes that intervals rest on.
    """
    free, given = [scene for scene in scenes if scene not in declared], list(declared.values())
    # One at least of what is left, however many are declared.
    lacking = {
        role: max(1.0, share * len(scenes) - given.count(role)) for role, share in params.roles.model_dump().items()
    }
    drawn = assign_roles(
        pd.DataFrame({"group_id": free, "dataset": "photos", "label": 0}),
        shares={role: count / sum(lacking.values()) for role, count in lacking.items()},
        seed=params.runtime.data_seed,
    )
    return {**declared, **{str(name): str(role) for name, role in drawn.items()}}


def plan_photos(table: pd.DataFrame, prints: Sequence[Fingerprint], params: Images) -> tuple[list[Photo], list[Path]]:
    """Join near-duplicates and give every group its role and fold.

    Args:
        table: of photographs, as `decode_table` gives it.
        prints: their fingerprints.
        params: of the images line.

    Returns:
        The photographs to forge, and the pixels of those that the generator learns from.
    """
    limits, seed = params.prepare.near_duplicates, params.runtime.data_seed
    clusters = near_duplicate_clusters(prints, max_distance=limits.max_distance, max_difference=limits.max_difference)
    groups = join_groups(list(table["group_id"]), clusters)
    aside = set_aside(groups, params.forge, seed=seed)
    scenes = sorted(set(groups) - aside)
    told = zip(groups, table["role"], strict=True)
    declared = {group: role for group, role in told if role and group not in aside}
    roles = draw_roles(scenes, declared, params)
    folds = deal_folds([name for name in scenes if roles[name] == "train"], folds=params.prepare.folds, seed=seed)
    crops = crop_numbers(groups, crops_per_scene=params.forge.crops_per_scene)
    items = list(zip(table["file"], groups, map(Path, table["pixels"]), crops, strict=True))
    photos = [Photo(*item, role=roles[item[1]], fold=folds.get(item[1])) for item in items if item[1] not in aside]
    return photos, [path for _, group, path, _ in items if group in aside]


def load_networks(learned_from: list[Path], params: Images) -> dict[str, Network]:
    """The networks of the families that have one; that of ``recon`` is learned from these photographs."""
    # Here and not above: the decoding processes import this module, and need no torch.
    from safetensors.torch import load_file

    from assay.core.torch_setup import set_up_torch
    from assay.images.forge.autoencoder import reconstruct, train_autoencoder
    from assay.images.forge.superres import superresolve

    settings, seed = params.forge, params.runtime.data_seed
    set_up_torch(threads=params.runtime.threads)
    networks: dict[str, Network] = {}
    if "recon" in settings.families:
        crops = generator_crops([read_npy(path) for path in learned_from], settings, seed=seed)
        options = settings.recon.model_dump(exclude={"photos", "side"})
        networks["recon"] = partial(reconstruct, train_autoencoder(crops, seed=seed, **options))
    if "superres" in settings.families:
        networks["superres"] = partial(superresolve, load_file(PHOTOS / "tools/superres.safetensors"))
    return networks


def forge_all(photos: list[Photo], learned_from: list[Path], params: Images) -> pd.DataFrame:
    """Write every crop and its forgeries; returns the manifest."""
    settings, seed = params.forge, params.runtime.data_seed
    networks = load_networks(learned_from, params)
    rows = []
    for number, photo in enumerate(progress(photos, name="forging", unit="photo")):
        for stem, family, data in forge_photo(number, photos, settings, seed=seed, networks=networks):
            row = manifest_row(photo, stem, family)
            (OUTPUT / str(row["path"])).write_bytes(data)
            rows.append(row)
    told = f"{len({photo.group for photo in photos})} scenes forged"
    print(f"{told}; the generator of recon learned from {len(learned_from)} photographs of other scenes")
    return manifest_frame(rows)


def cut_generated(table: pd.DataFrame, params: Images) -> pd.DataFrame:
    """Write the crops of `GENERATED`; returns their manifest, empty without a picture that a generator made."""
    rows: list[dict[str, object]] = []
    if table["generator"].any():
        table = table[(table["generator"] != "") | (table["role"] == "test")]
        crops = crop_numbers(list(table["group_id"]), crops_per_scene=params.forge.generated_crops)
        items = zip(table["file"], table["group_id"], map(Path, table["pixels"]), crops, strict=True)
        photos = [Photo(*item, role="test") for item in items]
        settings = matched_settings(photos, params.forge)
        for photo, made_by in zip(photos, table["generator"], strict=True):
            for stem, data in cut_photo(photo, settings, seed=params.runtime.data_seed):
                row = manifest_row(photo, stem, made_by or "real")
                (GENERATED / str(row["path"])).write_bytes(data)
                rows.append(row)
    return manifest_frame(rows)


def main() -> None:
    params = load(Images)
    with timed("forge"):
        for folder in (OUTPUT, GENERATED):
            for name in ("real", "forged"):
                (folder / name).mkdir(parents=True, exist_ok=True)
        if (PHOTOS / "photos.csv").read_text(encoding="utf-8").count("\n") < 2:
            print("no photographs were fetched: nothing is forged")
            manifest = generated = manifest_frame([])
            write_csv(REFUSED, pd.DataFrame(columns=["file", "reason", "detail"]))
        else:
            with tempfile.TemporaryDirectory(dir=OUTPUT) as scratch:
                table, prints = decode_table(Path(scratch), params)
                is_photo = (table["generator"] == "").to_numpy()
                taken = plan_photos(table[is_photo], list(compress(prints, is_photo)), params)
                manifest, generated = forge_all(*taken, params), cut_generated(table, params)
        write_csv(OUTPUT / "manifest.csv", manifest)
        write_csv(GENERATED / "manifest.csv", generated)
    print(pd.crosstab(manifest["role"], manifest["generator"]).to_string())
    print(f"{len(generated)} crops of generated pictures and of photographs beside them, for evaluate.external")


if __name__ == "__main__":
    run(main)
