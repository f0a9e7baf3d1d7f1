"""Stage 1 on images it has not seen: every report of its evaluation, made from scores alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from assay.calibration.platt import PlattFit, apply_platt
from assay.calibration.temperature import apply_temperature
from assay.images.model import FILTERS
from assay.images.slices import family_slices
from assay.metrics.binary import binary_metrics, resample, summarise
from assay.metrics.calibration_error import calibration_test
from assay.metrics.claims import claim
from assay.metrics.discrimination import FloatArray, check_weights, ranking_metrics
from assay.metrics.paired import gain

# Metrics that a temperature changes; for the rest the uncalibrated value would be the same number twice.
CALIBRATION_METRICS = ("nll", "brier", "ece_width", "ece_mass", "ece_smooth")


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


def calibration_report(
    scored: Scored, *, temperature: float, limits: Mapping[str, float], num_bins: int, seed: int
) -> dict[str, float]:
    """All metrics after temperature, those of calibration before it too, and a test of the ECE over groups.

    ``limits``: temperatures at which the metrics of calibration are reported as well: ``<metric>_<name of the limit>``.
    """
    probs = apply_temperature(scored.logits, temperature)
    report = summarise(scored.labels, probs, scored.groups)
    before = summarise(scored.labels, apply_temperature(scored.logits, 1.0), scored.groups)
    for name in CALIBRATION_METRICS:
        report |= {f"{name}_uncalibrated{end}": before[f"{name}{end}"] for end in ("", "_low", "_high")}
    for limit, value in limits.items():
        found = binary_metrics(scored.labels, apply_temperature(scored.logits, value))
        report |= {f"{name}_{limit}": float(found[name][0]) for name in CALIBRATION_METRICS}
    for binning in ("width", "mass"):
        options: dict[str, Any] = {"num_bins": num_bins, "binning": binning, "seed": seed}
        tested = calibration_test(probs, scored.labels, scored.groups, **options)
        report |= {f"ece_{binning}_{name}": value for name, value in asdict(tested).items()}
    return report


def evaluate(
    test: pd.DataFrame,
    baselines: pd.DataFrame,
    external: pd.DataFrame,
    filters: pd.DataFrame,
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
        filters: logits of the plain and the distilled filter, of which ``test`` has one, of all rows of ``test``.
        calibration: what the stage calibrate wrote.
        seed: of the test of the ECE.

    Returns:
        name -> metric -> value, and slice -> bool [n].
    """
    scored, temperature = Scored.of(test), float(calibration["temperature"])
    slices = family_slices(scored.labels, scored.generators, seen=seen_families)
    ends = {"at_lowest_t": calibration["temperature_low"], "at_highest_t": calibration["temperature_high"]}
    limits = {name: value for name, value in ends.items() if value is not None}
    options: dict[str, Any] = {"temperature": temperature, "num_bins": num_bins, "seed": seed, "limits": limits}
    reports = {name: calibration_report(scored.where(mask), **options) for name, mask in slices.items()}
    seen = scored.where(slices["test"])
    platt = apply_platt(seen.logits, PlattFit(**calibration["platt"]))
    reports["platt"] = summarise(seen.labels, platt, seen.groups)
    ours = resample(seen.labels, apply_temperature(seen.logits, temperature), seen.groups)
    for name in baselines.columns.drop("sample_id"):
        theirs = resample(seen.labels, baselines[name].to_numpy(), seen.groups)
        reports[name] = theirs.summary()
        reports["test"] |= gain(ours, theirs, "auc", key=f"auc_gain_{name}")
    reports |= filter_reports(seen, filters[slices["test"]])
    for dataset, rows in external.groupby("dataset", sort=False):
        reports[f"external.{dataset}"] = calibration_report(Scored.of(rows), **options)
    return reports, slices


def filter_reports(scored: Scored, filters: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Ranking metrics of each of `FILTERS` on the same rows, and ``distilled``'s ``auc_gain_plain``."""
    found = {
        name: resample(scored.labels, filters[name].to_numpy(), scored.groups, metrics=ranking_metrics)
        for name in FILTERS
    }
    reports = {name: one.summary() for name, one in found.items()}
    reports["distilled"] |= gain(found["distilled"], found["plain"], "auc", key="auc_gain_plain")
    return reports


def conclusion(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Stage 1 against each baseline, and the distilled filter against the plain one, in sentences from figures."""
    pairs = [
        ("test", "auc_gain_pixel_statistics", "Stage 1", "pixel statistics"),
        ("test", "auc_gain_metadata", "Stage 1", "metadata"),
        ("distilled", "auc_gain_plain", "The distilled filter", "the plain one"),
    ]
    return [
        claim(reports[name], key, ours=ours, theirs=theirs, metric="AUC", one_training=True)
        for name, key, ours, theirs in pairs
        if key in reports.get(name, {})
    ]


def alarm_metrics(
    alarms: npt.ArrayLike, _: npt.ArrayLike, /, *, weights: npt.ArrayLike | None = None
) -> dict[str, FloatArray]:
    """Share of the rows with an alarm, as a metric of resamples: bool [n] -> float64 [B]."""
    said = np.asarray(alarms, dtype=np.float64)
    rows = check_weights(weights, size=said.size)
    return {"alarms": rows @ said / rows.sum(axis=1)}


def unlike_reports(
    test: pd.DataFrame,
    drawings: pd.DataFrame,
    external: pd.DataFrame,
    *,
    threshold: float,
    slices: Mapping[str, np.ndarray],
) -> dict[str, dict[str, float]]:
    """How well the distance from pictures seen tells sets of pictures from the photographs of test: set -> metrics.

    ``alarms`` is the share of the set beyond ``threshold``; ``auc`` is that of the distance, the set against the real
    photographs of test (0.5: the set is as near as these are). Sets: ``test`` (all of the slice of this name; alarms only,
    false ones), the forged rows of each other slice, ``drawings`` and its kinds, and each external data set. A forgery of
    an unseen family is a photograph still: an AUC near 0.5 is what to expect of it.
    """
    labels, distances = test["label"].to_numpy(), test["distance"].to_numpy()
    real = test[labels == 0]
    sets = {name: test[mask & (labels == 1)] for name, mask in slices.items() if name != "test"}
    sets |= {"drawings": drawings} | {f"drawings.{kind}": rows for kind, rows in drawings.groupby("kind", sort=False)}
    sets |= {f"external.{name}": rows for name, rows in external.groupby("dataset", sort=False)}
    own, groups = slices["test"], test["group_id"].to_numpy()
    own_alarms = distances[own] > threshold
    reports = {"test": summarise(own_alarms, own_alarms, groups[own], metrics=alarm_metrics)}
    for name, rows in sets.items():
        both = pd.concat([real, rows])
        is_set = np.repeat([0, 1], [len(real), len(rows)])
        alarms = rows["distance"].to_numpy() > threshold
        reports[name] = summarise(alarms, alarms, rows["group_id"].to_numpy(), metrics=alarm_metrics)
        distance, group = both["distance"].to_numpy(), both["group_id"].to_numpy()
        auc = summarise(is_set, distance, group, metrics=ranking_metrics)
        reports[name] |= {key: value for key, value in auc.items() if key.startswith("auc")}
    return {f"unlike.{name}": report for name, report in reports.items()}


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
