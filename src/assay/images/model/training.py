"""The training loop: one for stage 1 and for the experts.

AdamW, binary cross-entropy on one logit, or what a teacher adds to it (`Distillation`), a cosine schedule per epoch with
optional warm-up, best state by validation AUC. Accelerate drives device, precision and processes. Every random draw is a
function of (seed, epoch), so a run that was killed and resumed from its last epoch ends bit-identical to one that was
not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from torch import nn

from assay.core.progress import progress
from assay.images.model.checkpoint import Row, TrainingState, restore_state, save_state
from assay.images.model.dataset import PictureSet, make_loader
from assay.images.model.transforms import Normalize
from assay.params.images import Training


def epoch_metrics(logits: np.ndarray, labels: np.ndarray) -> Row:
    """Loss (mean binary cross-entropy, nats), accuracy, AUC and F1 of one pass; logits and labels [n]."""
    guesses = logits > 0
    return {
        "loss": float(np.logaddexp(0, np.where(labels > 0, -logits, logits).astype(np.float64)).mean()),
        "accuracy": float(accuracy_score(labels, guesses)),
        "auc": float(roc_auc_score(labels, logits)),
        "f1": float(f1_score(labels, guesses, zero_division=0.0)),
    }


@dataclass(frozen=True)
class Distillation:
    """How far a network learns from what a teacher says in place of the labels (Hinton et al. 2015).

    Attributes:
        temperature: what the logits of both are divided by; above 1, small differences of a sure teacher count, too.
        weight: share of the teacher's part of the loss.
    """

    temperature: float
    weight: float

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """``w T^2 BCE(z / T, sigmoid(t / T)) + (1 - w) BCE(z, y)``, in nats, mean over logits, labels and teacher [n].

        T^2, since the gradients of the first part shrink with its square ("Distilling the Knowledge in a Neural Network",
        section 2).
        """
        entropy, heat = nn.functional.binary_cross_entropy_with_logits, self.temperature
        soft = entropy(logits / heat, torch.sigmoid(teacher / heat))
        return self.weight * heat**2 * soft + (1 - self.weight) * entropy(logits, labels)


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: Training, *, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """CosineAnnealingLR to 0 over the epochs, after a linear warm-up where one is asked for.

    It moves once an epoch, or with ``schedule: step`` once a batch: in a run of few epochs the difference is large, since
    the last of two epochs would still run at half the rate.
    """
    unit = steps_per_epoch if settings.schedule == "step" else 1
    warm = settings.warmup_epochs * unit
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=settings.epochs * unit - warm)
    if warm == 0:
        return cosine
    linear = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / (warm + 1), total_iters=warm)
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [linear, cosine], milestones=[warm])


def train_mode(model: nn.Module) -> None:
    """Training mode but for modules whose every parameter is frozen: their running statistics stay, too."""
    model.train()
    for module in model.modules():
        held = list(module.parameters())
        if held and not any(parameter.requires_grad for parameter in held):
            module.eval()


@dataclass
class Loop:
    """A network in training: call ``train_epoch`` and ``validate`` in turn."""

    accelerator: Accelerator
    model: nn.Module
    normalize: Normalize
    optimizer: Any
    train_loader: Any
    val_loader: Any
    train_set: PictureSet
    batches: Any
    schedule: torch.optim.lr_scheduler.LRScheduler
    schedule_unit: str
    seed: int
    distillation: Distillation | None

    def train_epoch(self, epoch: int) -> Row:
        """One pass over the training images, with weights updated; metrics of the logits as they came."""
        self.train_set.epoch = self.batches.epoch = epoch
        torch.manual_seed(int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0]))
        train_mode(self.model)
        return self._run(self.train_loader, f"epoch {epoch}", self._step)

    def validate(self, epoch: int) -> Row:
        """Metrics on the validation images, in evaluation mode."""
        self.model.eval()
        with torch.inference_mode():
            return self._run(self.val_loader, f"epoch {epoch} val", self._forward)

    def _forward(
        self, images: torch.Tensor, labels: torch.Tensor, teacher: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with self.accelerator.autocast():
            logits = self.model(self.normalize(images)).squeeze(1)
        # In float32: half precision saturates the loss of confident logits.
        if self.distillation is None or teacher is None:
            return logits, nn.functional.binary_cross_entropy_with_logits(logits.float(), labels)
        return logits, self.distillation.loss(logits.float(), labels, teacher)

    def _step(self, *batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, loss = self._forward(*batch)
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.schedule_unit == "step":
            self.schedule.step()
        return logits, loss

    def _run(self, loader: Any, name: str, step: Callable[..., tuple[torch.Tensor, torch.Tensor]]) -> Row:
        outputs, truth = [], []
        for images, labels, *teacher in progress(loader, name=name, unit="batch"):
            logits, loss = step(images, labels, *teacher)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"{name}: the loss is {loss.item()}; a smaller lr may help")
            logits = logits.detach().float()
            # What several processes repeat to fill the last batches is left out. One process repeats nothing, and its
            # last batch may be larger than Accelerate reckons.
            if self.accelerator.num_processes > 1:
                logits, labels = self.accelerator.gather_for_metrics((logits, labels))
            outputs.append(logits.cpu())
            truth.append(labels.cpu())
        return epoch_metrics(torch.cat(outputs).numpy(), torch.cat(truth).numpy())


def start(
    model: nn.Module,
    train_set: PictureSet,
    val_set: PictureSet,
    *,
    settings: Training,
    normalize: Normalize,
    seed: int,
    cpu: bool,
    distillation: Distillation | None = None,
) -> Loop:
    """Hand model, optimizer and loaders to Accelerate; with ``distillation`` the train set names a teacher's logits.

    Raises:
        ValueError: images of one class only.
    """
    for role, data in (("train", train_set), ("val", val_set)):
        if set(data.labels.tolist()) != {0.0, 1.0}:
            raise ValueError(
                f"role {role} must hold real and forged images; its labels are {set(data.labels.tolist())}"
            )
    assert (distillation is None) == (train_set.teacher is None)
    accelerator = Accelerator(cpu=cpu, mixed_precision=settings.mixed_precision)
    workers = settings.loader_workers
    common: dict[str, Any] = {"seed": seed, "workers": workers}
    # Several processes fill up a last batch of one.
    train_loader = make_loader(
        train_set,
        batch_size=settings.batch_size,
        shuffle=True,
        join_single=accelerator.num_processes == 1,
        **common,
    )
    val_loader = make_loader(val_set, batch_size=2 * settings.batch_size, shuffle=False, **common)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
    schedule = make_schedule(optimizer, settings, steps_per_epoch=len(train_loader))
    prepared = accelerator.prepare(model.to(memory_format=torch.channels_last), optimizer, train_loader, val_loader)
    return Loop(
        accelerator=accelerator,
        model=prepared[0],
        normalize=normalize.to(accelerator.device),
        optimizer=prepared[1],
        train_loader=prepared[2],
        val_loader=prepared[3],
        train_set=train_set,
        batches=train_loader.batch_sampler,
        schedule=schedule,
        schedule_unit=settings.schedule,
        seed=seed,
        distillation=distillation,
    )


def fit(
    loop: Loop,
    *,
    epochs: int,
    selection: str,
    resume: Path,
    on_epoch: Callable[[Row], None],
) -> TrainingState:
    """Train to the end, from the last finished epoch if the folder ``resume`` holds one.

    ``on_epoch`` is called with every row of the history, those of an earlier run too. The state kept as best is that of
    the highest validation AUC, the earlier epoch on a tie; with ``selection: last`` it is the last epoch's.
    """
    schedule = loop.schedule
    state = restore_state(resume, loop.accelerator, loop.model, loop.optimizer, schedule)
    for earlier in state.history:
        on_epoch(earlier)
    for epoch in range(state.epoch + 1, epochs + 1):
        lr = float(schedule.get_last_lr()[0])
        train, val = loop.train_epoch(epoch), loop.validate(epoch)
        if loop.schedule_unit == "epoch":
            schedule.step()
        row: Row = {"epoch": epoch, "lr": lr}
        for side, metrics in (("train", train), ("val", val)):
            row |= {f"{side}_{key}": value for key, value in metrics.items()}
        state.epoch = epoch
        state.history.append(row)
        if selection == "last" or val["auc"] > state.best_auc:
            weights = loop.accelerator.unwrap_model(loop.model).state_dict()
            state.best_auc, state.best_epoch = val["auc"], epoch
            state.best_state = {name: value.detach().cpu().clone() for name, value in weights.items()}
        if loop.accelerator.is_main_process:
            save_state(resume, loop.accelerator, loop.model, loop.optimizer, schedule, state)
        loop.accelerator.wait_for_everyone()
        on_epoch(row)
    return state
