"""What a stage's last run took, as `assay.core.stage.timed` wrote it into ``timings/<stage>.json``."""

from __future__ import annotations

import math
from pathlib import Path

from assay.core.io import read_json

FIELDS = ("wall_s", "startup_s", "cpu_s", "peak_bytes")


def read_timing(path: Path) -> dict[str, float]:
    """Seconds and bytes of a run, by the names of `FIELDS`; one that is not there is 0.

    Raises:
        ValueError: no JSON object, or a field that is no number from 0; it names the file and the field.
    """
    record = read_json(path)
    if not isinstance(record, dict):
        raise ValueError(f"{path}: holds a {type(record).__name__}, no timing; delete it, or run the stage again")
    found = {}
    for name in FIELDS:
        value = record.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            shown = repr(value)[:80]
            raise ValueError(f"{path}: {name} is {shown}, no number from 0; delete the file, or run the stage again")
        found[name] = float(value)
    return found
