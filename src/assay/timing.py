"""What a stage cost, kept out of everything dvc.lock hashes.

Clock times differ from run to run, so they go to ``timings/<stage>.json``, which git and DVC both ignore.
"""

from __future__ import annotations

import builtins
import gc
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from assay.io import write_json

TIMINGS = Path("timings")


def _peak_bytes() -> int:
    # ru_maxrss counts KiB on Linux and bytes on macOS; children are the decoding processes.
    unit = 1 if sys.platform == "darwin" else 1024
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * unit


class _ImportClock:
    """Seconds that import statements of this thread take; libraries import much of themselves at the first use."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._import, self._depth, self._thread = builtins.__import__, 0, threading.get_ident()

    def __enter__(self) -> _ImportClock:
        builtins.__import__ = self._timed_import
        return self

    def __exit__(self, *_: object) -> None:
        builtins.__import__ = self._import

    def _timed_import(self, *arguments: Any, **options: Any) -> Any:
        if self._depth or threading.get_ident() != self._thread:
            return self._import(*arguments, **options)
        self._depth, start = 1, time.perf_counter()
        try:
            return self._import(*arguments, **options)
        finally:
            self._depth = 0
            self.seconds += time.perf_counter() - start


@contextmanager
def timed(stage: str, *, folder: Path = TIMINGS) -> Iterator[dict[str, float]]:
    """Measure a stage and write ``<folder>/<stage>.json`` when it ends without an error.

    Yields a dict for further figures of the stage's own (images a second, say). Written beside them: ``wall_s`` from
    the start of the process, ``startup_s`` of it spent starting Python and importing (before the work and in it),
    ``cpu_s`` and ``peak_bytes`` of the largest process.
    """
    process = psutil.Process()
    startup = time.time() - process.create_time()
    # What the imports made stays to the end; the collector need not look at it again.
    gc.freeze()
    gc.enable()
    own: dict[str, float] = {}
    with _ImportClock() as imports:
        yield own
    cpu = process.cpu_times()
    record = {
        "stage": stage,
        "wall_s": round(time.time() - process.create_time(), 3),
        "startup_s": round(startup + imports.seconds, 3),
        "cpu_s": round(cpu.user + cpu.system + cpu.children_user + cpu.children_system, 3),
        "peak_bytes": _peak_bytes(),
        **{key: round(value, 3) for key, value in own.items()},
    }
    write_json(folder / f"{stage}.json", record)
