"""One stage as a child process of its own: ``dvc --wait-for-lock repro --single-item STAGE``, its output in a log file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

LOGS = Path(".assay/logs")
GRACE_S = 10.0
FAILED = "failed"


class Stopped(Exception):
    """The run was stopped from outside while the stage ran or waited."""


def dvc_command(*arguments: str) -> list[str]:
    """DVC of this environment; it waits for a lock that another stage holds for a moment."""
    return [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]


def child_environment(**more: str) -> dict[str, str]:
    """The environment of children."""
    # Stages call `python`: it must be this environment's.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", **more}


class Children:
    """Processes that run stages; they can all be stopped at once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self.stopping = threading.Event()

    def run(self, command: Sequence[str], log: Path, environment: Mapping[str, str], *, append: bool = False) -> int:
        """Run a command to its end, output into ``log``; the exit status. It ends when this process does.

        Raises:
            Stopped: ``stop`` was called before or while it ran.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab" if append else "wb") as stream:
            with self._lock:
                if self.stopping.is_set():
                    raise Stopped
                # A session of its own: Ctrl-C reaches it through ``stop``, in order, and not from the terminal.
                process = subprocess.Popen(
                    [sys.executable, "-m", "assay_tools.repro.guard", *command],
                    cwd=self._root,
                    env=dict(environment),
                    stdin=subprocess.PIPE,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                self._running.add(process)
            status = process.wait()
        assert process.stdin is not None
        process.stdin.close()
        with self._lock:
            self._running.discard(process)
        if self.stopping.is_set():
            raise Stopped
        return status

    def stop(self) -> None:
        """End every child: first what DVC runs, so that DVC itself can put its locks away, then what is left."""
        with self._lock:
            self.stopping.set()
            running = list(self._running)
        for process in running:
            try:
                for dvc in psutil.Process(process.pid).children():
                    for child in dvc.children(recursive=True):
                        child.terminate()
            except psutil.NoSuchProcess:  # it ended meanwhile
                continue
        for process in running:
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                end_group(process.pid, signal.SIGKILL)
            # Where the child of DVC did not die with the signal, or had children that outlive it.
            end_group(process.pid, signal.SIGKILL)


def end_group(group: int, number: signal.Signals) -> None:
    """Signal a process group, if anything is left of it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def what_dvc_did(log: Path) -> str:
    """From DVC's words in the log of a stage that ended well: ran, from cache, unchanged, or failed after all."""
    text = log.read_text(encoding="utf-8", errors="replace")
    # A full cache: of an output that is a folder DVC 3.67 says so, but writes dvc.lock and exits with 0.
    if "failed to transfer '" in text:
        return FAILED
    if re.search(r"^Running stage '", text, flags=re.MULTILINE):
        return "ran"
    if "skipping run, checking out outputs" in text or re.search(r"^Pulling data for ", text, flags=re.MULTILINE):
        return "from cache"
    return "unchanged"


def last_lines(log: Path, count: int = 12) -> list[str]:
    """The end of a log, without what progress bars drew."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines()]
    return [line for line in lines if line][-count:]
