"""What the lines share about networks of transformers: tokenizers, saved weights, and outputs in batches."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoTokenizer

from assay.core.io import sha256_file
from assay.core.pretrained import load_pretrained
from assay.core.progress import progress

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "4bit": torch.bfloat16}


def loading_options(weights_dtype: str, *, field: str) -> dict[str, Any]:
    """What ``from_pretrained`` is told of frozen weights: their dtype, and how they are quantised.

    Args:
        weights_dtype: float32, bfloat16 or 4bit.
        field: parameter that holds it, for the message.

    Raises:
        ValueError: 4-bit weights without the package that holds them.
    """
    quantization = None
    if weights_dtype == "4bit":
        if find_spec("bitsandbytes") is None:
            raise ValueError(f"{field} 4bit needs the package bitsandbytes: install it, or bfloat16")
        from transformers import BitsAndBytesConfig

        quantization = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    return {"dtype": DTYPES[weights_dtype], "quantization_config": quantization}


@functools.cache
def _hash_of(path: Path, size: int, modified: int) -> str:
    return sha256_file(path)


def folder_hashes(folder: Path, pattern: str = "*") -> dict[str, str]:
    """SHA-256 of the files directly in a folder that match: name -> hash; each is read once while it stays as it is."""
    files = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
    return {path.name: _hash_of(path.resolve(), path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder.

    Raises:
        ValueError: none there.
    """
    try:
        return load_pretrained(AutoTokenizer, folder)
    except (OSError, ValueError) as error:
        raise ValueError(f"no tokenizer in {folder}: {str(error).splitlines()[0]}") from error


def positions_of(body: nn.Module) -> int | None:
    """The most tokens of a text that a body's table of positions has room for; None without such a table."""
    table = getattr(getattr(body, "embeddings", None), "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return None
    # RoBERTa counts from padding_idx + 1; BERT counts from 0, and its table has no padding_idx.
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)


def check_positions(body: nn.Module, *, max_tokens: int) -> None:
    """Refuse texts for which a body has no positions: the first long one would end the training.

    Raises:
        ValueError: ``max_tokens`` is above `positions_of` it.
    """
    if (have := positions_of(body)) is not None and max_tokens > have:
        raise ValueError(
            f"max_tokens {max_tokens}: {type(body).__name__} has positions for {have}; take {have} at most"
        )


@torch.inference_mode()
def batched_logits(
    model: Any, tokenizer: Any, rows: Sequence[Sequence[int]], *, what: str, batch_size: int
) -> np.ndarray:
    """Logits [n, num_outputs] of rows of token ids (n > 0), in their order; at least float32, wider if the network is.

    Args:
        what: named beside the progress bar.
    """
    device = next(model.parameters()).device
    model.eval()
    # Longest first: little padding, and a batch that does not fit in memory fails at once.
    order = np.argsort([-len(row) for row in rows], kind="stable")
    parts = []
    for start in progress(range(0, len(rows), batch_size), name=what, unit="batch"):
        chosen = [list(rows[number]) for number in order[start : start + batch_size]]
        batch = tokenizer.pad({"input_ids": chosen}, return_tensors="pt").to(device)
        logits = model(**batch)["logits"]
        parts.append(logits.to(torch.promote_types(logits.dtype, torch.float32)).cpu().numpy())
    outputs: np.ndarray = np.concatenate(parts)[np.argsort(order, kind="stable")]
    return outputs
