"""Meta-models and alignments on disk: JSON and safetensors, which hold numbers and run nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from assay.core.io import atomic_path, read_json, write_json
from assay.images.stacking.alignment import Alignment
from assay.images.stacking.meta_model import CANDIDATES, MetaModel
from assay.images.stacking.trees import trees_of_tensors

TREES = "trees.safetensors"
PARTS = ("source_mean", "rotation", "target_mean")
# Fields of a meta-model that meta.json holds.
FIELDS = ("kind", "experts", "expert", "coefficients", "intercept")


def save_alignments(path: Path, maps: Mapping[tuple[str, int], Alignment]) -> None:
    """Write (expert, fold) -> Alignment as float64 tensors named ``<expert>/<fold>/<part>``."""
    tensors = {
        f"{expert}/{fold}/{part}": np.ascontiguousarray(getattr(item, part))
        for (expert, fold), item in sorted(maps.items())
        for part in PARTS
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def load_alignments(path: Path) -> dict[tuple[str, int], Alignment]:
    """The inverse of ``save_alignments``.

    Raises:
        ValueError: no such file.
    """
    if not path.is_file():
        raise ValueError(f"no alignments at {path}: run dvc repro train_meta, or give the folder that holds them")
    tensors = load_file(path)
    keys = sorted({tuple(name.split("/")[:2]) for name in tensors})
    return {
        (expert, int(fold)): Alignment(*(tensors[f"{expert}/{fold}/{part}"] for part in PARTS)) for expert, fold in keys
    }


def save_meta(folder: Path, model: MetaModel, info: Mapping[str, Any]) -> None:
    """Write meta.json, and `TREES` where the model has trees; those of an earlier model are removed."""
    write_json(folder / "meta.json", {**info, "model": {name: getattr(model, name) for name in FIELDS}})
    if model.trees is None:
        (folder / TREES).unlink(missing_ok=True)
        return
    with atomic_path(folder / TREES) as temporary:
        save_file(model.trees.tensors(), temporary)


def load_meta(folder: Path) -> tuple[MetaModel, dict[str, Any]]:
    """(meta-model, the rest of meta.json).

    Raises:
        ValueError: files missing or not fitting each other.
    """
    if not (folder / "meta.json").is_file():
        raise ValueError(f"no meta.json in {folder}: run dvc repro train_meta, or give the folder that holds it")
    info = read_json(folder / "meta.json")
    record = info.pop("model")
    kind, trees = record["kind"], None
    if kind not in CANDIDATES:
        raise ValueError(f"meta-model kind {kind!r} is unknown; known are {CANDIDATES}")
    if kind.startswith("lightgbm"):
        try:
            trees = trees_of_tensors(load_file(folder / TREES))
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{folder / TREES} can't be read ({error}); run dvc repro train_meta") from error
    model = MetaModel(
        kind=kind,
        experts=tuple(record["experts"]),
        expert=int(record["expert"]),
        coefficients=tuple(record["coefficients"]),
        intercept=float(record["intercept"]),
        trees=trees,
    )
    return model, info
