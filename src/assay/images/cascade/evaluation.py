"""The cascade from scores: thresholds fitted on tune, the ensemble's temperature on calib, everything measured on test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from assay.calibration.temperature import apply_temperature
from assay.images.cascade.cost import cascade_cost
from assay.images.cascade.decision import Decisions, decide, deferred_mask
from assay.images.cascade.measure import Measured, fit_deferred_temperature, system_reports
from assay.images.cascade.rivals import compare, learned_deferral, refit_name
from assay.images.cascade.systems import frontier
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
        table: see `frontier`.
        others: flat metrics of no single system: costs, shares, exits.
    """

    thresholds: Thresholds
    temperature: float
    decisions: Decisions
    reports: dict[str, dict[str, float]]
    table: pd.DataFrame
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
    deferred, refit = deferred_mask(calib.stage1, **found.exits), refit_name(tune)
    temperatures = {name: fit_deferred_temperature(calib, deferred, system=name) for name in ("ensemble", refit)}
    ensemble, one = (apply_temperature(test.uncalibrated()[name], value) for name, value in temperatures.items())
    decisions = decide(test.stage1, ensemble, **found.exits, unsure=settings.unsure)
    refit_cascade = decide(test.stage1, one, **found.exits).probs
    reports = system_reports(test, calib, decisions, temperature=temperatures["ensemble"], refit_cascade=refit_cascade)
    learned = learned_deferral(tune, test, temperature=temperatures["ensemble"], deferred=decisions.deferred)
    for name, report in compare(test, decisions, ensemble=ensemble, refit=one, learned=learned).items():
        reports[name] = reports.get(name, {}) | report
    table, gains = frontier(
        tune,
        test,
        temperatures=temperatures,
        refit=refit,
        costs=costs,
        budgets=settings.frontier_budgets,
    )
    share = float(decisions.deferred[test.slices["test"]].mean())
    experts = {name: cost for name, cost in costs.items() if name in test.expert_logits}
    cascade, cheap = (cascade_cost(costs["stage1"], costs[name], share) for name in ("ensemble", refit))
    others: dict[str, Any] = {
        "share_deferred": share,
        "refit": refit,
        # Against what one would run without a cascade: one network, trained on everything.
        "speedup": costs[refit] / cascade,
        "speedup_refit_cascade": costs[refit] / cheap,
        "cost.stage1_macs": costs["stage1"],
        "cost.ensemble_macs": costs["ensemble"],
        "cost.refit_macs": costs[refit],
        "cost.cascade_macs": cascade,
        "cost.refit_cascade_macs": cheap,
        "ensemble_temperature": temperatures["ensemble"],
        "cost.mean_logit_macs": sum(experts.values()),
    }
    others |= {f"cost.{name}_macs": cost for name, cost in experts.items()}
    for name, side in asdict(found).items():
        others |= {f"{name}.{key}": value for key, value in side.items()}
    return Evaluation(found, temperatures["ensemble"], decisions, reports | gains, table, others)
