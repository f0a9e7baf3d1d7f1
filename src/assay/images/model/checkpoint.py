"""One checkpoint file of the training loop, in a folder named by ``resume_key``; removed when the stage has ended well."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from assay.core.io import atomic_path
from assay.core.resume import ROOT

if TYPE_CHECKING:
    from accelerate import Accelerator

    from assay.images.model.training import TrainingState


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
        from assay.images.model.training import TrainingState

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
