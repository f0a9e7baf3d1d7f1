"""The whole cascade, ready to judge images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from assay.calibration.temperature import apply_temperature
from assay.core.io import read_json
from assay.images.cascade.decision import Decisions, decide, deferred_mask
from assay.images.cascade.ensemble import Ensemble, load_ensemble, resize
from assay.images.decode_set import DecodeSettings
from assay.images.model.backbones import load_checkpoint
from assay.images.model.embedding import embed_arrays
from assay.images.model.prediction import Predictor
from assay.images.model.store import fit_square
from assay.images.stacking import REFIT
from assay.images.unlike import Seen, load_seen
from assay.shipped.opening import Opening, patterns_of
from assay.shipped.records import MetaRecord, read_record


@dataclass(frozen=True)
class Cascade:
    """Stage 1, the ensemble behind it, and the thresholds between them."""

    stage1: Predictor
    stage1_temperature: float
    ensemble: Ensemble
    ensemble_temperature: float
    exit_real: float
    exit_forged: float
    unsure: Sequence[float] | None
    explanation: Sequence[str]  # what is known of what leaks at both exits, in sentences
    seen: Seen
    unlike_distance: float
    decode: DecodeSettings

    def decide(self, pixels: np.ndarray) -> Decisions:
        """Judge uint8 images [n, S, S, 3] of the pixel store's side; the ensemble sees deferred ones only."""
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        small = resize(images, self.stage1.image_size).permute(0, 2, 3, 1).numpy()
        stage1, distances = embed_arrays(self.stage1, small, reduce=self.seen.distances)
        first = apply_temperature(stage1, self.stage1_temperature)
        exits = {"exit_real": self.exit_real, "exit_forged": self.exit_forged}
        deferred = deferred_mask(first, **exits)
        second = np.full(len(pixels), np.nan)
        if deferred.any():
            chosen = torch.from_numpy(np.flatnonzero(deferred))
            logits = self.ensemble.logits(images[chosen], stage1[deferred])
            second[deferred] = apply_temperature(logits, self.ensemble_temperature)
        found = decide(first, second, **exits, unsure=self.unsure)
        return replace(found, unlike=distances > self.unlike_distance)

    def predict(self, images: Sequence[np.ndarray]) -> pd.DataFrame:
        """Judge uint8 RGB images [H, W, 3] of any size.

        Returns:
            Columns verdict (real, forged, unsure), probability (of forged), decided_by (stage1, ensemble), warning
            (``unlike_all_seen`` where an image is unlike all that stage 1 learned from, so that a verdict means little).

        Raises:
            ValueError: an entry is no uint8 RGB array.
        """
        squares = []
        for number, array in enumerate(map(np.asarray, images)):
            if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
                raise ValueError(f"image {number} is {array.dtype} {array.shape}; uint8 [H, W, 3] is wanted")
            squares.append(fit_square(array, self.decode.side, resize=self.decode.resize))
        if not squares:
            return pd.DataFrame(columns=["verdict", "probability", "decided_by", "warning"])
        found = self.decide(np.stack(squares))
        columns = {"verdict": found.verdicts, "probability": found.probs, "decided_by": found.decided_by}
        return pd.DataFrame(columns | {"warning": found.warnings})


def network_folders(models: Path) -> list[str]:
    """The folders of the experts that the shipped combination asks, relative to ``models``."""
    shipped = read_record(models / "meta" / "meta.json", MetaRecord)
    model = shipped.model
    experts = [model.experts[model.expert]] if model.kind == "single" else model.experts
    subset = "full" if shipped.test_time_mode == REFIT else "fold_*"
    return [f"experts/{expert}/{subset}" for expert in experts]


def load(models: str | Path = "models", *, device: str = "cpu", verify: bool = True) -> Cascade:
    """The cascade of a models folder; everything it needs is read from there, and none of it runs code.

    Args:
        verify: whether files are compared with SHA256SUMS before they are read.

    Raises:
        ValueError: a part is missing or damaged: the message names the file and the stage that makes it.
    """
    with Opening(Path(models), "evaluate_cascade", verify) as opening:
        opening.check("cascade/*", "meta/*", "stage1/*")
        opening.check(*patterns_of(network_folders(opening.root)))
        return _load(opening.root, device=device)


def _load(folder: Path, *, device: str) -> Cascade:
    info = read_json(folder / "cascade" / "cascade.json")
    return Cascade(
        stage1=Predictor(load_checkpoint(folder / "stage1"), device=device),
        stage1_temperature=float(info["stage1_temperature"]),
        ensemble=load_ensemble(folder, device=device),
        ensemble_temperature=float(info["ensemble_temperature"]),
        exit_real=float(info["exit_real"]),
        exit_forged=float(info["exit_forged"]),
        unsure=info["unsure"],
        explanation=info["explanation"],
        seen=load_seen(folder / "stage1"),
        unlike_distance=float(info["unlike_distance"]),
        decode=DecodeSettings(**info["decode"]),
    )
