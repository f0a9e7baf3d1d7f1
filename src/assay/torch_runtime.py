"""How torch runs: a fixed number of threads and deterministic kernels, so that equal inputs give equal outputs."""

from __future__ import annotations

import os

import torch


def set_up_torch(*, threads: int) -> None:
    """Fix the number of threads and refuse kernels whose result depends on timing."""
    torch.set_num_threads(threads)
    # cuBLAS needs this for deterministic matrix products; it must stand before the first one.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
