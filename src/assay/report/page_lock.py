"""The report's view of dvc.lock: what every stage wrote, by hash, and what each fold wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from assay.report.page_pipeline import Stage

Row = Mapping[str, Any]


def locked_outputs(lock: Row) -> dict[str, list[Row]]:
    """Outputs of dvc.lock by top folder (data and models first), each with stage, path, md5, size and nfiles."""
    groups: dict[str, list[Row]] = {"data": [], "models": []}
    for stage, entry in lock.get("stages", {}).items():
        for out in entry.get("outs", ()):
            row = {key: out.get(key) for key in ("path", "md5", "size", "nfiles")}
            groups.setdefault(PurePosixPath(str(out["path"])).parts[0], []).append({"stage": stage, **row})
    return {name: sorted(rows, key=lambda row: str(row["path"])) for name, rows in groups.items() if rows}


def fold_rows(lock: Row, stages: Sequence[Stage]) -> dict[str, dict[int, Row]]:
    """What was written for each fold: by path with ``*`` for the number of the fold, then by that number.

    Each has stage, md5, size and wall, the seconds of the stage that wrote it (None where it has not run here).
    """
    walls = {name: wall for stage in stages for name, wall in stage.timings.items()}
    found: dict[str, dict[int, Row]] = {}
    for rows in locked_outputs(lock).values():
        for row in rows:
            match = re.search(r"fold_(\d+)", str(row["path"]))
            if match:
                path = str(row["path"]).replace(match[0], "fold_*")
                found.setdefault(path, {})[int(match[1])] = {**row, "wall": walls.get(row["stage"])}
    return found


def size_text(size: float | None) -> str:
    """``12.3 MiB``; empty for None."""
    if size is None:
        return ""
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"
