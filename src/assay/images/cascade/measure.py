"""Both levels of the cascade on one role, and the comparison of systems on test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assay.calibration.temperature import apply_temperature, fit_temperature, temperature_interval, two_columns
from assay.images.cascade.decision import Decisions
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
        ensemble_logits: uncalibrated log-odds [n].
        expert_logits: expert -> logit of its refit network [n].
        slices: name -> bool [n]: ``test`` (seen families), ``unseen``, ``family.<name>``.
    """

    keys: pd.DataFrame
    stage1: np.ndarray
    ensemble_logits: np.ndarray
    expert_logits: dict[str, np.ndarray]
    slices: dict[str, np.ndarray]

    @property
    def labels(self) -> np.ndarray:
        """0 real, 1 forged [n]."""
        return self.keys["label"].to_numpy(dtype=np.int64)

    def uncalibrated(self) -> dict[str, np.ndarray]:
        """Log-odds [n] of the systems that have no temperature yet: each expert, their mean, the ensemble."""
        mean = np.mean(list(self.expert_logits.values()), axis=0)
        return {**self.expert_logits, "mean_logit": mean, "ensemble": self.ensemble_logits}


def measured(scores: pd.DataFrame, *, stage1_temperature: float, experts: Sequence[str], seen: set[str]) -> Measured:
    """One role from its scores (keys, ``stage1``, ``ensemble`` and a column per expert, all logits).

    ``seen``: the generators of the train role.
    """
    return Measured(
        keys=scores[["sample_id", "label", "group_id", "generator"]],
        stage1=apply_temperature(scores["stage1"].to_numpy(), stage1_temperature),
        ensemble_logits=scores["ensemble"].to_numpy(),
        expert_logits={expert: scores[expert].to_numpy() for expert in experts},
        slices=family_slices(scores["label"].to_numpy(), scores["generator"].to_numpy(), seen=seen),
    )


def fit_deferred_temperature(calib: Measured, deferred: np.ndarray, *, system: str = "ensemble") -> dict[str, float]:
    """Temperature of what stands behind the exits, on the rows of calib that stage 1 defers: those it will be asked about.

    ``system``: the ensemble, or an expert's refit network. Keys: temperature and, over groups, temperature_low and _high.
    """
    labels = calib.labels[deferred]
    if min((labels == 0).sum(), (labels == 1).sum()) < MIN_ROWS:
        print(f"only {len(labels)} rows of calib are deferred: the {system} stays at temperature 1", flush=True)
        return {"temperature": 1.0, "temperature_low": math.nan, "temperature_high": math.nan}
    logits, groups = calib.uncalibrated()[system][deferred], calib.keys["group_id"].to_numpy()[deferred]
    fitted = fit_temperature(logits, labels, name=f"the {system} behind the exits").temperature
    return {"temperature": fitted} | temperature_interval(two_columns(logits), labels, groups)


def system_reports(
    test: Measured,
    calib: Measured,
    decisions: Decisions,
    *,
    temperature: float,
    refit_cascade: np.ndarray,
) -> dict[str, dict[str, float]]:
    """All metrics of every system on the seen families; of stage 1, ensemble and cascade also by slice.

    Single experts, their mean logit and the ensemble run on everything take a temperature of their own from all of calib.
    ``deferred.<system>``: on the seen rows that stage 1 defers, with the ensemble at ``temperature``. ``refit_cascade``:
    probabilities [n] of one refit network behind the same exits.
    """
    probs, calib_logits = {"stage1": test.stage1}, calib.uncalibrated()
    for name, logits in test.uncalibrated().items():
        probs[name] = apply_temperature(
            logits, fit_temperature(calib_logits[name], calib.labels, name=name).temperature
        )
    probs |= {"cascade": decisions.probs, "refit_cascade": refit_cascade}
    probs["majority"] = np.full(len(test.labels), 0.5)
    labels, groups, seen = test.labels, test.keys["group_id"].to_numpy(), test.slices["test"]

    def report(values: np.ndarray, mask: np.ndarray) -> dict[str, float]:
        return summarise(labels[mask], values[mask], groups[mask])

    reports = {name: report(values, seen) for name, values in probs.items()}
    deferred = seen & decisions.deferred
    if len(set(labels[deferred])) == 2:
        reports["deferred.stage1"] = report(test.stage1, deferred)
        reports["deferred.ensemble"] = report(apply_temperature(test.ensemble_logits, temperature), deferred)
    for part, mask in test.slices.items():
        if part != "test":
            for name in ("stage1", "ensemble", "cascade"):
                reports[f"{part}.{name}"] = report(probs[name], mask)
    return reports
