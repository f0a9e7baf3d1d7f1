"""Both levels of the cascade on one role, and the comparison of systems on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from assay.calibration.temperature import apply_temperature, fit_temperature
from assay.core.progress import progress
from assay.images.cascade.decision import Decisions
from assay.images.cascade.ensemble import BATCH, Ensemble
from assay.images.model.dataset import PictureSet, make_loader, read_manifest
from assay.images.model.experts import FeatureExtractor, load_extractor
from assay.images.model.prediction import Predictor
from assay.images.model.store import open_store
from assay.images.slices import family_slices
from assay.metrics.binary import summarise

# Below this many rows of either class a temperature would be noise, and 1 is the better guess.
MIN_ROWS = 20


@dataclass(frozen=True)
class Measured:
    """One role.

    Attributes:
        keys: sample_id, label, group_id, generator.
        stage1: calibrated probability of forged [n].
        ensemble_logits: uncalibrated log-odds [n] (empty where no ensemble was asked for).
        mean_logits: mean of ``expert_logits`` over the experts [n].
        expert_logits: expert -> logit of its refit network [n].
        slices: name -> bool [n]: ``test`` (seen families), ``unseen``, ``family.<name>``.
    """

    keys: pd.DataFrame
    stage1: np.ndarray
    ensemble_logits: np.ndarray
    mean_logits: np.ndarray
    expert_logits: dict[str, np.ndarray]
    slices: dict[str, np.ndarray]

    @property
    def labels(self) -> np.ndarray:
        """0 real, 1 forged [n]."""
        return self.keys["label"].to_numpy(dtype=np.int64)

    @property
    def groups(self) -> np.ndarray:
        """Group of each row [n]."""
        return self.keys["group_id"].to_numpy()


def measure_role(
    data_dir: Path,
    role: str,
    stage1: Predictor,
    ensemble: Ensemble | None,
    *,
    stage1_temperature: float,
    refit: Mapping[str, FeatureExtractor] | None = None,
) -> Measured:
    """Run stage 1, and if given the ensemble and the refit experts, on every row of a role."""
    manifest, store = read_manifest(data_dir, role), open_store(data_dir)
    first = stage1.logits(PictureSet(store, manifest, image_size=stage1.image_size), what=f"stage 1 on {role}")
    logits, singles = np.zeros(0), {}
    if ensemble is not None:
        logits = ensemble_logits(ensemble, PictureSet(store, manifest, image_size=store.side), what=role)
        for expert, extractor in (refit or {}).items():
            data = PictureSet(store, manifest, image_size=extractor.image_size)
            singles[expert] = extractor.extract(data, what=f"{expert} on {role}")[1].astype(np.float64)
    seen = set(read_manifest(data_dir, "train")["generator"])
    keys = manifest[["sample_id", "label", "group_id", "generator"]]
    slices = family_slices(manifest["label"].to_numpy(), manifest["generator"].to_numpy(), seen=seen)
    means = np.mean(list(singles.values()), axis=0) if singles else np.zeros(0)
    return Measured(keys, apply_temperature(first, stage1_temperature), logits, means, singles, slices)


def load_refit(models: Path, experts: Sequence[str], *, device: str) -> dict[str, FeatureExtractor]:
    """The network of each expert that was trained on all training rows."""
    return {expert: load_extractor(models / "experts" / expert / "full", device=device) for expert in experts}


def ensemble_logits(ensemble: Ensemble, data: PictureSet, *, what: str) -> np.ndarray:
    """The ensemble's log-odds float64 [n] of a data set."""
    loader = make_loader(data, batch_size=BATCH, seed=0, shuffle=False, workers=0)
    batches = progress(loader, name=f"ensemble on {what}", unit="batch")
    return np.concatenate([ensemble.logits(pictures) for pictures, _ in batches])


def fit_ensemble_temperature(calib: Measured, deferred: np.ndarray) -> float:
    """Temperature of the ensemble on the rows of calib that stage 1 defers: those it will be asked about."""
    labels = calib.labels[deferred]
    if min((labels == 0).sum(), (labels == 1).sum()) < MIN_ROWS:
        print(f"only {len(labels)} rows of calib are deferred: the ensemble stays at temperature 1", flush=True)
        return 1.0
    return fit_temperature(calib.ensemble_logits[deferred], labels).temperature


def system_reports(
    test: Measured, calib: Measured, decisions: Decisions, *, temperature: float, num_resamples: int, seed: int
) -> dict[str, dict[str, float]]:
    """All metrics of every system on the seen families; of stage 1, ensemble and cascade also by slice.

    Systems with a temperature of their own (single experts, mean logit, the ensemble run on everything) take it from
    all of calib. ``deferred.<system>``: on the seen rows that stage 1 defers.
    """
    labels = calib.labels
    probs = {"stage1": test.stage1}
    for expert, logits in test.expert_logits.items():
        probs[expert] = apply_temperature(logits, fit_temperature(calib.expert_logits[expert], labels).temperature)
    probs["mean_logit"] = apply_temperature(test.mean_logits, fit_temperature(calib.mean_logits, labels).temperature)
    probs["ensemble"] = apply_temperature(
        test.ensemble_logits, fit_temperature(calib.ensemble_logits, labels).temperature
    )
    probs["cascade"] = decisions.probs
    probs["majority"] = np.full(len(test.labels), 0.5)
    seen = test.slices["test"]

    def report(name: str, values: np.ndarray, mask: np.ndarray) -> dict[str, float]:
        return summarise(test.labels[mask], values[mask], test.groups[mask], num_resamples=num_resamples, seed=seed)

    reports = {name: report(name, values, seen) for name, values in probs.items()}
    deferred = seen & decisions.deferred
    late = probs | {"ensemble": apply_temperature(test.ensemble_logits, temperature)}
    if len(set(test.labels[deferred])) == 2:
        for name in ("stage1", "ensemble"):
            reports[f"deferred.{name}"] = report(name, late[name], deferred)
    for part, mask in test.slices.items():
        if part != "test":
            for name in ("stage1", "ensemble", "cascade"):
                reports[f"{part}.{name}"] = report(name, probs[name], mask)
    return reports
