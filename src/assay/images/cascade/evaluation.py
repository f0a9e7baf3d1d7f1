"""The cascade from scores: thresholds fitted on tune, the ensemble's temperature on calib, everything measured on test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from assay.calibration.temperature import apply_temperature
from assay.images.cascade.abstention import coverage_reports, scenes_to_cover, unsure_range, unsure_text
from assay.images.cascade.cost import cascade_cost
from assay.images.cascade.decision import Decisions, decide, deferred_mask
from assay.images.cascade.leaks import leak_texts, realised_leaks
from assay.images.cascade.measure import Measured, fit_deferred_temperature, system_reports
from assay.images.cascade.rivals import compare, learned_deferral, refit_name
from assay.images.cascade.systems import frontier
from assay.images.cascade.thresholds import Thresholds, certification_text, fit_thresholds
from assay.params.stacking import EvaluateCascade


@dataclass(frozen=True)
class Evaluation:
    """What was fitted and what it comes to.

    Attributes:
        thresholds: both exits, with what leaks at each.
        temperature: of the ensemble, for the rows that stage 1 defers.
        decisions: the cascade's, on test.
        unsure: between these two probabilities a deferred image gets the verdict unsure; None: never.
        reports: system or slice -> metric -> value.
        table: see `frontier`.
        leaks: exit and slice, or exit and scene -> metric -> value; and what is unsure, by class.
        others: flat metrics of no single system: costs, shares, exits.
    """

    thresholds: Thresholds
    temperature: float
    unsure: tuple[float, float] | None
    decisions: Decisions
    reports: dict[str, dict[str, float]]
    table: pd.DataFrame
    leaks: dict[str, dict[str, float]]
    others: dict[str, Any]

    def explanation(self) -> list[str]:
        """What holds for both exits and for ``unsure``, in sentences; ``assay predict --explain`` prints them too."""
        names = {"exit_real": "forged that leave as real", "exit_forged": "real that leave as forged"}
        lines = []
        for exit_name, name in names.items():
            lines.append(certification_text(getattr(self.thresholds, exit_name), name=name))
            lines += leak_texts(self.leaks, exit_name=exit_name)
        if self.unsure is not None:
            lines.append(unsure_text(self.leaks, self.others))
        return lines


def evaluate(
    calib: Measured, tune: Measured, test: Measured, *, costs: Mapping[str, int], settings: EvaluateCascade
) -> Evaluation:
    """Fit on tune and calib, measure on test.

    ``costs``: multiply-accumulates of one image: stage1, ensemble, and each expert.
    """
    scenes = tune.keys["group_id"].to_numpy()
    found = fit_thresholds(
        tune.stage1,
        tune.labels,
        scenes,
        budget_forged=settings.budget_forged,
        budget_real=settings.budget_real,
        certify=settings.certify,
        correlation=settings.assumed_correlation,
    )
    deferred, refit = deferred_mask(calib.stage1, **found.exits), refit_name(tune)
    fits = {name: fit_deferred_temperature(calib, deferred, system=name) for name in ("ensemble", refit)}
    temperatures = {name: fit["temperature"] for name, fit in fits.items()}
    ensemble, one = (apply_temperature(test.uncalibrated()[name], value) for name, value in temperatures.items())
    unsure = _unsure(tune, found, temperature=temperatures["ensemble"], settings=settings)
    decisions = decide(test.stage1, ensemble, **found.exits, unsure=unsure)
    refit_cascade = decide(test.stage1, one, **found.exits, unsure=None).probs
    reports = system_reports(test, calib, decisions, temperature=temperatures["ensemble"], refit_cascade=refit_cascade)
    learned = learned_deferral(tune, test, temperature=temperatures["ensemble"], deferred=decisions.deferred)
    for name, report in compare(test, decisions, ensemble=ensemble, refit=one, learned=learned).items():
        reports[name] = reports.get(name, {}) | report
    leaks = realised_leaks(test, decisions, found)
    if unsure is not None:
        leaks |= coverage_reports(test, decisions)
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
        "cost.mean_logit_macs": sum(experts.values()),
    }
    others |= {f"ensemble_{name}": value for name, value in fits["ensemble"].items()}
    others |= {f"cost.{name}_macs": cost for name, cost in experts.items()}
    for name, side in asdict(found).items():
        others |= {f"{name}.{key}": value for key, value in side.items()}
    if settings.unsure_coverage is not None and unsure is not None:
        others |= {"unsure.low": unsure[0], "unsure.high": unsure[1], "unsure.coverage": settings.unsure_coverage}
        others["unsure.scenes_needed"] = scenes_to_cover(settings.unsure_coverage)
    return Evaluation(found, temperatures["ensemble"], unsure, decisions, reports | gains, table, leaks, others)


def _unsure(
    tune: Measured, found: Thresholds, *, temperature: float, settings: EvaluateCascade
) -> tuple[float, float] | None:
    """The probabilities between which a deferred image is unsure: declared, or covering the deferred rows of tune."""
    if settings.unsure_coverage is None:
        return None if settings.unsure is None else (settings.unsure[0], settings.unsure[1])
    deferred = deferred_mask(tune.stage1, **found.exits)
    asked = apply_temperature(tune.ensemble_logits, temperature)[deferred]
    groups = tune.keys["group_id"].to_numpy()[deferred]
    return unsure_range(asked, tune.labels[deferred], groups, coverage=settings.unsure_coverage)
