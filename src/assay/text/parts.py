"""Parts of a BERT or RoBERTa body that share its layers, and neighbouring tokens merged between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Passed(nn.Module):
    """In the place of the embeddings: vectors that come as they are."""

    def forward(self, inputs_embeds: torch.Tensor, **unused: Any) -> torch.Tensor:
        """``inputs_embeds``, unchanged."""
        return inputs_embeds


def part_of(body: Any, embeddings: nn.Module, layers: Sequence[nn.Module]) -> Any:
    """A body of the same kind of these embeddings and layers, which it shares with ``body``."""
    with torch.device("meta"):
        part = type(body)(body.config, add_pooling_layer=False)
    part.embeddings, part.encoder.layer = embeddings, nn.ModuleList(layers)
    return part


def layers_of(body: Any, *, frozen: int) -> list[nn.Module]:
    """The layers of a BERT or RoBERTa body.

    Raises:
        ValueError: another kind of body, or none would be left above the ``frozen`` ones.
    """
    layers = list(getattr(getattr(body, "encoder", None), "layer", ()))
    if not hasattr(body, "embeddings") or frozen >= len(layers):
        raise ValueError(
            f"frozen_layers {frozen}: {type(body).__name__} has {len(layers)} layers, one is to be trained"
        )
    return layers


def merged(hidden: torch.Tensor, attention_mask: torch.Tensor, *, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each ``size`` neighbouring tokens as their mean: [n, ceil(length / size), hidden_size], and the mask of these.

    Padding is in no mean. Pooling between blocks of layers as in Funnel-Transformer (Dai et al. 2020), without its
    pretraining: what is above costs 1 / ``size``.
    """
    if size == 1:
        return hidden, attention_mask
    missing = -hidden.shape[1] % size
    mask = functional.pad(attention_mask, (0, missing)).unflatten(1, (-1, size))
    vectors = functional.pad(hidden, (0, 0, 0, missing)).unflatten(1, (-1, size))
    counts = mask.sum(dim=2)
    sums = (vectors * mask.unsqueeze(-1).to(hidden.dtype)).sum(dim=2)
    return sums / counts.clamp(min=1).unsqueeze(-1).to(hidden.dtype), (counts > 0).to(attention_mask.dtype)
