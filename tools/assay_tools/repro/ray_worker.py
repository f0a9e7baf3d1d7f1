"""A stage on a machine of a Ray cluster: a clone of the same commit, what the stage needs from the DVC remote, and back."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from assay_tools.repro.children import Children, child_environment, dvc_command
from assay_tools.workspace import git


@dataclass(frozen=True)
class Order:
    """What a worker is told: the stage, the commit, dvc.lock with what earlier stages made, and DVC's local settings."""

    stage: str
    commit: str
    lock: str | None
    config: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """How it went: exit status, all that was printed, the text of the stage's timing, and where it ran."""

    status: int
    log: str
    timing: str | None
    host: str


def base_folder() -> Path:
    """Where a worker keeps its clones, secrets of the remote and the node's DVC cache, closed to other users.

    It is ASSAY_WORKER_DIR, or a folder of the user's own in the temporary one, where anyone could have made it before.

    Raises:
        PermissionError: it is a link, or not this user's alone.
    """
    given = os.environ.get("ASSAY_WORKER_DIR")
    folder = Path(given) if given else Path(tempfile.gettempdir()) / f"assay-worker-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(f"{folder} is not this user's alone: chmod 700, or set ASSAY_WORKER_DIR on this machine")
    return folder


def clone_of(order: Order, bundle: bytes) -> Path:
    """The clone of this process, at the order's commit; processes share one DVC cache on a machine."""
    base = base_folder()
    clone = base / f"{order.commit[:12]}-{os.getpid()}"
    if not (clone / ".dvc" / "config.local").is_file():
        shutil.rmtree(clone, ignore_errors=True)  # of an earlier process of this number that did not finish
        with tempfile.NamedTemporaryFile(dir=base, suffix=".bundle") as file:
            file.write(bundle)
            file.flush()
            git(base, "clone", "--quiet", "--no-checkout", file.name, str(clone))
        git(clone, "checkout", "--quiet", "--detach", order.commit)
        config = clone / ".dvc" / "config.local"
        config.touch(mode=0o600)
        config.write_text(order.config, encoding="utf-8")
        cache = ("config", "--local", "cache.dir", str(base / "cache"))
        subprocess.run([sys.executable, "-m", "dvc", *cache], cwd=clone, check=True, capture_output=True)
    return clone


def steps(order: Order) -> list[list[str]]:
    """Run the stage alone, what it reads pulled from the remote; push what it made, and the record that it was made."""
    run = dvc_command("repro", "--single-item", "--pull", *order.flags, order.stage)
    return [run, dvc_command("push", "--run-cache", order.stage)]


def run_in_clone(order: Order, bundle: bytes) -> Answer:
    """Run one stage on this machine and push what it made."""
    clone = clone_of(order, bundle)
    lock = clone / "dvc.lock"
    lock.unlink(missing_ok=True)
    if order.lock is not None:
        lock.write_text(order.lock, encoding="utf-8")
    log, timing = clone / ".assay" / "stage.log", clone / "timings" / f"{order.stage}.json"
    log.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    timing.unlink(missing_ok=True)
    environment = environment_of(clone, os.environ)
    children = Children(clone)
    status = 0
    for command in steps(order):
        status = children.run(command, log, environment, append=True)
        if status:
            break
    text = log.read_text(encoding="utf-8", errors="replace")
    took = timing.read_text(encoding="utf-8") if timing.is_file() else None
    return Answer(status, text, took, socket.gethostname())


def environment_of(clone: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The stage runs the clone's code, whatever version of it this machine has installed."""
    others = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
    # The workspace's own, which config.local may name, lies on another machine.
    site = str(clone.parent / "site")
    return child_environment(PYTHONPATH=os.pathsep.join([str(clone / "src"), *others]), DVC_SITE_CACHE_DIR=site)
