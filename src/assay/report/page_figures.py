"""The report's drawings: images as data addresses, and what is drawn from the tracked tables under plots/."""

from __future__ import annotations

import base64
import csv
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from assay.core.io import read_json
from assay.report.page_metrics import number_text
from assay.report.page_words import PLOTS

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Image:
    """A PNG under plots/: its name there without suffix, what it shows, its size in pixels, and its bytes in base64."""

    name: str
    caption: str
    width: int
    height: int
    data: str

    @property
    def path(self) -> str:
        """From the root of the project."""
        return f"plots/{self.name}.png"


def read_images(root: Path) -> list[Image]:
    """Every PNG under plots/, by path. ValueError if a file that ends in .png is none."""
    found = []
    for path in sorted((root / "plots").rglob("*.png")):
        content = path.read_bytes()
        if not content.startswith(PNG_SIGNATURE) or len(content) < 24:
            raise ValueError(f"{path} is not a PNG: run dvc repro, or bring it back with git checkout")
        width, height = struct.unpack(">II", content[16:24])
        name = path.relative_to(root / "plots").with_suffix("").as_posix()
        caption = PLOTS.get(name, name.replace("/", ": ").replace("_", " "))
        found.append(Image(name, caption, width, height, base64.b64encode(content).decode()))
    return found


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none where there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@dataclass(frozen=True)
class Heat:
    """A table of one metric over two settings; ``cells`` hold text and depth of colour, 0..1."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[tuple[str, float], ...], ...]


def exit_heats(root: Path) -> list[Heat]:
    """What the thresholds of stage 1 defer, and how often they err; none without the table."""
    rows = read_csv(root / "plots/stage1/exits.csv")
    wanted = {
        "share_deferred": "Share of the images that is sent on",
        "error": "Error among what leaves",
        "leak_forged": "Share of the forged that leaves as real",
        "leak_forged_upper": "Its 95 % bound over scenes",
        "leak_real": "Share of the real that leaves as forged",
        "leak_real_upper": "Its 95 % bound over scenes",
    }
    if not rows or not {"exit_real", "exit_forged", *wanted} <= rows[0].keys():
        return []
    lows, highs = (tuple(dict.fromkeys(row[key] for row in rows)) for key in ("exit_real", "exit_forged"))
    heats = []
    for key, title in wanted.items():
        values = {(row["exit_real"], row["exit_forged"]): float(row[key]) for row in rows if row[key]}
        top = max(values.values(), default=0.0) or 1.0
        shown = {place: (f"{100 * value:.1f} %", round(value / top, 2)) for place, value in values.items()}
        cells = tuple(tuple(shown.get((low, high), ("–", 0.0)) for high in highs) for low in lows)
        heats.append(Heat(title, lows, highs, cells))
    return heats


def alignment_rows(root: Path) -> list[Mapping[str, object]]:
    """Each measure of the folds' embeddings before and after alignment, with chance where the metrics name it."""
    sides: dict[str, dict[str, float]] = {}
    for row in read_csv(root / "plots/alignment/alignment.csv"):
        sides.setdefault(row["measure"], {})[row["side"]] = float(row["value"])
    path = root / "metrics/alignment.json"
    chance = read_json(path).get("chance") if path.is_file() else None
    return [
        {
            "measure": measure,
            **{side: min(max(values[side], 0.0), 1.0) for side in ("raw", "aligned")},
            "text": f"{number_text(values['raw'])} → {number_text(values['aligned'])}",
            "chance": chance if measure == "fold_predictability" else None,
        }
        for measure, values in sides.items()
        if {"raw", "aligned"} <= values.keys()
    ]
