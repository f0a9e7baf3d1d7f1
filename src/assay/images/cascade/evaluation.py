"""The cascade from scores: a bake-off on tune, with what is fitted on calib, and everything measured on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from assay.calibration.temperature import apply_temperature
from assay.images.cascade.abstention import coverage_reports, scenes_to_cover, unsure_range, unsure_text
from assay.images.cascade.bake_off import Choice, choose_all
from assay.images.cascade.cost import MACS, STAGE1, WAYS, Costs
from assay.images.cascade.decision import Decisions, decide_alone
from assay.images.cascade.goals import choice_sentences, goal_reports
from assay.images.cascade.leaks import leak_texts, realised_leaks
from assay.images.cascade.measure import (
    Measured,
    calibrated,
    fit_alone,
    fit_deferred_temperature,
    system_reports,
)
from assay.images.cascade.pairs import Fitted, Pair, fit_pair, pairs_of
from assay.images.cascade.rivals import compare, learned_deferral, measure
from assay.images.cascade.systems import frontier
from assay.images.cascade.thresholds import certification_text
from assay.metrics.discrimination import ranking_metrics
from assay.params.stacking import EvaluateCascade

CASCADE = "cascade"


@dataclass(frozen=True)
class Evaluation:
    """What was fitted and what it comes to.

    Attributes:
        ships: ``cascade``, or the system that judges every image in its place.
        cascade: the cascade that tune chose by the way of counting that decides.
        temperatures: of each system where it judges every image.
        unsure: between these two probabilities a deferred image gets the verdict unsure; None: never.
        decisions: of what ships, on test.
        reports: system or slice -> metric -> value.
        table: see `frontier`.
        leaks: exit and slice, or exit and scene -> metric -> value; and what is unsure, by class.
        others: flat metrics of no single system: costs, shares, exits.
        told: who said what ships, and what the bake-off decided, a sentence for each way of counting.
    """

    ships: str
    cascade: Fitted
    temperatures: dict[str, float]
    unsure: tuple[float, float] | None
    decisions: Decisions
    reports: dict[str, dict[str, Any]]
    table: pd.DataFrame
    leaks: dict[str, dict[str, float]]
    others: dict[str, Any]
    told: list[str]

    def explanation(self) -> list[str]:
        """What ships and why; of a cascade what is known of its exits. ``assay predict --explain`` prints it."""
        if self.ships != CASCADE:
            return [f"every image is judged by {self.ships} alone", *self.told]
        return [
            f"{self.cascade.first} judges, and where it is not sure {self.cascade.second}",
            *self.told,
            *self.exits(),
        ]

    def exits(self) -> list[str]:
        """What holds for both exits of the cascade and for ``unsure``, in sentences."""
        lines = []
        for exit_name, name in (
            ("exit_real", "forged that leave as real"),
            ("exit_forged", "real that leave as forged"),
        ):
            lines.append(certification_text(getattr(self.cascade.thresholds, exit_name), name=name))
            lines += leak_texts(self.leaks, exit_name=exit_name)
        if self.unsure is not None:
            lines.append(unsure_text(self.leaks, self.others))
        return lines

    def record(self) -> dict[str, Any]:
        """What `assay predict` reads of it: the levels with their temperatures, exits, ``unsure``."""
        if self.ships != CASCADE:
            level = {"network": self.ships, "temperature": self.temperatures[self.ships], "join": None}
            return {"levels": [level], "exit_real": None, "exit_forged": None, "unsure": None}
        ours = self.cascade
        levels = [
            {"network": ours.first, "temperature": ours.first_temperature, "join": None},
            {"network": ours.second, "temperature": ours.temperature["temperature"], "join": asdict(ours.join)},
        ]
        return {"levels": levels, **ours.thresholds.exits, "unsure": self.unsure}


def what_ships(ship: str, choice: Choice, known: Sequence[str]) -> str:
    """``cascade`` or the name of a system, from ``evaluate_cascade.ship``; ValueError if it names none."""
    if ship == "auto":
        return choice.ships
    if ship not in (CASCADE, *known):
        raise ValueError(f"evaluate_cascade.ship: got {ship!r}; it is auto, cascade or one of {', '.join(known)}")
    return ship


def best_of(role: Measured, names: Sequence[str]) -> str:
    """The system with the largest AUC."""
    areas = {name: float(ranking_metrics(role.labels, role.logits[name])["auc"][0]) for name in names}
    return max(areas, key=lambda name: areas[name])


def bake_off(
    calib: Measured,
    tune: Measured,
    costs: Costs,
    temperatures: Mapping[str, float],
    *,
    settings: EvaluateCascade,
) -> tuple[dict[Pair, Fitted], dict[str, Choice]]:
    """Every cascade of two, fitted, and what tune chooses among them and the networks by each way of counting."""
    rows = tune.slices["test"]
    cascades = {
        pair: fit_pair(calib, tune, pair, first_temperature=temperatures[pair[0]], settings=settings)
        for pair in pairs_of(costs)
    }
    made = {pair: fitted.decide(tune) for pair, fitted in cascades.items()}
    alone = {name: measure(tune, probs, rows) for name, probs in calibrated(tune, temperatures).items()}
    on_tune = {pair: measure(tune, found.probs, rows) for pair, found in made.items()}
    shares = {pair: float(found.deferred[rows].mean()) for pair, found in made.items()}
    return cascades, choose_all(alone, on_tune, shares, costs)


def evaluate(
    calib: Measured,
    tune: Measured,
    test: Measured,
    *,
    stage1_temperature: float,
    experts: Sequence[str],
    costs: Costs,
    settings: EvaluateCascade,
) -> Evaluation:
    """Fit and choose on tune and calib, measure on test.

    ``experts``: names of the experts' networks at their own size; of those of ``costs`` the others are at other sizes.
    """
    temperatures = fit_alone(calib, stage1_temperature=stage1_temperature)
    cascades, choices = bake_off(calib, tune, costs, temperatures, settings=settings)
    choice = choices[settings.count]
    first_temperature = temperatures[choice.cascade[0]]
    ours = fit_pair(calib, tune, choice.cascade, first_temperature=first_temperature, settings=settings, interval=True)
    ships = what_ships(settings.ship, choice, list(temperatures))
    unsure = _unsure(tune, ours, settings=settings)
    decisions, levels, on_tune = ours.decide(test, unsure=unsure), ours.probs(test), ours.probs(tune)
    names = {
        "refit": best_of(tune, experts),
        "expert": best_of(tune, [name for name in costs.singles if name != STAGE1]),
    }
    refit = _behind_exits(calib, test, ours, names["refit"])
    probs, seen = calibrated(test, temperatures), test.slices["test"]
    systems = probs | {"refit_cascade": np.where(decisions.deferred, refit, levels[0])}
    reports: dict[str, dict[str, Any]] = system_reports(test, systems, decisions, levels=levels)
    num = int(decisions.deferred[seen].sum())
    learned = learned_deferral(on_tune, tune.labels, levels[0], rows=seen, num=num)
    compared = compare(test, decisions, stage1=probs[STAGE1], levels=levels, refit=refit, learned=learned)
    for name, report in compared.items():
        reports[name] = reports.get(name, {}) | report
    reports |= goal_reports(
        tune, test, choices=choices, cascades=cascades, probs=probs, ours=decisions.probs, names=names, costs=costs
    )
    leaks = realised_leaks(test, decisions, ours.thresholds)
    if unsure is not None:
        leaks |= coverage_reports(test, decisions)
    table = frontier(
        tune, test, probs=probs, cascades=cascades, choices=choices, costs=costs, shares=settings.deferred_shares
    )
    others = {"shipped": ships, **names, "share_deferred": float(decisions.deferred[seen].mean())}
    others |= _flat(ours, costs, others, unsure=unsure, settings=settings)
    shown = decisions if ships == CASCADE else decide_alone(probs[ships], name=ships)
    forced = settings.ship != "auto"
    said = (
        f"so says evaluate_cascade.ship, {settings.ship}"
        if forced
        else f"so says tune, counted in {WAYS[settings.count]}"
    )
    told = [said, *choice_sentences(reports)]
    return Evaluation(ships, ours, temperatures, unsure, shown, reports, table, leaks, others, told)


def _flat(
    ours: Fitted,
    costs: Costs,
    known: Mapping[str, Any],
    *,
    unsure: tuple[float, float] | None,
    settings: EvaluateCascade,
) -> dict[str, Any]:
    """Flat metrics: costs, temperature, exits. ``known``: ``refit`` and ``share_deferred``."""
    others: dict[str, Any] = {f"second_{name}": value for name, value in ours.temperature.items()}
    others["cost.picture_bytes"] = costs.picture_bytes
    for way in WAYS:
        alone = costs.alone(known["refit"], way=way)
        cascade = costs.cascade(ours.first, ours.second, known["share_deferred"], way=way)
        others |= {f"cost.refit_{way}": alone, f"cost.cascade_{way}": cascade}
        # Against what one would run without a cascade: one network, trained on everything.
        others["speedup" if way == MACS else f"speedup_{way}"] = alone / cascade if cascade > 0 else None
    others |= {f"cost.{name}_{MACS}": costs.alone(name, way=MACS) for name in costs.macs}
    for name, side in asdict(ours.thresholds).items():
        others |= {f"{name}.{key}": value for key, value in side.items()}
    if settings.unsure_coverage is not None and unsure is not None:
        others |= {"unsure.low": unsure[0], "unsure.high": unsure[1], "unsure.coverage": settings.unsure_coverage}
        others["unsure.scenes_needed"] = scenes_to_cover(settings.unsure_coverage)
    return others


def _behind_exits(calib: Measured, test: Measured, ours: Fitted, expert: str) -> np.ndarray:
    """Probabilities [n] of an expert in the second network's place, with a temperature from the deferred rows of calib."""
    rows, logits = ours.decide(calib).deferred, calib.logits[expert]
    fitted = fit_deferred_temperature(
        logits[rows], calib.labels[rows], calib.groups[rows], system=expert, interval=False
    )
    return apply_temperature(test.logits[expert], fitted["temperature"])


def _unsure(tune: Measured, ours: Fitted, *, settings: EvaluateCascade) -> tuple[float, float] | None:
    """The probabilities between which a deferred image is unsure: declared, or covering the deferred rows of tune."""
    if settings.unsure_coverage is None:
        return None if settings.unsure is None else (settings.unsure[0], settings.unsure[1])
    rows, asked = ours.decide(tune).deferred, ours.probs(tune)[1]
    return unsure_range(asked[rows], tune.labels[rows], tune.groups[rows], coverage=settings.unsure_coverage)
