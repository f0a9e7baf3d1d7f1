"""What surrounds a run of stages: it is alone in its workspace, and it ends in order, however it is ended."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from assay_tools.repro.children import END_S, Children, Stopped
from assay_tools.workspace import cut_locks

LOCK = Path(".assay/repro.lock")
# DVC writes the lock file of its workspace in place, in less than this.
WRITE_S = 1.0


def remove_cut_locks(root: Path) -> None:
    """Remove lock files of DVC that end in the middle, at which every dvc would stop; one that is being written is left."""
    if found := cut_locks(root):
        time.sleep(WRITE_S)
        # Another one that is cut only now is being written.
        for name in set(found).intersection(cut_locks(root)):
            (root / name).unlink()
            print(f"{name} was cut in the middle by the end of a dvc, and is removed", file=sys.stderr)


@contextmanager
def only_run(root: Path, *, what: str = "assay repro") -> Iterator[int]:
    """Hold the folder ``root`` for one run of ``what``; yields the lock's file descriptor, for `Children` to keep open.

    Two runs would write the same logs, and the last word of the one would find files busy that the other writes. Stages of
    a run that was killed hold the lock to their end, which is waited for.

    Raises:
        ValueError: another run is at work here.
    """
    path = root / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 2 * END_S
    with path.open("a+", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                owner = file.read()
                if (owner.isdecimal() and psutil.pid_exists(int(owner))) or time.monotonic() > end:
                    told = f"{what} is at work here already (process {owner})"
                    raise ValueError(f"{told}: wait for its end, or end it by kill {owner}") from None
            time.sleep(0.1)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        remove_cut_locks(root)
        yield file.fileno()


@contextmanager
def ended_by_signals(children: Children, *, next_time: str = "assay repro or dvc repro") -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP end every child and then, by SystemExit, the block; a second one changes nothing.

    What the process was told to ignore (by nohup, or as a background job of a script) it ignores.
    """
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    told: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        told.append(number)
        # At once, and not where the exception is caught: until then another one may come.
        if not children.stopping.is_set():
            children.ask()
            raise KeyboardInterrupt

    before = {n: signal.signal(n, end) for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}
    try:
        yield
    except (KeyboardInterrupt, Stopped):
        children.stop()
        # The terminal may be gone.
        with suppress(OSError):
            print(f"interrupted: every stage is ended; {next_time} goes on from here", file=sys.stderr)
        sys.exit(128 + (told[0] if told else signal.SIGINT))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
