"""Fine-tuning by Hugging Face's Trainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from torch.nn import functional
from transformers import DataCollatorWithPadding, EarlyStoppingCallback, TrainingArguments

from assay.params.text import PretrainText, TrainText
from assay.text.classifier import TextClassifier
from assay.training.trainer import (
    SAVE_EVERY,
    LengthGroupedTrainer,
    PrintFigures,
    log_and_save_steps,
    shared_arguments,
    train_to_end,
)


def text_arguments(folder: Path, settings: PretrainText | TrainText, *, seed: int, cpu: bool) -> dict[str, Any]:
    """What pretraining and fine-tuning tell the Trainer alike."""
    return shared_arguments(folder, settings, seed=seed, cpu=cpu) | {
        # Early stopping goes on counting after a kill.
        "restore_callback_states_from_checkpoint": True,
        "label_names": ["labels"],
    }


def soft_targets(labels: np.ndarray, *, num_classes: int, teacher: np.ndarray | None, weight: float) -> np.ndarray:
    """Targets float32 [n, num_classes]: the labels, mixed with ``teacher`` probabilities at ``weight``.

    Cross-entropy with mixed targets has the gradient of (1 - weight) * cross-entropy + weight * divergence from the
    teacher, at temperature 1 (Hinton, Vinyals and Dean 2015).
    """
    targets = np.eye(num_classes, dtype=np.float32)[labels]
    if teacher is not None:
        targets = (1 - weight) * targets + weight * teacher.astype(np.float32)
    return targets


def encode(tokenizer: Any, texts: Sequence[str], targets: np.ndarray, *, max_tokens: int) -> list[dict[str, Any]]:
    """Token ids with the targets of each text, truncated to ``max_tokens``."""
    ids = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    return [{"input_ids": row, "labels": target} for row, target in zip(ids, targets.tolist(), strict=True)]


def balanced_weights(labels: np.ndarray, *, num_classes: int) -> torch.Tensor:
    """Class weights float32 [num_classes] in inverse proportion to frequency: scikit-learn's ``balanced``."""
    counts = np.bincount(labels, minlength=num_classes)
    return torch.tensor(len(labels) / (num_classes * np.maximum(counts, 1)), dtype=torch.float32)


def class_figures(truth: np.ndarray, predicted: np.ndarray, *, num_classes: int) -> dict[str, float]:
    """accuracy, f1, precision, recall: of class 1 where there are two classes, else their macro mean (scikit-learn)."""
    average = "binary" if num_classes == 2 else "macro"
    precision, recall, f1, _ = precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)
    figures = {"accuracy": accuracy_score(truth, predicted), "f1": f1, "precision": precision, "recall": recall}
    return {name: float(value) for name, value in figures.items()}


@dataclass(frozen=True)
class Loss:
    """Cross-entropy with soft targets; the mean over all examples of a step, accumulated ones included."""

    class_weights: torch.Tensor | None
    label_smoothing: float

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits = outputs["logits"].float()
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        total = functional.cross_entropy(
            logits, labels, weight=weights, label_smoothing=self.label_smoothing, reduction="sum"
        )
        # The Trainer counts the elements of ``labels`` over all accumulated batches: a soft target has one per class.
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch / labels.shape[1])


def fine_tune(
    model: TextClassifier,
    tokenizer: Any,
    train: list[dict[str, Any]],
    val: list[dict[str, Any]],
    settings: TrainText,
    folder: Path,
    *,
    class_weights: torch.Tensor | None,
    seed: int,
    cpu: bool,
) -> list[dict[str, Any]]:
    """Train ``model`` in place; returns a row per evaluation on val and per logged loss.

    Args:
        train, val: what `encode` gives.
        folder: of checkpoints; an interrupted run goes on from the last one.

    Raises:
        FloatingPointError: the loss is NaN or infinite.
    """
    num_classes = model.head.out_features
    log, save = log_and_save_steps(
        len(train),
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        log_every=min(settings.eval_every / settings.epochs, 1.0),
        save_every=SAVE_EVERY,
    )

    def figures(prediction: Any) -> dict[str, float]:
        truth, predicted = prediction.label_ids.argmax(axis=1), prediction.predictions.argmax(axis=1)
        return class_figures(truth, predicted, num_classes=num_classes)

    arguments = TrainingArguments(
        **text_arguments(folder, settings, seed=seed, cpu=cpu),
        train_sampling_strategy="group_by_length" if settings.length_grouped else "random",
        per_device_eval_batch_size=64,
        logging_steps=log,
        eval_strategy="steps",
        eval_steps=log,
        save_steps=log if settings.keep == "best" else save,
        load_best_model_at_end=settings.keep == "best",
        metric_for_best_model="accuracy",
    )
    stop = [] if settings.early_stopping is None else [EarlyStoppingCallback(settings.early_stopping)]
    trainer = LengthGroupedTrainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=val,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_loss_func=Loss(class_weights, settings.label_smoothing),
        compute_metrics=figures,
        callbacks=[PrintFigures(), *stop],
    )
    return train_to_end(trainer, name="train_text")
