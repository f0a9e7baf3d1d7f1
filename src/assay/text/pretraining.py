"""Masked-language-model pretraining with whole-word masks (Cui et al. 2021), without a next-sentence task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import TrainingArguments

from assay.core.progress import progress
from assay.params.text import PretrainText
from assay.text.encoder import Encoder
from assay.text.masking import EpochOfMasks, WholeWordCollator, word_spans
from assay.text.training import text_arguments
from assay.training.trainer import (
    LOG_EVERY,
    SAVE_EVERY,
    LengthGroupedTrainer,
    PrintFigures,
    log_and_save_steps,
    train_to_end,
)

BATCH = 64


class MaskedLanguageModel(nn.Module):
    """An encoder and RoBERTa's output layer, its weights tied to the token embeddings; logits of masked tokens only."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        size, num_tokens = encoder.hidden_size, int(encoder.body.config.vocab_size)
        self.dense, self.norm = nn.Linear(size, size), nn.LayerNorm(size)
        self.bias = nn.Parameter(torch.zeros(num_tokens))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
        """``loss`` (mean over masked tokens) and ``logits`` float [num_masked, num_tokens]; ``labels`` -100 elsewhere."""
        hidden = self.encoder(input_ids, attention_mask)[labels != -100]
        vectors = self.norm(functional.gelu(self.dense(hidden)))
        logits = functional.linear(vectors, self.encoder.body.get_input_embeddings().weight, self.bias)
        wanted = labels[labels != -100]
        # The mean of nothing is no number; where nothing can be asked for, nothing is to be learned.
        loss = functional.cross_entropy(logits, wanted) if len(wanted) else logits.sum()
        return {"loss": loss, "logits": logits}


def with_words(tokenizer: Any, texts: list[str], *, max_tokens: int, what: str) -> list[dict[str, Any]]:
    """Rows for `WholeWordCollator`: token ids, the word of each token (-1 where none can be asked for), and a key."""
    encoded = tokenizer(texts, truncation=True, max_length=max_tokens, return_offsets_mapping=True)
    rows = []
    for key, text in enumerate(progress(texts, name=f"words of {what}", unit="text")):
        ids = encoded["input_ids"][key]
        words = word_spans(text, encoded["offset_mapping"][key])
        # To ask for [UNK] would teach nothing.
        words[np.asarray(ids) == tokenizer.unk_token_id] = -1
        rows.append({"input_ids": ids, "words": words, "key": key})
    return rows


def pretrain(
    model: MaskedLanguageModel,
    rows: list[dict[str, Any]],
    collator: WholeWordCollator,
    settings: PretrainText,
    folder: Path,
    *,
    seed: int,
    cpu: bool,
) -> list[dict[str, float]]:
    """Train ``model`` in place to predict masked words; returns the history (step, epoch, loss).

    Args:
        rows: what `with_words` gives.
        folder: of checkpoints; an interrupted run goes on from the last one.

    Raises:
        FloatingPointError: the loss is NaN or infinite.
    """
    log, save = log_and_save_steps(
        len(rows),
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        log_every=LOG_EVERY,
        save_every=SAVE_EVERY,
    )
    arguments = TrainingArguments(
        **text_arguments(folder, settings, seed=seed, cpu=cpu),
        train_sampling_strategy="group_by_length",
        logging_steps=log,
        save_steps=save,
    )
    trainer = LengthGroupedTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=collator,
        callbacks=[EpochOfMasks(collator), PrintFigures()],
    )
    history = train_to_end(trainer, name="pretrain_text")
    return [{key: row[key] for key in ("step", "epoch", "loss")} for row in history if "loss" in row]


@torch.inference_mode()
def masked_figures(
    model: MaskedLanguageModel, rows: list[dict[str, Any]], collator: WholeWordCollator
) -> dict[str, float]:
    """Accuracy and loss on the masked tokens of ``rows``, their number, and the share of the most frequent one.

    The masks are those of epoch 0, whatever was trained before.
    """
    device = next(model.parameters()).device
    model.eval()
    collator.set_epoch(0)
    logits, labels = [], []
    for first in range(0, len(rows), BATCH):
        batch = {name: value.to(device) for name, value in collator(rows[first : first + BATCH]).items()}
        logits.append(model(**batch)["logits"].float().cpu())
        labels.append(batch["labels"][batch["labels"] != -100].cpu())
    scores, truth = torch.cat(logits), torch.cat(labels)
    return {
        "masked_accuracy": float((scores.argmax(dim=1) == truth).double().mean()),
        "masked_loss": float(functional.cross_entropy(scores.double(), truth)),
        "most_frequent_token": float(torch.bincount(truth).max() / len(truth)),
        "n_masked": float(len(truth)),
    }
