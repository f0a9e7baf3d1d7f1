"""The cascade from scores: thresholds fitted on tune, the ensemble's temperature on calib, everything measured on test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from assay.calibration.temperature import apply_temperature
from assay.images.cascade.cost import cascade_cost, speedup
from assay.images.cascade.decision import Decisions, decide, deferred_mask
from assay.images.cascade.measure import Measured, fit_ensemble_temperature, system_reports
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


def evaluate(
    calib: Measured, tune: Measured, test: Measured, *, costs: Mapping[str, int], settings: EvaluateCascade
) -> Evaluation:
    """Fit on tune and calib, measure on test.

    ``costs``: multiply-accumulates of one image: stage1, ensemble, and each expert.
    """
    found = fit_thresholds(
        tune.stage1,
        tune.labels,
        budget_forged=settings.budget_forged,
        budget_real=settings.budget_real,
        certify=settings.certify,
    )
    temperature = fit_ensemble_temperature(calib, deferred_mask(calib.stage1, **found.exits))
    probs = apply_temperature(test.ensemble_logits, temperature)
    decisions = decide(test.stage1, probs, **found.exits, unsure=settings.unsure)
    reports = system_reports(test, calib, decisions, temperature=temperature)
    stage1, ensemble = costs["stage1"], costs["ensemble"]
    share = float(decisions.deferred[test.slices["test"]].mean())
    experts = {name: cost for name, cost in costs.items() if name in test.expert_logits}
    others: dict[str, Any] = {
        "share_deferred": share,
        "speedup": speedup(stage1, ensemble, share),
        "cost.stage1_macs": stage1,
        "cost.ensemble_macs": ensemble,
        "cost.cascade_macs": cascade_cost(stage1, ensemble, share),
        "balanced_accuracy_loss": reports["ensemble"]["balanced_accuracy"] - reports["cascade"]["balanced_accuracy"],
        "ensemble_temperature": temperature,
        "cost.mean_logit_macs": sum(experts.values()),
    }
    others |= {f"cost.{name}_macs": cost for name, cost in experts.items()}
    for name, side in asdict(found).items():
        others |= {f"{name}.{key}": value for key, value in side.items()}
    return Evaluation(found, temperature, decisions, reports, others)
