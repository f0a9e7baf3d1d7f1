"""The classifier: an encoder, its vectors pooled, and a linear head."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from assay.core.io import read_json, write_json
from assay.core.tensors import save_tensors
from assay.text.encoder import Encoder, load_encoder, save_encoder
from assay.text.parts import Passed, layers_of, merged, part_of
from assay.training.networks import check_positions, read_tokenizer

HEAD = "head.safetensors"
RECORD = "classifier.json"


def pooled(hidden: torch.Tensor, attention_mask: torch.Tensor, pooling: Literal["mean", "cls"]) -> torch.Tensor:
    """One vector for each text, float [n, hidden_size], of one for each token [n, length, hidden_size]."""
    if pooling == "cls":
        return hidden[:, 0]
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


class TextClassifier(nn.Module):
    """Token ids to class logits, by a new head whose values come from torch's generator.

    Args:
        max_tokens: of a text, special tokens included; the rest of a longer one is not seen.
        pooling: ``mean`` of the vectors of all tokens, or the vector of the first (``cls``).
        dropout: before the head.
        token_dropout: share of the ordinary tokens that training replaces by the mask token, an augmentation.
        merge_above: layer above which tokens are merged (`assay.text.parts.merged`).
        merged_tokens: so many become one there; 1: none are merged.

    Raises:
        ValueError: the encoder has fewer positions than ``max_tokens``.
    """

    special_ids: torch.Tensor

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Any,
        *,
        num_classes: int,
        max_tokens: int,
        pooling: Literal["mean", "cls"],
        dropout: float,
        token_dropout: float,
        merge_above: int = 0,
        merged_tokens: int = 1,
    ) -> None:
        super().__init__()
        check_positions(encoder.body, max_tokens=max_tokens)
        self.encoder, self.max_tokens = encoder, max_tokens
        self.pooling, self.token_dropout = pooling, token_dropout
        self.merge_above, self.merged_tokens = merge_above, merged_tokens
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.hidden_size, num_classes)
        self.mask_token_id = tokenizer.mask_token_id
        self.register_buffer("special_ids", torch.tensor(tokenizer.all_special_ids), persistent=False)
        # In a tuple, since their weights are the encoder's and shall be saved once.
        self._halves: tuple[Any, ...] = ()
        if merged_tokens > 1:
            body, layers = encoder.body, layers_of(encoder.body, frozen=merge_above)
            self._halves = (
                part_of(body, body.embeddings, layers[:merge_above]),
                part_of(body, Passed(), layers[merge_above:]),
            )

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """``logits`` float [n, num_classes]; ``attention_mask`` is 0 at padding."""
        if self.training and self.token_dropout > 0:
            drawn = torch.rand(input_ids.shape, device=input_ids.device) < self.token_dropout
            ordinary = ~torch.isin(input_ids, self.special_ids)
            input_ids = input_ids.masked_fill(drawn & ordinary, self.mask_token_id)
        if self._halves:
            lower, upper = self._halves
            hidden = lower(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            hidden, attention_mask = merged(hidden, attention_mask, size=self.merged_tokens)
            hidden = upper(inputs_embeds=hidden, attention_mask=attention_mask).last_hidden_state
        else:
            hidden = self.encoder(input_ids, attention_mask)
        return {"logits": self.head(self.dropout(pooled(hidden, attention_mask, self.pooling)))}


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder.

    Raises:
        ValueError: none there.
    """
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        # transformers would make one that knows no token.
        raise ValueError(f"no tokenizer in {folder}: neither tokenizer.json nor vocab.txt")
    return read_tokenizer(folder)


def save_classifier(folder: Path, model: TextClassifier, tokenizer: Any) -> None:
    """Write encoder, tokenizer, head and ``classifier.json``."""
    save_encoder(folder, model.encoder, tokenizer)
    save_tensors(folder / HEAD, model.head.state_dict())
    names = ("max_tokens", "pooling", "merge_above", "merged_tokens")
    record = {"num_classes": model.head.out_features} | {name: getattr(model, name) for name in names}
    write_json(folder / RECORD, record)


def load_classifier(folder: Path) -> tuple[TextClassifier, Any]:
    """The classifier that `save_classifier` wrote, in evaluation mode, and its tokenizer. Runs no code from the files.

    Raises:
        ValueError: files missing or not fitting each other.
    """
    if not (folder / RECORD).is_file():
        raise ValueError(f"no {RECORD} in {folder}: run dvc repro train_text")
    tokenizer, encoder = load_tokenizer(folder), load_encoder(folder)
    try:
        record = read_json(folder / RECORD)
        names = ("num_classes", "max_tokens", "merge_above", "merged_tokens")
        sizes, pooling = {name: int(record[name]) for name in names}, record["pooling"]
        if pooling not in ("mean", "cls"):
            raise ValueError(f"pooling {pooling!r}")
        model = TextClassifier(encoder, tokenizer, **sizes, pooling=pooling, dropout=0.0, token_dropout=0.0)
        model.head.load_state_dict(load_file(folder / HEAD))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder}: the head or {RECORD} is missing or does not fit: {error}") from error
    return model.eval(), tokenizer
