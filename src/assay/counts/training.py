"""Fine-tuning by Hugging Face's Trainer: AdamW, linear decay after a warm-up, resumed from its last checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import DataCollatorWithPadding, TrainingArguments

from assay.counts.objectives import Objective
from assay.params.counts import CountVariant
from assay.training.trainer import (
    LOG_EVERY,
    SAVE_EVERY,
    LengthGroupedTrainer,
    PrintFigures,
    log_and_save_steps,
    shared_arguments,
    train_to_end,
)

HISTORY = ("step", "epoch", "loss", "learning_rate", "grad_norm")


@dataclass(frozen=True)
class Phase:
    """One run of the Trainer: its name, epochs, and the rates of the pretrained weights and of the head."""

    name: str
    epochs: float
    lr: float
    head_lr: float


def head_names(model: Any) -> set[str]:
    """Names of the parameters that are new: all that do not belong to the pretrained network or to adapters in it."""
    bare = model.get_base_model() if isinstance(model, PeftModel) else model
    body = {id(value) for value in getattr(bare, bare.base_model_prefix).parameters()}
    return {name for name, value in model.named_parameters() if id(value) not in body}


class CountTrainer(LengthGroupedTrainer):
    """The Trainer, with a rate of its own for the head."""

    def __init__(self, *arguments: Any, head_lr: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_lr = head_lr

    def create_optimizer(self, *arguments: Any, **options: Any) -> Any:
        """AdamW over four groups: body and head, each with and without weight decay."""
        if self.optimizer is None:  # type: ignore[has-type]
            decayed, head = set(self.get_decay_parameter_names(self.model)), head_names(self.model)
            groups = []
            for lr, is_head in ((self.args.learning_rate, False), (self._head_lr, True)):
                for decay, is_decayed in ((self.args.weight_decay, True), (0.0, False)):
                    chosen = [
                        value
                        for name, value in self.model.named_parameters()
                        if value.requires_grad and (name in head) == is_head and (name in decayed) == is_decayed
                    ]
                    groups += [{"params": chosen, "lr": lr, "weight_decay": decay}] if chosen else []
            kind, kwargs = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = kind(groups, **kwargs)
        return self.optimizer


def encode(tokenizer: Any, texts: list[str], targets: np.ndarray, *, max_tokens: int) -> list[dict[str, Any]]:
    """Token ids with the target of each text, truncated to ``max_tokens``."""
    ids = tokenizer(texts, truncation=True, max_length=max_tokens)["input_ids"]
    return [{"input_ids": row, "labels": target} for row, target in zip(ids, targets.tolist(), strict=True)]


def phase_arguments(
    settings: CountVariant, phase: Phase, folder: Path, *, num_rows: int, seed: int, cpu: bool
) -> TrainingArguments:
    """The Trainer's settings for one phase over ``num_rows`` training rows."""
    size = settings.batch_size * settings.gradient_accumulation
    log, save = log_and_save_steps(
        num_rows, batch_size=size, epochs=phase.epochs, log_every=LOG_EVERY, save_every=SAVE_EVERY
    )
    shared = shared_arguments(folder, settings, seed=seed, cpu=cpu)
    return TrainingArguments(
        **shared | {"num_train_epochs": phase.epochs, "learning_rate": phase.lr},
        train_sampling_strategy="group_by_length" if settings.length_grouped else "random",
        logging_steps=log,
        save_steps=save,
    )


def make_trainer(
    model: Any,
    tokenizer: Any,
    rows: list[dict[str, Any]],
    objective: Objective,
    arguments: TrainingArguments,
    *,
    phase: Phase,
) -> CountTrainer:
    """A Trainer whose loss is the objective's mean over all examples of a step, accumulated ones included."""

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        total = objective.loss(outputs.logits.float(), labels)
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return CountTrainer(
        head_lr=phase.head_lr,
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_loss_func=loss,
        callbacks=[PrintFigures(phase.name)],
    )


def run_phase(
    model: Any,
    tokenizer: Any,
    rows: list[dict[str, Any]],
    objective: Objective,
    arguments: TrainingArguments,
    *,
    phase: Phase,
) -> list[dict[str, Any]]:
    """Train one phase to its end, from its last checkpoint if there is one; returns the history.

    Raises:
        FloatingPointError: the loss is NaN or infinite.
    """
    trainer = make_trainer(model, tokenizer, rows, objective, arguments, phase=phase)
    lines = [row for row in train_to_end(trainer, name=phase.name) if "loss" in row]
    return [{"phase": phase.name} | {key: row.get(key) for key in HISTORY} for row in lines]


def body_trained(model: Any) -> list[torch.nn.Parameter]:
    """Parameters of the pretrained network that are trained: what the first of two stages freezes for a while."""
    head = head_names(model)
    return [value for name, value in model.named_parameters() if value.requires_grad and name not in head]
