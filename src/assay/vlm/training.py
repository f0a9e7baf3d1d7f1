"""Training by Hugging Face's Trainer: AdamW, linear decay after a warm-up, loss on answers only, resumed after a kill."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.utils.data import StackDataset, WeightedRandomSampler
from transformers import Trainer, TrainingArguments

from assay.core.pretrained import load_model
from assay.params.vlm import PretrainVlm, Tuning
from assay.training.trainer import (
    LOG_EVERY,
    SAVE_EVERY,
    PrintFigures,
    epoch_generator,
    log_and_save_steps,
    shared_arguments,
    train_to_end,
)
from assay.vlm.amplifier import Amplifying, danger_loss
from assay.vlm.examples import IGNORED, Examples, pad

# Of what the Trainer and peft write beside the weights: a pickle, and a card that names versions.
UNWANTED = ("training_args.bin", "README.md")
HISTORY = ("step", "epoch", "loss", "learning_rate", "grad_norm")


class SeededSampler(WeightedRandomSampler):
    """Rows by weight, with replacement, drawn anew each epoch by `assay.training.trainer.epoch_generator`."""

    def __init__(self, weights: Sequence[float], *, seed: int) -> None:
        super().__init__(weights, num_samples=len(weights), replacement=True)
        self._seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Called by Accelerate at the start of each epoch."""
        self.generator = epoch_generator(self._seed, epoch)


def answer_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum over the supervised tokens of -log p, each times its conversation's weight.

    Args:
        logits: [N, V] of the positions before the supervised tokens, conversation by conversation.
        labels: int64 [B, T], ``IGNORED`` where nothing is learned; N others.
        weights: float [B].
    """
    supervised = labels != IGNORED
    losses = nn.functional.cross_entropy(logits.float(), labels[supervised], reduction="none")
    return (losses * weights.repeat_interleave(supervised.sum(dim=1))).sum()


class AnswerTrainer(Trainer):
    """The Trainer with a weight per conversation and, where ``draw`` is given, rows drawn by it.

    ``amplifying`` is the network's gate at work, if it has one; its loss (`danger_loss`) counts ``danger_weight`` times.
    """

    def __init__(
        self, *, draw: Sequence[float] | None, amplifying: Amplifying | None, danger_weight: float, **options: Any
    ) -> None:
        super().__init__(compute_loss_func=self._mean_loss, **options)
        self._draw, self._amplifying, self._danger_weight = draw, amplifying, danger_weight
        self._weights = self._danger = self._counts = torch.empty(0)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self._draw is None:
            return super()._get_train_sampler(train_dataset)
        return SeededSampler(self._draw, seed=self.args.data_seed)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """As the Trainer's for adapters; else by the names of transformers' own files, which it would skip in silence."""
        network = self.model if model is None else model
        if isinstance(network, PeftModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = load_model(type(network), Path(resume_from_checkpoint), dtype=network.dtype)
        network.load_state_dict(saved.state_dict())

    def compute_loss(self, model: Any, inputs: dict[str, Any], **options: Any) -> Any:
        """As the Trainer's; what the network does not take is taken out first."""
        self._weights, self._danger, self._counts = (inputs.pop(name) for name in ("weights", "danger", "counts"))
        return super().compute_loss(model, inputs, **options)

    def _mean_loss(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        # Over all supervised tokens of a step, accumulated ones and other processes' included.
        total = answer_loss(outputs.logits, labels, self._weights)
        if self._danger_weight:
            assert self._amplifying is not None
            total = total + self._danger_weight * danger_loss(self._amplifying.gates, self._danger, self._counts)
        return total / ((labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


class Collator:
    """Batches of `Weighted` rows: those of `assay.vlm.examples.pad`, with the weights of their conversations."""

    def __init__(self, pad_token_id: int) -> None:
        self._pad_token_id = pad_token_id

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        examples = [row["example"] for row in rows]
        batch = pad(examples, pad_token_id=self._pad_token_id)
        danger = [example["danger"] for example in examples]
        batch |= {"danger": torch.cat(danger), "counts": torch.tensor([len(part) for part in danger])}
        return batch | {"weights": torch.tensor([row["weight"] for row in rows], dtype=torch.float32)}


class Weighted(StackDataset):
    """``example`` and ``weight``: conversations, each with the weight of its class in the loss (by default 1)."""

    def __init__(self, examples: Examples, weights: Sequence[float] | None = None) -> None:
        weight: Any = [1.0] * len(examples) if weights is None else list(weights)
        super().__init__(example=examples, weight=weight)


def training_arguments(
    settings: PretrainVlm | Tuning, folder: Path, *, num_rows: int, seed: int, order_seed: int, cpu: bool, workers: int
) -> TrainingArguments:
    """The Trainer's settings for ``num_rows`` conversations; fine-tuning has more of them than pretraining."""
    shared = shared_arguments(folder, settings, seed=seed, cpu=cpu)
    size = settings.batch_size * shared["gradient_accumulation_steps"]
    log, save = log_and_save_steps(
        num_rows, batch_size=size, epochs=settings.epochs, log_every=LOG_EVERY, save_every=SAVE_EVERY
    )
    return TrainingArguments(
        **shared,
        data_seed=order_seed,
        logging_steps=log,
        save_steps=save,
        dataloader_num_workers=0 if cpu else workers,
        dataloader_persistent_workers=not cpu,
        ddp_find_unused_parameters=False,
    )


def train(
    model: Any,
    rows: torch.utils.data.Dataset,
    arguments: TrainingArguments,
    *,
    pad_token_id: int,
    name: str,
    draw: Sequence[float] | None = None,
    danger_weight: float = 0.0,
    save_to: Path | None = None,
) -> list[dict[str, Any]]:
    """Train to the end, from the last checkpoint if there is one; returns the history.

    Args:
        rows: `Weighted` examples.
        draw: how often each row is drawn, in any unit; without it each row comes once an epoch.
        danger_weight: of the loss on the marks of the network's gate; 0 where it has none.
        save_to: folder for the weights that were trained, gathered from all processes.

    Raises:
        FloatingPointError: the loss is NaN or infinite.
    """
    trainer = AnswerTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=Collator(pad_token_id),
        callbacks=[PrintFigures(name)],
        draw=draw,
        amplifying=getattr(model, "amplifying", None),
        danger_weight=danger_weight,
    )
    lines = [row for row in train_to_end(trainer, name=name) if "loss" in row]
    history = [{"network": name} | {key: row.get(key) for key in HISTORY} for row in lines]
    if save_to is not None:
        trainer.save_model(str(save_to))
        for extra in UNWANTED:
            (save_to / extra).unlink(missing_ok=True)
    return history
