"""Stage 1 on images it has not seen: every report of its evaluation, made from scores alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from assay.calibration.platt import PlattFit, apply_platt
from assay.calibration.temperature import apply_temperature
from assay.images.slices import family_slices
from assay.metrics.binary import resample, summarise
from assay.metrics.calibration_error import ece_noise_floor
from assay.metrics.claims import claim
from assay.metrics.paired import gain

# Metrics that a temperature changes; for the rest the uncalibrated value would be the same number twice.
CALIBRATION_METRICS = ("nll", "brier", "ece_width", "ece_mass")


@dataclass(frozen=True)
class Scored:
    """Images with their logits: logits float64 [n], labels int64 [n], groups and generators [n]."""

    logits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    generators: np.ndarray

    @classmethod
    def of(cls, scores: pd.DataFrame) -> Scored:
        """From a table of label, group_id, generator and logit."""
        return cls(*(scores[name].to_numpy() for name in ("logit", "label", "group_id", "generator")))

    def where(self, mask: np.ndarray) -> Scored:
        """The rows of a boolean mask [n]."""
        return Scored(self.logits[mask], self.labels[mask], self.groups[mask], self.generators[mask])


def calibration_report(scored: Scored, *, temperature: float, num_bins: int, seed: int) -> dict[str, float]:
    """All metrics after temperature, those of calibration before it too, and the noise floor of the ECE."""
    probs = apply_temperature(scored.logits, temperature)
    report = summarise(scored.labels, probs, scored.groups)
    before = summarise(scored.labels, apply_temperature(scored.logits, 1.0), scored.groups)
    for name in CALIBRATION_METRICS:
        report |= {f"{name}_uncalibrated{end}": before[f"{name}{end}"] for end in ("", "_low", "_high")}
    for binning in ("width", "mass"):
        floor = ece_noise_floor(probs, num_bins=num_bins, binning=binning, seed=seed)
        report |= {f"ece_{binning}_floor": floor.mean, f"ece_{binning}_floor_p95": floor.p95}
    return report


def evaluate(
    test: pd.DataFrame,
    baselines: pd.DataFrame,
    external: pd.DataFrame,
    *,
    calibration: Mapping[str, Any],
    seen_families: set[str],
    num_bins: int,
    seed: int,
) -> tuple[dict[str, dict[str, float]], dict[str, np.ndarray]]:
    """Metrics by slice, of Platt scaling, of the baselines and of external sets.

    Args:
        test: scores of the test role.
        baselines: probabilities of the rows of the slice ``test`` (seen families), a column per baseline.
        external: scores of other sets, with a column dataset.
        calibration: what the stage calibrate wrote.
        seed: of the noise floor of the ECE.

    Returns:
        name -> metric -> value, and slice -> bool [n].
    """
    scored, temperature = Scored.of(test), float(calibration["temperature"])
    slices = family_slices(scored.labels, scored.generators, seen=seen_families)
    options: dict[str, Any] = {"temperature": temperature, "num_bins": num_bins, "seed": seed}
    reports = {name: calibration_report(scored.where(mask), **options) for name, mask in slices.items()}
    seen = scored.where(slices["test"])
    platt = apply_platt(seen.logits, PlattFit(**calibration["platt"]))
    reports["platt"] = summarise(seen.labels, platt, seen.groups)
    ours = resample(seen.labels, apply_temperature(seen.logits, temperature), seen.groups)
    for name in baselines.columns.drop("sample_id"):
        theirs = resample(seen.labels, baselines[name].to_numpy(), seen.groups)
        reports[name] = theirs.summary()
        reports["test"] |= gain(ours, theirs, "auc", key=f"auc_gain_{name}")
    for dataset, rows in external.groupby("dataset", sort=False):
        reports[f"external.{dataset}"] = calibration_report(Scored.of(rows), **options)
    return reports, slices


def conclusion(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Stage 1 against each baseline, in sentences from figures."""
    ours = reports["test"]
    keys = {f"auc_gain_{name}": name.replace("_", " ") for name in ("pixel_statistics", "metadata")}
    return [
        claim(ours, key, ours="Stage 1", theirs=theirs, metric="AUC", one_training=True)
        for key, theirs in keys.items()
        if key in ours
    ]


def robustness_table(degraded: pd.DataFrame, *, cell: Sequence[str], temperature: float) -> pd.DataFrame:
    """AUC and balanced accuracy with their limits, a row per ``cell``, on the same images."""
    rows = []
    for values, part in degraded.groupby(list(cell), sort=False):
        scored = Scored.of(part)
        result = summarise(scored.labels, apply_temperature(scored.logits, temperature), scored.groups)
        wanted = [f"{name}{end}" for name in ("auc", "balanced_accuracy") for end in ("", "_low", "_high")]
        names = dict(zip(cell, values, strict=True))
        rows.append(names | {"n": result["n"]} | {name: result[name] for name in wanted})
    return pd.DataFrame(rows)
