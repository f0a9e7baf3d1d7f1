"""What an interrupted training goes on from: one file with network, optimizer, schedule and history."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from assay.core.io import atomic_path

if TYPE_CHECKING:
    from accelerate import Accelerator

FILE = "checkpoint.pt"
Row = dict[str, float]


@dataclass
class TrainingState:
    """How far a training has come, and the state of the network that is kept so far."""

    epoch: int = 0
    best_epoch: int = 0
    best_auc: float = -1.0
    best_state: dict[str, torch.Tensor] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)


def save_state(
    folder: Path, accelerator: Accelerator, model: Any, optimizer: Any, schedule: Any, state: TrainingState
) -> None:
    """Write the checkpoint into ``folder`` atomically; a kill leaves the earlier one."""
    content = {
        "model": accelerator.unwrap_model(model).state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler else {},
        "state": asdict(state),
    }
    with atomic_path(folder / FILE) as temporary:
        torch.save(content, temporary)


def restore_state(folder: Path, accelerator: Accelerator, model: Any, optimizer: Any, schedule: Any) -> TrainingState:
    """Load the checkpoint in ``folder`` into model, optimizer and schedule; a fresh state where there is none."""
    if not (folder / FILE).is_file():
        return TrainingState()
    content = torch.load(folder / FILE, map_location="cpu", weights_only=True)
    accelerator.unwrap_model(model).load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    schedule.load_state_dict(content["schedule"])
    if accelerator.scaler:
        accelerator.scaler.load_state_dict(content["scaler"])
    state = TrainingState(**content["state"])
    print(f"resuming after epoch {state.epoch} from {folder}", flush=True)
    return state
