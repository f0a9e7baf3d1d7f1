"""The ensemble at test time: experts, alignment, meta-model and the join with stage 1 as one function of a batch of images.

Two modes. ``refit``: one network per expert, trained on all training rows. ``fold_average``: the networks of every fold,
each mapped onto the refit's space by its own alignment and judged by the meta-model, and the K log-odds averaged. In both
stage 1's logit, which is there before the ensemble is asked, is joined to the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from assay.core.io import inside
from assay.images.cascade.cost import count_macs
from assay.images.model.dataset import PictureSet, batches_in_order
from assay.images.model.experts import FeatureExtractor, load_extractor
from assay.images.model.transforms import resize
from assay.images.stacking import FOLD_AVERAGE, REFIT
from assay.images.stacking.alignment import Alignment
from assay.images.stacking.join import Join
from assay.images.stacking.meta_model import MetaModel
from assay.images.stacking.out_of_fold import feature_matrix
from assay.images.stacking.saved import load_alignments, load_meta

# Images that go through the networks together: memory does not grow with the length of what is asked.
BATCH = 64


@dataclass(frozen=True)
class View:
    """One complete set of experts: the refit's, or one fold's with its alignments."""

    extractors: dict[str, FeatureExtractor]
    alignments: dict[str, Alignment]

    def features(self, images: torch.Tensor) -> np.ndarray:
        """X_meta rows float32 [n, f] of one batch uint8 [n, 3, S, S]."""
        embeddings, logits = {}, {}
        for expert, extractor in self.extractors.items():
            embedding, logits[expert] = extractor(resize(images, extractor.image_size))
            embeddings[expert] = self.alignments[expert].apply(embedding) if expert in self.alignments else embedding
        return feature_matrix(embeddings, logits)


@dataclass(frozen=True)
class Ensemble:
    """Experts, meta-model and the join with stage 1."""

    views: tuple[View, ...]
    meta: MetaModel
    join: Join

    def logits(self, images: torch.Tensor, stage1: np.ndarray) -> np.ndarray:
        """Uncalibrated log-odds of forged, float64 [n]: the mean over views, joined with stage 1.

        Args:
            images: uint8 [n, 3, S, S].
            stage1: stage 1's logits of them [n], before its temperature.
        """
        parts = []
        for part in images.split(BATCH):
            parts.append(np.mean([self.meta.logits(view.features(part)) for view in self.views], axis=0))
        return self.join.logits(stage1, np.concatenate(parts))

    def macs(self) -> int:
        """Multiply-accumulates for one image; the meta-model's share is some thousand additions and not counted."""
        return sum(
            count_macs(extractor.from_pixels, image_size=extractor.image_size)
            for view in self.views
            for extractor in view.extractors.values()
        )


def ensemble_logits(ensemble: Ensemble, data: PictureSet, stage1: np.ndarray, *, name: str) -> np.ndarray:
    """The ensemble's log-odds float64 [n] of a data set, of which stage 1 says ``stage1`` [n]."""
    batches = batches_in_order(data, batch_size=BATCH, name=f"ensemble on {name}")
    found, start = [], 0
    for images in batches:
        found.append(ensemble.logits(images, stage1[start : start + len(images)]))
        start += len(images)
    return np.concatenate(found)


def load_ensemble(models: Path, *, device: str, mode: str | None = None) -> Ensemble:
    """Experts, alignments and meta-model from a models folder; ``mode`` overrides the one that was shipped.

    Raises:
        ValueError: files missing or not fitting each other, or an unknown mode.
    """
    shipped, info = load_meta(models / "meta")
    meta = shipped.reduced()
    join = Join(**info["join"])
    mode, experts = mode or str(info["test_time_mode"]), meta.experts
    if mode not in (REFIT, FOLD_AVERAGE):
        raise ValueError(f"test-time mode {mode!r} is unknown; it is {REFIT} or {FOLD_AVERAGE}")

    def view(subset: str, alignments: dict[str, Alignment]) -> View:
        folders = {expert: inside(models / "experts", f"{expert}/{subset}") for expert in experts}
        return View({e: load_extractor(folder, device=device) for e, folder in folders.items()}, alignments)

    if mode == REFIT:
        return Ensemble((view("full", {}),), meta, join)
    maps = load_alignments(models / "meta" / "alignment.safetensors")
    folds = sorted({fold for _, fold in maps})
    views = tuple(view(f"fold_{fold}", {e: maps[e, fold] for e in experts}) for fold in folds)
    return Ensemble(views, meta, join)
