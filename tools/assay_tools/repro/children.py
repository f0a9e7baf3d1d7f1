"""One stage as a child process of its own: ``dvc --wait-for-lock repro --single-item STAGE``, its output in a log file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from assay_tools.repro.guard import LAST_S

LOGS = Path(".assay/logs")
# Seconds in which every stage ends that is asked to: a little more than a guard takes at most.
END_S = LAST_S + 0.5
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
    """Processes that run stages; they can all be ended at once.

    Args:
        root: of the project, where they run.
        lock: a file that they keep open to their end (see `only_run`).
    """

    def __init__(self, root: Path, *, lock: int | None = None) -> None:
        self._root, self._kept = root, () if lock is None else (lock,)
        self._running: set[subprocess.Popen[bytes]] = set()
        # A signal's handler may come while the same thread holds it.
        self._lock = threading.RLock()
        self.stopping = threading.Event()

    def run(self, command: Sequence[str], log: Path, environment: Mapping[str, str], *, append: bool = False) -> int:
        """Run a command to its end, output into ``log``; the exit status. It ends when this process does.

        Raises:
            Stopped: ``ask`` or ``stop`` was called before or while it ran.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab" if append else "wb") as stream:
            with self._lock:
                if self.stopping.is_set():
                    raise Stopped
                # A session of its own: Ctrl-C reaches it through ``ask``, in order, and not from the terminal.
                process = subprocess.Popen(
                    [sys.executable, "-m", "assay_tools.repro.guard", *command],
                    cwd=self._root,
                    env=dict(environment),
                    stdin=subprocess.PIPE,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=self._kept,
                )
                self._running.add(process)
            status = process.wait()
        with self._lock:
            self._running.discard(process)
            close_input(process)
        if self.stopping.is_set():
            raise Stopped
        return status

    def ask(self) -> None:
        """Ask every child to end, and wait for none: the guards see to it."""
        with self._lock:
            self.stopping.set()
            for process in self._running:
                close_input(process)

    def stop(self) -> None:
        """End every child, within `END_S`."""
        self.ask()
        with self._lock:
            running = list(self._running)
        end = time.monotonic() + END_S
        for process in running:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:  # its guard itself was stopped, say
                kill_tree(process.pid)


def close_input(process: subprocess.Popen[bytes]) -> None:
    """Close the end of the pipe that keeps a guard's command running."""
    assert process.stdin is not None
    process.stdin.close()


def kill_tree(pid: int) -> None:
    """SIGKILL to a process and all below it, if they are still there."""
    try:
        top = psutil.Process(pid)
        for process in [*top.children(recursive=True), top]:
            process.kill()
    except psutil.NoSuchProcess:
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
