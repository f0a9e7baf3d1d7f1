"""Checkpoints that outlive a killed run.

DVC deletes a stage's outputs before it runs, so a checkpoint stands outside them, in a folder named after everything
that decides the result: parameters, data and code. A run with anything else changed does not find it. It is removed
when the stage has ended well.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from assay.io import atomic_path, sha256_file

if TYPE_CHECKING:
    from accelerate import Accelerator

    from assay.images.training import TrainingState

ROOT = Path(".assay/resume")


def project_code() -> dict[str, str]:
    """SHA-256 of every project module this process has imported: module name -> hash.

    A stage run with ``python -m`` is called ``__main__``; its spec knows its real name.
    """
    specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    return {
        spec.name: sha256_file(Path(spec.origin))
        for spec in specs
        if spec is not None and spec.name.split(".")[0] == "assay" and spec.origin
    }


def state_hash(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 of a network's tensors, so that a changed file of weights does not find the old checkpoint."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def resume_key(**parts: Any) -> str:
    """16 hex digits of everything that decides a result; ``parts`` must be JSON values."""
    versions = {name: version(name) for name in ("accelerate", "numpy", "timm", "torch", "torchvision")}
    surroundings = {"code": project_code(), "versions": versions, "threads": torch.get_num_threads()}
    text = json.dumps({**parts, **surroundings}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class ResumeFolder:
    """One checkpoint, replaced at every epoch: model, optimizer, schedule and ``TrainingState``."""

    def __init__(self, stage: str, key: str, *, root: Path = ROOT) -> None:
        self.path = root / f"{stage}-{key}" / "checkpoint.pt"

    def save(self, accelerator: Accelerator, model: Any, optimizer: Any, schedule: Any, state: TrainingState) -> None:
        """Write the checkpoint atomically; a kill leaves the earlier one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "model": accelerator.unwrap_model(model).state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "scaler": accelerator.scaler.state_dict() if accelerator.scaler else {},
            "state": asdict(state),
        }
        with atomic_path(self.path) as temporary:
            torch.save(content, temporary)

    def restore(self, accelerator: Accelerator, model: Any, optimizer: Any, schedule: Any) -> TrainingState | None:
        """Load the checkpoint into model, optimizer and schedule; None where there is none."""
        from assay.images.training import TrainingState

        if not self.path.is_file():
            return None
        content = torch.load(self.path, map_location="cpu", weights_only=True)
        accelerator.unwrap_model(model).load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        schedule.load_state_dict(content["schedule"])
        if accelerator.scaler:
            accelerator.scaler.load_state_dict(content["scaler"])
        state = TrainingState(**content["state"])
        print(f"resuming after epoch {state.epoch} from {self.path.parent}", flush=True)
        return state

    def remove(self) -> None:
        """Forget the checkpoint: the stage has its outputs."""
        shutil.rmtree(self.path.parent, ignore_errors=True)
