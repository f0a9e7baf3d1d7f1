"""What every line needs of Hugging Face's Trainer beyond what it has: batches and checkpoints a resumed run finds again."""

from __future__ import annotations

import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

# Share of the steps between two checkpoints, and between two lines of the history.
SAVE_EVERY, LOG_EVERY = 0.25, 0.05
PRINTED = ("loss", "eval_loss", "eval_accuracy", "eval_f1")


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Torch's generator as a function of (seed, epoch), so that a resumed run draws what a straight one does.

    The Trainer's own samplers draw from torch's global generator, whose state at an epoch's start a resumed run has lost.
    """
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)


class SeededLengthSampler(LengthGroupedSampler):
    """Batches of similar length, drawn anew each epoch by `epoch_generator`."""

    def __init__(self, *arguments: Any, seed: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Called by Accelerate at the start of each epoch."""
        self.generator = epoch_generator(self._seed, epoch)


class LengthGroupedTrainer(Trainer):
    """The Trainer, with batches of similar length as a function of (seed, epoch)."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return SeededLengthSampler(size, dataset=train_dataset or self.train_dataset, seed=self.args.seed)


def log_and_save_steps(
    num_rows: int, *, batch_size: int, epochs: float, log_every: float, save_every: float
) -> tuple[int, int]:
    """Steps between two lines of the history, and between two checkpoints: whole multiples of the former.

    A checkpoint between two lines would lose the losses since the last one, and a resumed run's history would differ.

    Args:
        num_rows: of the training set.
        batch_size: rows of one step of one process, accumulated ones included.
        epochs: of the training.
        log_every, save_every: as shares of all steps.
    """
    total = epochs * math.ceil(num_rows / (batch_size * int(os.environ.get("WORLD_SIZE", "1"))))
    log = max(1, math.ceil(log_every * total))
    return log, log * max(1, round(save_every * total / log))


def shared_arguments(folder: Path, settings: Any, *, seed: int, cpu: bool) -> dict[str, Any]:
    """What every line tells the Trainer alike: AdamW, linear decay after a warm-up, one checkpoint kept.

    Args:
        folder: of checkpoints.
        settings: a section with epochs, batch_size, lr, weight_decay, warmup; and gradient_accumulation,
            mixed_precision, checkpointing where a line has them.
    """
    precision = getattr(settings, "mixed_precision", "no")
    return {
        "output_dir": str(folder),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.lr,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": getattr(settings, "gradient_accumulation", 1),
        "weight_decay": settings.weight_decay,
        "warmup_steps": settings.warmup,
        "lr_scheduler_type": "linear",
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "activation_checkpointing": getattr(settings, "checkpointing", False),
        "activation_checkpointing_kwargs": {"use_reentrant": False},
        "seed": seed,
        "use_cpu": cpu,
        # Else the Trainer logs the mean of earlier losses in the place of one that is NaN, see `train_to_end`.
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_total_limit": 1,
        "remove_unused_columns": False,
        "report_to": "none",
        "disable_tqdm": not sys.stderr.isatty(),
        "dataloader_pin_memory": not cpu,
    }


class PrintFigures(TrainerCallback):
    """A line per logged loss and per evaluation, as they come; ``name`` stands in front."""

    def __init__(self, name: str = "") -> None:
        self._prefix = f"{name} " if name else ""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Called by the Trainer."""
        shown = [f"{name} {logs[name]:.4f}" for name in PRINTED if logs and name in logs]
        if shown and state.is_world_process_zero:
            print(f"{self._prefix}step {state.global_step}/{state.max_steps}  {'  '.join(shown)}", flush=True)


def last_checkpoint(folder: Path) -> str | None:
    """The latest checkpoint that is whole; half-written ones, which a kill leaves, are removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        # Written last by the Trainer.
        if (path / "trainer_state.json").is_file():
            whole.append(path)
        else:
            shutil.rmtree(path)
    return str(max(whole, key=lambda path: int(path.name.removeprefix("checkpoint-")))) if whole else None


def train_to_end(trainer: Trainer, *, name: str) -> list[dict[str, Any]]:
    """Train to the end, from the last checkpoint if there is one; returns the Trainer's history.

    Args:
        name: of the training, for messages.

    Raises:
        FloatingPointError: the loss is NaN or infinite.
    """
    # The lines of `PrintFigures` are enough.
    trainer.remove_callback(PrinterCallback)
    checkpoint = last_checkpoint(Path(trainer.args.output_dir))
    if checkpoint:
        print(f"{name}: resuming from {checkpoint}", flush=True)
    mean = trainer.train(resume_from_checkpoint=checkpoint).training_loss
    history: list[dict[str, Any]] = trainer.state.log_history
    # The mean also has the steps after the last line.
    if not np.isfinite([mean, *(row["loss"] for row in history if "loss" in row)]).all():
        raise FloatingPointError(f"{name}: the loss is NaN or infinite; a smaller lr may help")
    return history
