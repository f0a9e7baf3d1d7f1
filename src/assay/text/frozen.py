"""The lowest layers of an encoder, frozen: what they say of a text is computed once, and training goes on from there.

With eight of twelve layers frozen an epoch costs a quarter of the backward passes and no forward pass of the frozen part.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from assay.core.progress import progress
from assay.text.classifier import TextClassifier, pooled
from assay.text.parts import Passed, layers_of, merged, part_of


class UpperLayers(nn.Module):
    """A classifier from the outputs of its lowest ``frozen`` layers on; its layers and head are those of ``model``."""

    def __init__(self, model: TextClassifier, *, frozen: int) -> None:
        super().__init__()
        layers = layers_of(model.encoder.body, frozen=frozen)[frozen:]
        self.body = part_of(model.encoder.body, Passed(), layers)
        self.dropout, self.head = model.dropout, model.head
        self.pooling, self.token_dropout = model.pooling, model.token_dropout

    def forward(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """``logits`` float [n, num_classes] of ``hidden`` [n, length, hidden_size]; token dropout hides vectors."""
        if self.training and self.token_dropout > 0:
            drawn = torch.rand(attention_mask.shape, device=attention_mask.device) < self.token_dropout
            # The first token stays, so that no text is empty.
            drawn[:, 0] = False
            attention_mask = attention_mask.masked_fill(drawn, 0)
        found = self.body(inputs_embeds=hidden, attention_mask=attention_mask).last_hidden_state
        return {"logits": self.head(self.dropout(pooled(found, attention_mask, self.pooling)))}


@torch.inference_mode()
def frozen_outputs(
    model: TextClassifier,
    tokenizer: Any,
    rows: Sequence[Sequence[int]],
    *,
    frozen: int,
    dtype: torch.dtype,
    batch_size: int,
    name: str,
) -> list[np.ndarray]:
    """What the lowest ``frozen`` layers say of rows of token ids, float16 [length, hidden_size] of each: without dropout,
    its neighbouring tokens merged where the model does so.

    Args:
        dtype: of the computation; the weights of ``model`` stay as they are.
        name: of the rows, for the progress bar.
    """
    body = model.encoder.body
    layers = layers_of(body, frozen=frozen)[:frozen]
    lower = part_of(body, body.embeddings, layers).eval()
    if dtype != torch.float32:
        lower = copy.deepcopy(lower).to(dtype)
    # Longest first, as in `batched_logits`.
    order = np.argsort([-len(row) for row in rows], kind="stable")
    found: list[Any] = [None] * len(rows)
    for start in progress(range(0, len(rows), batch_size), name=f"frozen layers, {name}", unit="batch"):
        chosen = order[start : start + batch_size]
        batch = tokenizer.pad({"input_ids": [list(rows[number]) for number in chosen]}, return_tensors="pt")
        batch = batch.to(body.device)
        hidden = lower(**batch).last_hidden_state
        # They come from a layer norm: half precision holds them to 0.05 %, far less than what dropout does.
        hidden, mask = merged(hidden.float(), batch["attention_mask"], size=model.merged_tokens)
        values, lengths = hidden.to(torch.float16).cpu().numpy(), mask.sum(dim=1).tolist()
        for number, row, length in zip(chosen, values, lengths, strict=True):
            found[number] = row[:length].copy()
    return found
