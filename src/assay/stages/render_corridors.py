"""render_corridors: images with their labels, rendered by a written rule of risk, or the user's own.

    python -m assay.stages.render_corridors

Output, in data/vlm/source: pictures, table.parquet (sample_id, name, picture, label, group, caption, and role if one is
declared, danger where it is rendered) and rejected.csv; plots/render_corridors/contact_sheet.png.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from assay.core.io import write_csv, write_parquet
from assay.core.params import load
from assay.core.progress import progress
from assay.core.stage import run, timed
from assay.corridors.looks import BY_ROLE
from assay.corridors.rendering import Renderer
from assay.corridors.sampling import sample_scene
from assay.corridors.scenes import LABELS, caption
from assay.corridors.visibility import danger_boxes
from assay.data.decode import decode_rgb
from assay.data.decoders import PictureLimits, decoders, header_or_reason
from assay.data.tables import told
from assay.params.shared import Limits, Roles
from assay.params.vlm import AnswerClass, RenderCorridors, Vlm
from assay.report.plots import save_contact_sheet
from assay.vlm.own_data import REJECTED, read_own
from assay.vlm.own_pictures import Pictures

OUTPUT = Path("data/vlm/source")
SHEET = Path("plots/render_corridors/contact_sheet.png")
COLUMNS = ["sample_id", "name", "picture", "label", "group", "caption"]
SHEET_COLUMNS = 5
SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")


def render_all(settings: RenderCorridors, shares: Roles, *, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scenes of every class in turn, each from a seed of its own; none is rejected.

    The role comes first, since looks follow from it: within a class, the first ones are of train, the last ones of test.
    """
    rows = []
    names, ends = list(shares.model_dump()), np.cumsum(list(shares.model_dump().values()))
    per_class = settings.num_scenes / len(LABELS)
    with Renderer((settings.size[0], settings.size[1])) as renderer:
        for number in progress(range(settings.num_scenes), name="render", unit="scene"):
            label = LABELS[number % len(LABELS)]
            place = (number // len(LABELS) + 0.5) / per_class * ends[-1]
            role = names[min(int(np.searchsorted(ends, place)), len(names) - 1)]
            scene = sample_scene(np.random.default_rng([seed, number]), label, looks=BY_ROLE[role])
            name = f"scene-{number:05d}"
            picture = f"pictures/{name}.png"
            Image.fromarray(renderer.render(scene)).save(OUTPUT / picture, compress_level=1)
            danger = json.dumps(danger_boxes(scene))
            rows.append((name, f"{name}.png", picture, label, name, caption(scene), role, danger))
    return pd.DataFrame(rows, columns=[*COLUMNS, "role", "danger"]), pd.DataFrame(columns=REJECTED)


def copy_own(
    settings: RenderCorridors, classes: Sequence[AnswerClass], limits: Limits
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The user's usable images, byte for byte, and what was rejected."""
    unpacked, path = OUTPUT / "unpacked", Path(settings.source)
    unpacked.mkdir()
    given = PictureLimits(
        settings.max_pixels, settings.min_side, max_bytes=limits.picture_bytes, seconds=limits.picture_seconds
    )
    with decoders(header_or_reason, count=1, max_pixels=given.max_pixels, seconds=given.seconds) as readers:
        pictures = Pictures(path.parent, unpacked=unpacked, readers=readers, limits=given)
        options: dict[str, Any] = {
            "field": "render_corridors.source",
            "classes": classes,
            "max_bytes": limits.table_bytes,
        }
        table, rejected = read_own(path, pictures=pictures, **options)
    table["name"] = table["image"]
    table["sample_id"] = [f"picture-{row:06d}" for row in table["row"]]
    suffixes = [Path(image).suffix.lower() for image in table["image"]]
    table["picture"] = [
        f"pictures/{name}{suffix if SUFFIX.fullmatch(suffix) else ''}"
        for name, suffix in zip(table["sample_id"], suffixes, strict=True)
    ]
    for file, picture in zip(map(Path, table["file"]), table["picture"], strict=True):
        if file.parent == unpacked:
            file.replace(OUTPUT / picture)
        else:
            shutil.copyfile(file, OUTPUT / picture)
    shutil.rmtree(unpacked)
    return table[[*COLUMNS, *(["role"] if table["role"].notna().any() else [])]], rejected


def save_sheet(table: pd.DataFrame, params: Vlm) -> None:
    """The first images of each class, a row per class; ValueError if no image is of one."""
    limit = params.render_corridors.max_pixels
    shown = {}
    for item in params.prepare_vlm.classes:
        paths = table.loc[table["label"] == item.label, "picture"].head(SHEET_COLUMNS)
        if len(paths):
            shown[item.name] = [decode_rgb(OUTPUT / path, max_pixels=limit) for path in paths]
    if not shown:
        raise ValueError(f"prepare_vlm.classes: no image has one of their labels, {set(table['label'])} are there")
    save_contact_sheet(SHEET, list(shown.values()), row_titles=list(shown), title="Corridors by class")


def main() -> None:
    params = load(Vlm)
    settings = params.render_corridors
    with timed("render_corridors") as figures:
        shutil.rmtree(OUTPUT, ignore_errors=True)
        (OUTPUT / "pictures").mkdir(parents=True)
        rendered = settings.source == "render"
        if rendered:
            table, rejected = render_all(settings, params.prepare_vlm.roles, seed=params.runtime.data_seed)
        else:
            table, rejected = copy_own(settings, params.prepare_vlm.classes, params.limits)
        # First, so that it is there to look into when the stage stops.
        write_csv(OUTPUT / "rejected.csv", rejected)
        if table.empty:
            raise ValueError(
                f"none of {len(rejected)} rows of {settings.source} can be used: {told(rejected)}; all are in "
                f"{OUTPUT / 'rejected.csv'}"
            )
        write_parquet(OUTPUT / "table.parquet", table)
        save_sheet(table, params)
        figures["pictures"] = len(table)
    print(f"{len(table)} pictures: {table['label'].value_counts(sort=False).to_dict()}")
    print(f"{len(rejected)} rejected: {told(rejected)}")


if __name__ == "__main__":
    run(main)
