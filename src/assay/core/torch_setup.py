"""How torch runs: a fixed number of threads and deterministic kernels, so that equal inputs give equal outputs."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

# From <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 2**30


def set_up_torch(*, threads: int) -> None:
    """Fix the number of threads and refuse kernels whose result depends on timing."""
    torch.set_num_threads(threads)
    # cuBLAS needs this for deterministic matrix products; it must stand before the first one.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Filling every fresh tensor with NaN finds reads of uninitialised memory; it does not make a result repeatable.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    _keep_freed_memory()


def pick_device(device: str) -> torch.device:
    """``cpu``, or for ``auto`` the first accelerator that torch finds."""
    if device == "auto" and torch.accelerator.is_available():
        return torch.accelerator.current_accelerator() or torch.device("cpu")
    return torch.device("cpu")


def _keep_freed_memory() -> None:
    """Let glibc reuse the memory of activations; by default it maps and clears large blocks anew at every step."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
