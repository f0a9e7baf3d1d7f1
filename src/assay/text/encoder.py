"""The encoder: token embeddings, embeddings of neighbouring pairs, and a RoBERTa or BERT body.

A single character says little in Chinese, and a small encoder has to learn from a few thousand texts what pairs mean. So
the own encoder adds to each token's embedding that of the pair it forms with the next token (n-gram embeddings as in ZEN,
Diao et al. 2020, in their simplest form). Encoders from the hub have none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, RobertaConfig, RobertaModel
from transformers.utils import logging

from assay.core.io import read_json, write_json
from assay.core.pretrained import load_model, load_pretrained
from assay.core.tensors import save_tensors
from assay.params.text import OwnEncoder

WEIGHTS = "model.safetensors"
RECORD = "encoder.json"
# The report of a pooler without weights; it is left out.
logging.set_verbosity_error()


def pair_keys(rows: Sequence[Sequence[int]], *, num_tokens: int, min_count: int) -> np.ndarray:
    """Sorted keys int64 of the pairs of neighbours that stand in at least ``min_count`` rows.

    The key of a pair is first * num_tokens + second.
    """
    counts = Counter(key for row in rows for key in {first * num_tokens + second for first, second in pairwise(row)})
    return np.array(sorted(key for key, count in counts.items() if count >= min_count), dtype=np.int64)


class PairEmbedding(nn.Module):
    """An embedding for each known pair of neighbouring tokens, added to that of the first.

    Args:
        keys: sorted int64 [num_pairs], see `pair_keys`.
        num_tokens: size of the vocabulary.
        size: of a pair's embedding, projected to the body's.
        dropout: share of the pairs left out in training, since a pair that stands in few texts is soon overfitted.
    """

    keys: torch.Tensor

    def __init__(self, keys: torch.Tensor, *, num_tokens: int, size: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.num_tokens, self.dropout = num_tokens, dropout
        self.register_buffer("keys", keys)
        self.table = nn.Embedding(len(keys) + 1, size, padding_idx=0)
        nn.init.normal_(self.table.weight, std=0.02)
        self.table.weight.data[0] = 0
        self.project = nn.Linear(size, hidden_size, bias=False)

    def pair_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Number of each token's pair with the next, int64 as ``input_ids`` [n, length]; 0 for one that is not known."""
        if len(self.keys) == 0:
            return torch.zeros_like(input_ids)
        wanted = input_ids[:, :-1] * self.num_tokens + input_ids[:, 1:]
        place = torch.searchsorted(self.keys, wanted).clamp(max=len(self.keys) - 1)
        found = torch.where(self.keys[place] == wanted, place + 1, 0)
        return functional.pad(found, (0, 1))

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """float [n, length, hidden_size]."""
        pairs = self.pair_ids(input_ids)
        if self.training and self.dropout > 0:
            pairs = pairs.masked_fill(torch.rand(pairs.shape, device=pairs.device) < self.dropout, 0)
        projected: torch.Tensor = self.project(self.table(pairs))
        return projected


class Encoder(nn.Module):
    """Token ids to one vector per token, by a body of transformers and pair embeddings, if any."""

    def __init__(self, body: Any, pairs: PairEmbedding | None) -> None:
        super().__init__()
        self.body, self.pairs = body, pairs

    @property
    def hidden_size(self) -> int:
        return int(self.body.config.hidden_size)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """float [n, length, hidden_size]; ``attention_mask`` is 0 at padding."""
        inputs = {"input_ids": input_ids}
        if self.pairs is not None:
            vectors = self.body.get_input_embeddings()(input_ids) + self.pairs(input_ids)
            # transformers can't tell padding from vectors, so positions are given: RoBERTa counts from padding_idx + 1.
            places = torch.arange(input_ids.shape[1], device=input_ids.device) + self.body.config.pad_token_id + 1
            inputs = {"inputs_embeds": vectors, "position_ids": places.expand(input_ids.shape)}
        hidden: torch.Tensor = self.body(attention_mask=attention_mask, **inputs).last_hidden_state
        return hidden


def new_encoder(
    config: OwnEncoder,
    *,
    num_tokens: int,
    pad_token_id: int,
    max_tokens: int,
    dropout: float,
    pairs: np.ndarray | None,
) -> Encoder:
    """An own encoder with random weights from torch's generator; ``pairs`` are the keys of its pair embeddings."""
    body = RobertaModel(
        RobertaConfig(
            vocab_size=num_tokens,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=max_tokens + pad_token_id + 1,
            type_vocab_size=1,
            pad_token_id=pad_token_id,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=0.0,  # on a CPU it would cost the fused attention
        ),
        add_pooling_layer=False,
    )
    table = (
        None
        if pairs is None
        else PairEmbedding(
            torch.from_numpy(pairs),
            num_tokens=num_tokens,
            size=config.pair_size,
            hidden_size=config.hidden_size,
            dropout=config.pair_dropout,
        )
    )
    return Encoder(body, table)


def save_encoder(folder: Path, encoder: Encoder, tokenizer: Any) -> None:
    """Write config, weights, tokenizer and ``encoder.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    encoder.body.config.save_pretrained(folder)
    pairs = encoder.pairs
    record = None if pairs is None else {"size": pairs.table.embedding_dim, "dropout": pairs.dropout}
    save_tensors(folder / WEIGHTS, encoder.state_dict())
    write_json(folder / RECORD, {"pairs": record})


def _bare(body: Any) -> Any:
    """The body without BERT's pooler, whose weights nothing here uses or trains."""
    if getattr(body, "pooler", None) is not None:
        body.pooler = None
    return body


def _lowest(body: Any, num_layers: int | None) -> Any:
    """The body with its lowest ``num_layers`` layers alone; ValueError if it has fewer."""
    if num_layers is None:
        return body
    if num_layers > body.config.num_hidden_layers:
        have = body.config.num_hidden_layers
        raise ValueError(f"num_layers {num_layers}: the encoder has {have}; take fewer, or null for all")
    body.encoder.layer = body.encoder.layer[:num_layers]
    body.config.num_hidden_layers = num_layers
    return body


def _hub_body(folder: Path, config: Any) -> Any:
    """The body in a folder as the hub has them, in float32; ValueError if a weight is missing."""
    body, info = load_model(AutoModel, folder, config=config, dtype=torch.float32, output_loading_info=True)
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    if missing:
        raise ValueError(f"{folder}: {len(missing)} weights are missing, say {missing[0]}")
    return _bare(body)


def load_encoder(folder: Path, *, dropout: float | None = None, num_layers: int | None = None) -> Encoder:
    """The encoder that `save_encoder` wrote, or one of the hub's folders. Runs no code from the files.

    Args:
        dropout: replaces that of the config.
        num_layers: of one of the hub's folders the lowest so many layers are taken, the others left out; None: all.

    Raises:
        ValueError: files missing or not fitting each other.
    """
    extra = {} if dropout is None else {"hidden_dropout_prob": dropout}
    try:
        config = load_pretrained(AutoConfig, folder, **extra)
        if not (folder / RECORD).is_file():
            return Encoder(_lowest(_hub_body(folder, config), num_layers), None)
        state = load_file(folder / WEIGHTS)
        record = read_json(folder / RECORD)["pairs"]
        pairs = None
        if record is not None:
            sizes = {"num_tokens": config.vocab_size, "hidden_size": config.hidden_size}
            pairs = PairEmbedding(state["pairs.keys"], size=record["size"], dropout=record["dropout"], **sizes)
        encoder = Encoder(_bare(AutoModel.from_config(config, trust_remote_code=False)), pairs)
        encoder.load_state_dict(state)
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder}: no encoder that can be read: {error}") from error
    return encoder
