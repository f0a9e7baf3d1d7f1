"""Tensors written as safetensors, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from assay.core.io import atomic_path


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors in the order of their names, with the mark by which transformers knows PyTorch's."""
    plain = {name: value.detach().cpu().contiguous() for name, value in sorted(tensors.items())}
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata={"format": "pt"})
