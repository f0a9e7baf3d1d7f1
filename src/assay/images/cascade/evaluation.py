"""The cascade from scores: thresholds fitted on tune, the ensemble's temperature on calib, everything measured on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from assay.calibration.temperature import apply_temperature
from assay.images.cascade.cost import speedup
from assay.images.cascade.decision import Decisions, decide, deferred_mask
from assay.images.cascade.measure import Measured, fit_ensemble_temperature, system_reports
from assay.images.cascade.systems import RoleProbs, frontier
from assay.images.cascade.thresholds import Thresholds, fit_thresholds
from assay.params.stacking import EvaluateCascade


@dataclass(frozen=True)
class Evaluation:
    """What was fitted and what it comes to.

    Attributes:
        thresholds: both exits, with what leaks at each.
        temperature: of the ensemble, for the rows that stage 1 defers.
        decisions: the cascade's, on test.
        reports: system or slice -> metric -> value.
        others: flat metrics of no single system: costs, shares, exits.
    """

    thresholds: Thresholds
    temperature: float
    decisions: Decisions
    reports: dict[str, dict[str, float]]
    others: dict[str, Any]

    @property
    def exits(self) -> dict[str, float]:
        """The two thresholds by name."""
        sides = self.thresholds
        return {"exit_real": sides.exit_real.threshold, "exit_forged": sides.exit_forged.threshold}


def evaluate(
    calib: Measured, tune: Measured, test: Measured, *, costs: Mapping[str, int], settings: EvaluateCascade, seed: int
) -> Evaluation:
    """Fit on tune and calib, measure on test.

    Args:
        costs: multiply-accumulates of one image: stage1, ensemble, and each expert.
    """
    found = fit_thresholds(
        tune.stage1,
        tune.labels,
        budget_forged=settings.budget_forged,
        budget_real=settings.budget_real,
        certify=settings.certify,
    )
    exits = {"exit_real": found.exit_real.threshold, "exit_forged": found.exit_forged.threshold}
    temperature = fit_ensemble_temperature(calib, deferred_mask(calib.stage1, **exits))
    probs = apply_temperature(test.ensemble_logits, temperature)
    unsure = None if settings.unsure is None else (settings.unsure[0], settings.unsure[1])
    decisions = decide(test.stage1, probs, **exits, unsure=unsure)
    reports = system_reports(
        test, calib, decisions, temperature=temperature, num_resamples=settings.num_resamples, seed=seed
    )
    share = float(decisions.deferred[test.slices["test"]].mean())
    singles = {name: cost for name, cost in costs.items() if name in test.expert_logits}
    others: dict[str, Any] = {
        "share_deferred": share,
        "speedup": speedup(costs["stage1"], costs["ensemble"], share),
        "cost.stage1_macs": costs["stage1"],
        "cost.ensemble_macs": costs["ensemble"],
        "cost.cascade_macs": costs["stage1"] + share * costs["ensemble"],
        "balanced_accuracy_loss": reports["ensemble"]["balanced_accuracy"] - reports["cascade"]["balanced_accuracy"],
        "ensemble_temperature": temperature,
        "cost.mean_logit_macs": sum(singles.values()),
    }
    others |= {f"cost.{name}_macs": cost for name, cost in singles.items()}
    for name, side in (("exit_real", found.exit_real), ("exit_forged", found.exit_forged)):
        others |= {f"{name}.{key}": value for key, value in asdict(side).items()}
    return Evaluation(found, temperature, decisions, reports, others)


def frontier_table(
    tune: Measured, test: Measured, found: Evaluation, *, costs: Mapping[str, int], budgets: Sequence[float], seed: int
) -> pd.DataFrame:
    """Cost against balanced error on the seen families, see `frontier`."""
    mask = test.slices["test"]
    fitted_on = RoleProbs(tune.stage1, np.full(len(tune.labels), np.nan), tune.labels)
    probs = apply_temperature(test.ensemble_logits, found.temperature)
    role = RoleProbs(test.stage1[mask], probs[mask], test.labels[mask])
    points = {"stage1": (costs["stage1"], role.stage1)}
    for expert, logits in test.expert_logits.items():
        points[f"{expert} (refit)"] = (costs[expert], (logits > 0)[mask].astype(float))
    points["ensemble"] = (costs["ensemble"], role.ensemble)
    return frontier(
        fitted_on,
        role,
        budgets=budgets,
        cost_stage1=costs["stage1"],
        cost_ensemble=costs["ensemble"],
        points=points,
        seed=seed,
    )
