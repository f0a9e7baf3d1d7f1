"""Stages on the machines of a Ray cluster; this workspace stays the place where everything ends up.

Ray says which machine is free and starts a task anew where one was lost. What a stage reads and makes travels through
the DVC remote; the commit, dvc.lock and what was printed travel through Ray.
"""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from assay.core.io import atomic_path
from assay_tools.repro.children import FAILED, LOGS, Children, Stopped, child_environment, dvc_command, what_dvc_did
from assay_tools.repro.graph import Stage
from assay_tools.repro.ray_worker import Answer, Order, run_in_clone
from assay_tools.workspace import git

# How often Ray starts a task anew whose machine or process died.
RESTARTS = 3
POLL_S, CONNECT_S = 0.5, 10
TOKEN = "copy ~/.ray/auth_token from the head, or name its copy by RAY_AUTH_TOKEN_PATH (docs/scale.md)"


def check_commit(root: Path) -> str:
    """The commit that the machines shall run.

    Raises:
        ValueError: files differ from it that decide results.
    """
    lines = git(root, "diff", "--name-only", "HEAD").splitlines()
    edited = [name for name in lines if name != "dvc.lock" and not name.startswith(("metrics/", "plots/"))]
    if edited:
        raise ValueError(f"the machines run what is committed, and {len(edited)} file(s) differ: {edited[:5]}; commit")
    return git(root, "rev-parse", "HEAD").strip()


def check_remote(root: Path) -> None:
    """Raise a ValueError where DVC has no default remote: nothing could travel."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        if not repo.config["core"].get("remote"):
            raise ValueError("several machines need a DVC remote that all reach: dvc remote add --default NAME ADDRESS")


def check_address(address: str | None) -> None:
    """Raise a ValueError where nobody listens at HOST:PORT; Ray itself tries for minutes and then ends the process.

    Without an address Ray would take whatever cluster it finds on this machine: what runs there reads the project and the
    secrets of its remote.
    """
    if address is None:
        raise ValueError("--engine ray needs --address HOST:PORT, as ray start --head says it")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"--address {address}: write HOST:PORT, as ray start --head says it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise ValueError(f"no Ray cluster at {address}: {error}") from error


def connect(address: str) -> Any:
    """The module ``ray``, connected to the cluster at ``address`` by the token of this machine.

    Up to Ray 2.60 a machine that has no token asks for none, whoever the cluster is. Here it has to be said:
    RAY_AUTH_MODE=disabled.

    Raises:
        ValueError: Ray is not installed, this machine has no token, or the cluster does not take it.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError as error:
        raise ValueError('--engine ray needs Ray: pip install -e ".[ray]"') from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level="warning")
    except ray.exceptions.AuthenticationError as error:
        raise ValueError(f"{address}: no token of the cluster here: {TOKEN}") from error
    except ConnectionError as error:
        raise ValueError(
            f"{address}: {error}; if it runs, it does not take the token of this machine: {TOKEN}"
        ) from error
    return ray


def read_lock(root: Path) -> str | None:
    """Text of dvc.lock, or None; under DVC's lock, since DVC writes the file in place."""
    from dvc.repo import Repo

    path = root / "dvc.lock"
    with Repo(str(root), _wait_for_lock=True) as repo, repo.lock:
        return path.read_text(encoding="utf-8") if path.is_file() else None


def bundle_of(root: Path) -> bytes:
    """The commit and its history as one file of git's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "commit.bundle"
        git(root, "bundle", "create", str(path), "HEAD")
        return path.read_bytes()


class RayEngine:
    """Runs stages on the cluster and takes over what they made; stages that can't travel run here.

    Raises:
        ValueError: Ray is not installed or not to be reached, no token, no remote, files that are not committed.
    """

    def __init__(
        self,
        root: Path,
        *,
        children: Children,
        address: str | None,
        cpus: int = 2,
        force: bool = False,
    ) -> None:
        self.root, self._cpus, self._force = root, cpus, force
        self.children = children
        check_address(address)
        self._commit = check_commit(root)
        check_remote(root)
        self._ray = connect(str(address))
        self._bundle = self._ray.put(bundle_of(root))
        self._task = self._ray.remote(run_in_clone)

    def log(self, name: str) -> Path:
        return self.root / LOGS / f"{name}.log"

    def slots(self) -> int:
        """How many stages the cluster can run at a time."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1) // self._cpus))

    def run(self, stage: Stage) -> str:
        """Run a stage to its end, there or here: ``ran``, ``from cache``, ``unchanged`` or ``failed``.

        Raises:
            Stopped: the run was stopped meanwhile.
        """
        log = self.log(stage.name)
        if stage.stays:
            return self._here(stage, log, flags=["--force"] * self._force, append=False)
        answer = self._there(stage)
        with atomic_path(log) as temporary:
            temporary.write_text(f"on {answer.host}:\n{answer.log}", encoding="utf-8")
        if answer.status:
            return FAILED
        if answer.timing is not None:
            with atomic_path(self.root / "timings" / f"{stage.name}.json") as temporary:
                temporary.write_text(answer.timing, encoding="utf-8")
        how = what_dvc_did(log)
        # The run-cache of the remote knows the run by now: nothing is trained here.
        return how if self._here(stage, log, flags=[], append=True) != FAILED else FAILED

    def _here(self, stage: Stage, log: Path, *, flags: list[str], append: bool) -> str:
        run = dvc_command("repro", "--single-item", *sorted({*flags, "--pull"}), stage.name)
        # What others read of it must be in the remote before they start.
        commands = [run, dvc_command("push", "--run-cache", stage.name)] if stage.stays else [run]
        for command in commands:
            if self.children.run(command, log, child_environment(), append=append):
                return FAILED
            append = True
        return what_dvc_did(log)

    def _there(self, stage: Stage) -> Answer:
        config = self.root / ".dvc" / "config.local"
        order = Order(
            stage=stage.name,
            commit=self._commit,
            lock=read_lock(self.root),
            config=config.read_text(encoding="utf-8") if config.is_file() else "",
            flags=("--force",) * self._force,
        )
        needed: dict[str, Any] = {"num_cpus": self._cpus, "max_retries": RESTARTS}
        if stage.accelerated and self._ray.cluster_resources().get("GPU"):
            needed["num_gpus"] = 1
        reference = self._task.options(name=stage.name, **needed).remote(order, self._bundle)
        while not self._ray.wait([reference], timeout=POLL_S)[0]:
            if self.children.stopping.is_set():
                self._ray.cancel(reference, force=True)
                raise Stopped
        try:
            answer: Answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Answer(1, f"{type(error).__name__}: {error}", None, "the cluster")
        return answer

    def stop(self) -> None:
        """End every stage, there and here."""
        self.children.stop()
