"""A folder for the checkpoints of a training, which a killed run finds again.

DVC deletes a stage's outputs before it runs, so checkpoints stand outside them, in a folder under ``ROOT`` named after
everything that decides the result: code, packages, parameters, inputs. A run with anything else changed does not find it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from assay.closure import STAGES, decisive_packages, import_closure, parsed
from assay.core.io import sha256_file

ROOT = Path(".assay/resume")
SRC = Path(__file__).parents[2]


def running_code(stage: str) -> dict[str, str]:
    """What the module of ``stage`` can run: digest of each project module and installed version of each package."""
    modules = import_closure(f"{STAGES}.{stage}", src=SRC)
    packages = {name: version(name) for name in decisive_packages(modules)}
    return {name: parsed(path)[0] for name, path in modules.items()} | packages


def input_hashes(inputs: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files, and of all files under folders: path -> hash.

    Raises:
        FileNotFoundError: an input that does not exist.
    """
    files = [file for path in inputs for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return {file.as_posix(): sha256_file(file) for file in files if not file.is_dir()}


def resume_key(stage: str, *, params: Mapping[str, Any], inputs: Iterable[Path]) -> str:
    """16 hex digits of everything that decides what a stage computes."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    surroundings = {
        "code": running_code(stage.split("@")[0]),
        "inputs": input_hashes(inputs),
        "threads": torch.get_num_threads(),
        "processes": os.environ.get("WORLD_SIZE", "1"),
        "accelerator": str(accelerator),
    }
    text = json.dumps({"params": params} | surroundings, sort_keys=True, default=lambda section: section.model_dump())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def resumable(stage: str, *, params: Mapping[str, Any], inputs: Iterable[Path]) -> Iterator[Path]:
    """Yield the folder of a training's checkpoints; it is removed when the block ends without an error.

    Args:
        stage: as DVC names it, ``train_expert@maxvit-full``.
        params: sections and values that decide the result.
        inputs: files and folders that do.
    """
    folder = ROOT / f"{stage.replace('@', '-')}-{resume_key(stage, params=params, inputs=inputs)}"
    yield folder
    if os.environ.get("RANK", "0") == "0":
        shutil.rmtree(folder, ignore_errors=True)
