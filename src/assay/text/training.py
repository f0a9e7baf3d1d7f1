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

from assay.core.progress import progress
from assay.params.text import PretrainText, TextNetwork
from assay.text.trainer import TextTrainer, layer_rates
from assay.training.trainer import (
    SAVE_EVERY,
    PrintFigures,
    log_and_save_steps,
    shared_arguments,
    train_to_end,
)

# Rows that are judged at once.
JUDGED = 64


def text_arguments(folder: Path, settings: PretrainText | TextNetwork, *, seed: int, cpu: bool) -> dict[str, Any]:
    """Options of the Trainer that pretraining and fine-tuning share."""
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


def class_metrics(truth: np.ndarray, predicted: np.ndarray, *, num_classes: int) -> dict[str, float]:
    """accuracy, f1, precision, recall: of class 1 where there are two classes, else their macro mean (scikit-learn)."""
    average = "binary" if num_classes == 2 else "macro"
    precision, recall, f1, _ = precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)
    metrics = {"accuracy": accuracy_score(truth, predicted), "f1": f1, "precision": precision, "recall": recall}
    return {name: float(value) for name, value in metrics.items()}


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
        # The Trainer counts the elements of ``labels`` over all accumulated batches, and a text has one per class.
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch / labels.shape[1])


class FrozenCollator:
    """Rows with the outputs of frozen layers to a batch: hidden float32 [n, length, size], attention_mask, labels."""

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        hidden = [torch.from_numpy(row["hidden"]).float() for row in rows]
        ones = [torch.ones(len(row), dtype=torch.long) for row in hidden]
        padded = torch.nn.utils.rnn.pad_sequence
        return {
            "hidden": padded(hidden, batch_first=True),
            "attention_mask": padded(ones, batch_first=True),
            "labels": torch.tensor([row["labels"] for row in rows]),
        }


def collator_of(tokenizer: Any, rows: list[dict[str, Any]]) -> Any:
    """What makes batches of these rows: token ids, or the outputs of frozen layers."""
    return FrozenCollator() if "hidden" in rows[0] else DataCollatorWithPadding(tokenizer)


@torch.inference_mode()
def predicted_logits(model: Any, tokenizer: Any, rows: list[dict[str, Any]]) -> np.ndarray:
    """Logits float32 [n, num_classes] of rows as `fine_tune` takes them, without dropout, in their order."""
    model.eval()
    device, collate = model.head.weight.device, collator_of(tokenizer, rows)
    # Longest first: little padding.
    order = np.argsort([-len(row["input_ids"]) for row in rows], kind="stable")
    parts = []
    for start in progress(range(0, len(rows), JUDGED), name="texts", unit="batch"):
        batch = collate([rows[number] for number in order[start : start + JUDGED]])
        inputs = {name: value.to(device) for name, value in batch.items() if name != "labels"}
        parts.append(model(**inputs)["logits"].float().cpu().numpy())
    found: np.ndarray = np.concatenate(parts)[np.argsort(order, kind="stable")]
    return found


def fine_tune(
    model: Any,
    tokenizer: Any,
    train: list[dict[str, Any]],
    val: list[dict[str, Any]],
    settings: TextNetwork,
    folder: Path,
    *,
    class_weights: torch.Tensor | None,
    seed: int,
    cpu: bool,
) -> list[dict[str, Any]]:
    """Train ``model`` in place; returns a row per evaluation on val and per logged loss.

    Args:
        model: a classifier, or the layers above the frozen ones (`assay.text.frozen.UpperLayers`).
        train, val: from `encode`; over frozen layers each row also has their ``hidden`` outputs.
        folder: of checkpoints; an interrupted run goes on from the last one.

    Raises:
        FloatingPointError: the loss is NaN or infinite.
    """
    log, save = log_and_save_steps(
        len(train),
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        log_every=min(settings.eval_every / settings.epochs, 1.0),
        save_every=SAVE_EVERY,
    )

    def metrics(prediction: Any) -> dict[str, float]:
        truth, predicted = prediction.label_ids.argmax(axis=1), prediction.predictions.argmax(axis=1)
        return class_metrics(truth, predicted, num_classes=model.head.out_features)

    arguments = TrainingArguments(
        **text_arguments(folder, settings, seed=seed, cpu=cpu),
        train_sampling_strategy="group_by_length" if settings.length_grouped else "random",
        per_device_eval_batch_size=JUDGED,
        logging_steps=log,
        eval_strategy="steps",
        eval_steps=log,
        save_steps=log if settings.keep == "best" else save,
        load_best_model_at_end=settings.keep == "best",
        metric_for_best_model="accuracy",
    )
    stop = [] if settings.early_stopping is None else [EarlyStoppingCallback(settings.early_stopping)]
    trainer = TextTrainer(
        model=model,
        rates=layer_rates(model, settings),
        r_drop=settings.r_drop,
        adversarial=settings.adversarial,
        args=arguments,
        train_dataset=train,
        eval_dataset=val,
        data_collator=collator_of(tokenizer, train),
        compute_loss_func=Loss(class_weights, settings.label_smoothing),
        compute_metrics=metrics,
        callbacks=[PrintFigures(), *stop],
    )
    return train_to_end(trainer, name="train_text")
