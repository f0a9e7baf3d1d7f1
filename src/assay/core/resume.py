"""What names a checkpoint that outlives a killed run.

DVC deletes a stage's outputs before it runs, so a checkpoint stands outside them, in a folder under ``ROOT`` named after
everything that decides the result: parameters, data and code. A run with anything else changed does not find it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from assay.core.io import sha256_file

ROOT = Path(".assay/resume")


def project_code() -> dict[str, str]:
    """SHA-256 of every project module this process has imported: module name -> hash.

    A stage run with ``python -m`` is called ``__main__``; its spec knows its real name.
    """
    specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    return {
        spec.name: sha256_file(Path(spec.origin))
        for spec in specs
        if spec is not None and spec.name.split(".")[0] == "assay" and spec.origin
    }


def state_hash(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 of a network's tensors, so that a changed file of weights does not find the old checkpoint."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def resume_key(
    *, libraries: tuple[str, ...] = ("accelerate", "numpy", "timm", "torch", "torchvision"), **parts: Any
) -> str:
    """16 hex digits of everything that decides a result; ``parts`` must be JSON values."""
    versions = {name: version(name) for name in libraries}
    surroundings = {"code": project_code(), "versions": versions, "threads": torch.get_num_threads()}
    text = json.dumps({**parts, **surroundings}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
