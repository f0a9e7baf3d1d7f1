"""What `assay predict` runs, ready to judge images: the cascade, or the one network that won against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from assay.calibration.temperature import apply_temperature
from assay.core.io import read_json
from assay.images.cascade.cost import ENSEMBLE, STAGE1
from assay.images.cascade.decision import Decisions, decide, decide_alone, deferred_mask
from assay.images.cascade.ensemble import Ensemble, load_ensemble
from assay.images.cascade.networks import folder_of, load_network
from assay.images.decode_set import DecodeSettings
from assay.images.model.embedding import embed_arrays
from assay.images.model.prediction import Predictor
from assay.images.model.store import fit_square
from assay.images.model.transforms import resize
from assay.images.stacking import REFIT
from assay.images.stacking.join import Join
from assay.images.unlike import Seen, load_seen
from assay.shipped.opening import Opening, patterns_of
from assay.shipped.records import CascadeRecord, MetaRecord, read_record


@dataclass(frozen=True)
class Level:
    """A network of the cascade with its calibration.

    Attributes:
        name: ``stage1``, an expert with or without a size (`networks`), or ``ensemble``.
        join: with what the level before said; None for the first.
        stage1: whose logit an ensemble takes, where the level before is another network.
    """

    name: str
    network: Predictor | Ensemble
    temperature: float
    join: Join | None = None
    stage1: Predictor | None = None

    def logits(self, images: torch.Tensor, before: np.ndarray | None = None) -> np.ndarray:
        """Uncalibrated log-odds float64 [n] of images uint8 [n, 3, S, S]; ``before``: those of the level before."""
        if isinstance(self.network, Ensemble):
            first = before if self.stage1 is None else self.stage1.array_logits(_fitted(images, self.stage1))
            assert first is not None, "an ensemble takes stage 1's logits"
            found = self.network.logits(images, first)
        else:
            found = self.network.array_logits(_fitted(images, self.network))
        return found if self.join is None or before is None else self.join.logits(before, found)

    def probs(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of forged [n]."""
        return apply_temperature(logits, self.temperature)


def _fitted(images: torch.Tensor, network: Predictor) -> np.ndarray:
    """Images [n, 3, S, S] as uint8 [n, s, s, 3] of the network's own side."""
    return resize(images, network.image_size).permute(0, 2, 3, 1).numpy()


@dataclass(frozen=True)
class Cascade:
    """What won the bake-off: one level that judges every image, or two, and the thresholds between them."""

    levels: tuple[Level, ...]
    exit_real: float | None
    exit_forged: float | None
    unsure: Sequence[float] | None
    explanation: Sequence[str]  # what won, and what is known of what leaks at both exits, in sentences
    seen: Seen
    unlike_distance: float
    decode: DecodeSettings

    def decide(self, pixels: np.ndarray) -> Decisions:
        """Judge uint8 images [n, S, S, 3] of the pixel store's side; the second level sees deferred ones only."""
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        level, unlike = self.levels[0], None
        if level.name == STAGE1:
            assert isinstance(level.network, Predictor)
            logits, distances = embed_arrays(level.network, _fitted(images, level.network), reduce=self.seen.distances)
            unlike = distances > self.unlike_distance
        else:
            logits = level.logits(images)
        first = level.probs(logits)
        if len(self.levels) == 1:
            return replace(decide_alone(first, name=level.name), unlike=unlike)
        assert self.exit_real is not None, "two levels have exits"
        assert self.exit_forged is not None, "two levels have exits"
        exits, behind = {"exit_real": self.exit_real, "exit_forged": self.exit_forged}, self.levels[1]
        deferred = deferred_mask(first, **exits)
        second = np.full(len(pixels), np.nan)
        if deferred.any():
            chosen = torch.from_numpy(np.flatnonzero(deferred))
            second[deferred] = behind.probs(behind.logits(images[chosen], logits[deferred]))
        found = decide(first, second, **exits, names=(level.name, behind.name), unsure=self.unsure)
        return replace(found, unlike=unlike)

    def predict(self, images: Sequence[np.ndarray]) -> pd.DataFrame:
        """Judge uint8 RGB images [H, W, 3] of any size.

        Returns:
            Columns verdict (real, forged, unsure), probability (of forged), decided_by (a level's name), warning
            (``unlike_all_seen`` where stage 1 runs and an image is unlike all it learned from, so that a verdict means
            little).

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
    """The folders of the networks that are asked beside stage 1, relative to ``models``."""
    names = [level.network for level in read_record(models / "cascade" / "cascade.json", CascadeRecord).levels]
    folders = {folder_of(name) for name in names if name not in (STAGE1, ENSEMBLE)}
    if ENSEMBLE in names:
        shipped = read_record(models / "meta" / "meta.json", MetaRecord)
        model = shipped.model
        experts = [model.experts[model.expert]] if model.kind == "single" else model.experts
        subset = "full" if shipped.test_time_mode == REFIT else "fold_*"
        folders |= {f"experts/{expert}/{subset}" for expert in experts}
    return sorted(folders)


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
        levels=_levels(folder, info["levels"], device=device),
        exit_real=info["exit_real"],
        exit_forged=info["exit_forged"],
        unsure=info["unsure"],
        explanation=info["explanation"],
        seen=load_seen(folder / "stage1"),
        unlike_distance=float(info["unlike_distance"]),
        decode=DecodeSettings(**info["decode"]),
    )


def _levels(folder: Path, records: Sequence[Mapping[str, Any]], *, device: str) -> tuple[Level, ...]:
    levels: list[Level] = []
    for record in records:
        name, stage1 = record["network"], None
        network: Predictor | Ensemble
        if name == ENSEMBLE:
            network = load_ensemble(folder, device=device)
            if not levels or levels[0].name != STAGE1:
                stage1 = load_network(folder, STAGE1, device=device)
        else:
            network = load_network(folder, name, device=device)
        join = Join(**record["join"]) if record["join"] else None
        levels.append(Level(name, network, float(record["temperature"]), join, stage1))
    return tuple(levels)
