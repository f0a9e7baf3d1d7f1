"""The cascade from scores: thresholds fitted on tune, the ensemble's temperature on calib, everything measured on test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from assay.calibration.temperature import apply_temperature
from assay.images.cascade.abstention import coverage_reports, scenes_to_cover, unsure_range, unsure_text
from assay.images.cascade.cost import cascade_cost, speedup
from assay.images.cascade.decision import Decisions, decide, deferred_mask
from assay.images.cascade.leaks import leak_texts, realised_leaks
from assay.images.cascade.measure import Measured, fit_ensemble_temperature, system_reports
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
        leaks: exit and slice, or exit and scene -> metric -> value; and what is unsure, by class.
        others: flat metrics of no single system: costs, shares, exits.
    """

    thresholds: Thresholds
    temperature: float
    unsure: tuple[float, float] | None
    decisions: Decisions
    reports: dict[str, dict[str, float]]
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
    calib: Measured, tune: Measured, test: Measured, *, costs: Mapping[str, int], settings: EvaluateCascade, seed: int
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
    temperature = fit_ensemble_temperature(calib, deferred_mask(calib.stage1, **found.exits))
    unsure = None if settings.unsure is None else (settings.unsure[0], settings.unsure[1])
    if settings.unsure_coverage is not None:
        rows = deferred_mask(tune.stage1, **found.exits)
        asked = apply_temperature(tune.ensemble_logits, temperature)[rows]
        unsure = unsure_range(asked, tune.labels[rows], scenes[rows], coverage=settings.unsure_coverage)
    probs = apply_temperature(test.ensemble_logits, temperature)
    decisions = decide(test.stage1, probs, **found.exits, unsure=unsure)
    reports = system_reports(
        test, calib, decisions, temperature=temperature, num_resamples=settings.num_resamples, seed=seed
    )
    how = {"num_resamples": settings.num_resamples, "seed": seed}
    leaks = realised_leaks(test, decisions, found, **how)
    if unsure is not None:
        leaks |= coverage_reports(test, decisions, **how)
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
    if settings.unsure_coverage is not None and unsure is not None:
        others |= {"unsure.low": unsure[0], "unsure.high": unsure[1], "unsure.coverage": settings.unsure_coverage}
        others["unsure.scenes_needed"] = scenes_to_cover(settings.unsure_coverage)
    return Evaluation(found, temperature, unsure, decisions, reports, leaks, others)
