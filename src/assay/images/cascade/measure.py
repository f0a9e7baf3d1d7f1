"""Both levels of the cascade on one role, and the comparison of systems on test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assay.calibration.temperature import apply_temperature, fit_temperature
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


def measured(scores: pd.DataFrame, *, stage1_temperature: float, experts: Sequence[str], seen: set[str]) -> Measured:
    """One role from its scores (keys, ``stage1``, ``ensemble`` and a column per expert, all logits).

    Args:
        seen: the generators of the train role.
    """
    singles = {expert: scores[expert].to_numpy() for expert in experts}
    return Measured(
        keys=scores[["sample_id", "label", "group_id", "generator"]],
        stage1=apply_temperature(scores["stage1"].to_numpy(), stage1_temperature),
        ensemble_logits=scores["ensemble"].to_numpy(),
        mean_logits=np.mean(list(singles.values()), axis=0),
        expert_logits=singles,
        slices=family_slices(scores["label"].to_numpy(), scores["generator"].to_numpy(), seen=seen),
    )


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
