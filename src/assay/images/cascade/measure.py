"""What every system says on one role, with its temperature, and the comparison of systems on test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assay.calibration.temperature import apply_temperature, fit_temperature, temperature_interval, two_columns
from assay.images.cascade.cost import ENSEMBLE, STAGE1
from assay.images.cascade.decision import Decisions
from assay.images.slices import family_slices
from assay.metrics.binary import summarise

# Below this many rows of either class a temperature would be noise, and 1 is the better guess.
MIN_ROWS = 20
KEYS = ["sample_id", "label", "group_id", "generator"]


@dataclass(frozen=True)
class Measured:
    """One role.

    Attributes:
        keys: sample_id, label, group_id, generator.
        logits: system -> uncalibrated log-odds of forged [n]: ``stage1``, each single network, ``ensemble``.
        slices: name -> bool [n]: ``test`` (seen families), ``unseen``, ``family.<name>``.
    """

    keys: pd.DataFrame
    logits: dict[str, np.ndarray]
    slices: dict[str, np.ndarray]

    @property
    def labels(self) -> np.ndarray:
        """0 real, 1 forged [n]."""
        return self.keys["label"].to_numpy(dtype=np.int64)

    @property
    def groups(self) -> np.ndarray:
        """The scene of each row [n]."""
        return self.keys["group_id"].to_numpy()


def measured(scores: pd.DataFrame, *, systems: Iterable[str], seen: set[str]) -> Measured:
    """One role from its scores: keys, and a column of logits for each of ``systems``.

    ``seen``: the generators of the train role.
    """
    return Measured(
        keys=scores[KEYS],
        logits={name: scores[name].to_numpy(dtype=np.float64) for name in systems},
        slices=family_slices(scores["label"].to_numpy(), scores["generator"].to_numpy(), seen=seen),
    )


def fit_alone(calib: Measured, *, stage1_temperature: float) -> dict[str, float]:
    """The temperature of every system that judges all images, from all of calib; stage 1's is ``stage1_temperature``."""
    found = {STAGE1: stage1_temperature}
    for name, logits in calib.logits.items():
        if name != STAGE1:
            found[name] = fit_temperature(logits, calib.labels, name=name).temperature
    return found


def fit_deferred_temperature(
    logits: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, system: str, interval: bool = True
) -> dict[str, float]:
    """Temperature of what stands behind the exits, on the rows of calib that are deferred: those it will be asked about.

    Takes logits, labels and groups [n] of these rows. Keys: temperature, temperature_low and _high: its limits over the
    groups, NaN without ``interval``.
    """
    unknown = {"temperature_low": math.nan, "temperature_high": math.nan}
    if min((labels == 0).sum(), (labels == 1).sum()) < MIN_ROWS:
        if interval:
            print(f"only {len(labels)} rows of calib are deferred: the {system} stays at temperature 1", flush=True)
        return {"temperature": 1.0} | unknown
    fitted = fit_temperature(logits, labels, name=f"the {system} behind the exits").temperature
    limits = temperature_interval(two_columns(logits), labels, groups) if interval else unknown
    return {"temperature": fitted} | limits


def calibrated(role: Measured, temperatures: Mapping[str, float]) -> dict[str, np.ndarray]:
    """System -> its probability of forged [n] where it judges every image."""
    return {name: apply_temperature(role.logits[name], value) for name, value in temperatures.items()}


def system_reports(
    test: Measured, probs: Mapping[str, np.ndarray], decisions: Decisions, *, levels: tuple[np.ndarray, np.ndarray]
) -> dict[str, dict[str, float]]:
    """All metrics of every system on the seen families; of stage 1, ensemble and cascade also by slice, of each
    network on the unseen families.

    Args:
        probs: system -> probabilities [n].
        decisions: the cascade's.
        levels: what both its networks say, probabilities [n] each; ``deferred.first`` and ``deferred.second`` are their
            metrics on the seen rows that are deferred.
    """
    probs = {**probs, "cascade": decisions.probs, "majority": np.full(len(test.labels), 0.5)}
    labels, groups, seen = test.labels, test.groups, test.slices["test"]

    def report(values: np.ndarray, mask: np.ndarray) -> dict[str, float]:
        return summarise(labels[mask], values[mask], groups[mask])

    reports = {name: report(values, seen) for name, values in probs.items()}
    deferred = seen & decisions.deferred
    if len(set(labels[deferred])) == 2:
        for name, values in zip(("first", "second"), levels, strict=True):
            reports[f"deferred.{name}"] = report(values, deferred)
    for part, mask in test.slices.items():
        if part != "test":
            for name in (*(test.logits if part == "unseen" else (STAGE1, ENSEMBLE)), "cascade"):
                reports[f"{part}.{name}"] = report(probs[name], mask)
    return reports
