"""What a stage cost, kept out of everything dvc.lock hashes.

Clock times differ from run to run, so they go to ``timings/<stage>.json``, which git and DVC both ignore.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

TIMINGS = Path("timings")


def _peak_bytes() -> int:
    # ru_maxrss counts KiB on Linux and bytes on macOS; children are the decoding processes.
    unit = 1 if sys.platform == "darwin" else 1024
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * unit


@contextmanager
def timed(stage: str, *, folder: Path = TIMINGS) -> Iterator[dict[str, float]]:
    """Measure a stage and write ``<folder>/<stage>.json`` when it ends without an error.

    Yields a dict for further figures of the stage's own (images a second, say). Written beside them: ``wall_s`` from
    the start of the process, ``startup_s`` of it spent before the stage's work began (Python and imports),
    ``cpu_s`` and ``peak_bytes`` of the largest process.
    """
    process = psutil.Process()
    startup = time.time() - process.create_time()
    own: dict[str, float] = {}
    yield own
    cpu = process.cpu_times()
    record = {
        "stage": stage,
        "wall_s": round(time.time() - process.create_time(), 3),
        "startup_s": round(startup, 3),
        "cpu_s": round(cpu.user + cpu.system + cpu.children_user + cpu.children_system, 3),
        "peak_bytes": _peak_bytes(),
        **{key: round(value, 3) for key, value in own.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stage}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
