"""What the lines share about networks of transformers: tokenizers, saved weights, and outputs in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from assay.io import atomic_path
from assay.progress import progress


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder.

    Raises:
        ValueError: none there.
    """
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"no tokenizer in {folder}: {str(error).splitlines()[0]}") from error


def save_state(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Write tensors as safetensors, in the order of their names; whole or not at all."""
    plain = {name: value.detach().cpu().contiguous() for name, value in sorted(state.items())}
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata={"format": "pt"})


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
    for start in progress(range(0, len(rows), batch_size), what=what, unit="batch"):
        chosen = [list(rows[number]) for number in order[start : start + batch_size]]
        batch = tokenizer.pad({"input_ids": chosen}, return_tensors="pt").to(device)
        logits = model(**batch)["logits"]
        parts.append(logits.to(torch.promote_types(logits.dtype, torch.float32)).cpu().numpy())
    outputs: np.ndarray = np.concatenate(parts)[np.argsort(order, kind="stable")]
    return outputs
