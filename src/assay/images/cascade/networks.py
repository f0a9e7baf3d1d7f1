"""Networks by their names in the cascade: ``stage1``, ``<expert>`` (its refit at its own size), ``<expert>@<side>``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from assay.core.io import inside
from assay.images.cascade.cost import STAGE1, count_macs
from assay.images.model.experts import FeatureExtractor, load_extractor
from assay.images.model.prediction import Predictor, load_predictor

NETWORK = r"^[a-z]\w{0,79}(@[1-9]\d{0,3})?$"


def folder_of(name: str) -> str:
    """The folder of a single network, relative to the models folder."""
    return STAGE1 if name == STAGE1 else f"experts/{name.partition('@')[0]}/full"


def load_network(models: Path, name: str, *, device: str) -> Predictor:
    """A single network of a models folder.

    Raises:
        ValueError: no such name, or as `load_checkpoint`.
    """
    if not re.match(NETWORK, name):
        raise ValueError(f"network {name!r} is unknown: stage1, an expert, or an expert and a side as in maxvit@96")
    if name == STAGE1:
        return load_predictor(models / STAGE1, device=device)
    side = name.partition("@")[2]
    return load_extractor(inside(models, folder_of(name)), device=device, image_size=int(side) if side else None)


def load_singles(
    models: Path, experts: Sequence[str], *, sizes: Sequence[int], device: str
) -> dict[str, FeatureExtractor]:
    """Each expert's refit at its own size, and at those of ``sizes`` that it can be built for.

    A network with windows or tables of positions has weights for one size: of another it is told that it stays out.

    Raises:
        ValueError: as `load_checkpoint`, at an expert's own size.
    """
    found: dict[str, FeatureExtractor] = {}
    for expert in experts:
        found[expert] = load_extractor(models / folder_of(expert), device=device)
        for size in sorted(set(sizes) - {found[expert].image_size}):
            try:
                one = load_extractor(models / folder_of(expert), device=device, image_size=size)
                # Windows that do not divide a side load, and are found out by a picture.
                count_macs(one.from_pixels, image_size=size)
            except (ValueError, RuntimeError, AssertionError) as error:
                print(f"{expert} stays out at {size} pixels: {str(error).splitlines()[0]}", flush=True)
                continue
            found[f"{expert}@{size}"] = one
    return found
