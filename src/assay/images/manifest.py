"""The manifests that ``prepare`` writes, one per role, as later stages read them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd


def read_manifest(folder: Path, role: str) -> pd.DataFrame:
    """The manifest of a role.

    Raises:
        ValueError: no such file, or columns missing.
    """
    path = folder / f"{role}_manifest.csv"
    if not path.is_file():
        raise ValueError(f"no manifest at {path}: run dvc repro prepare, or give the folder that holds it")
    # A generator or a group may be called NA.
    frame = pd.read_csv(path, dtype={"sample_id": str, "group_id": str, "generator": str}, keep_default_na=False)
    lacking = {"image_path", "label", "sample_id", "group_id"} - set(frame.columns)
    if lacking:
        raise ValueError(f"{path} lacks column(s) {sorted(lacking)}")
    return frame


def sample_id(image_path: str) -> str:
    """A short stable name for a sample: 16 hex digits of the SHA-256 of its manifest path."""
    return hashlib.sha256(image_path.encode()).hexdigest()[:16]
