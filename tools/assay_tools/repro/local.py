"""Stages side by side in this workspace, each by DVC's own single-item run."""

from __future__ import annotations

import os
import queue
import subprocess
from collections.abc import Sequence
from pathlib import Path

from assay_tools.repro.children import FAILED, LOGS, Children, child_environment, dvc_command, what_dvc_did
from assay_tools.repro.graph import Stage


def accelerators() -> list[str]:
    """Numbers of the NVIDIA GPUs that this process may use; empty without the driver's program."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [number for number in given.split(",") if number.strip()]
    try:
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):  # no such program, no driver
        return []
    return done.stdout.split()


class LocalEngine:
    """Runs stages in the workspace itself; with several GPUs each accelerated stage gets one of its own."""

    def __init__(
        self,
        root: Path,
        *,
        children: Children | None = None,
        force: bool = False,
        pull: bool = False,
        gpus: Sequence[str] | None = None,
    ) -> None:
        self.root = root
        self._flags = ["--force"] * force + ["--pull"] * pull
        self.children = children or Children(root)
        numbers = accelerators() if gpus is None else list(gpus)
        self._gpus: queue.SimpleQueue[str] | None = queue.SimpleQueue() if len(numbers) > 1 else None
        if self._gpus is not None:
            for number in numbers:
                self._gpus.put(number)

    def log(self, name: str) -> Path:
        return self.root / LOGS / f"{name}.log"

    def run(self, stage: Stage) -> str:
        """Run a stage to its end: ``ran``, ``from cache``, ``unchanged`` or ``failed``.

        Raises:
            Stopped: the run was stopped meanwhile.
        """
        command = dvc_command("repro", "--single-item", *self._flags, stage.name)
        if self._gpus is None or not stage.accelerated:
            status = self.children.run(command, self.log(stage.name), child_environment())
        else:
            gpu = self._gpus.get()
            try:
                environment = child_environment(CUDA_VISIBLE_DEVICES=gpu)
                status = self.children.run(command, self.log(stage.name), environment)
            finally:
                self._gpus.put(gpu)
        return what_dvc_did(self.log(stage.name)) if status == 0 else FAILED

    def stop(self) -> None:
        """End every stage that runs."""
        self.children.stop()
