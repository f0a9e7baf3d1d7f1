"""What the cascade is held against: stage 1, one network behind the same exits, and other ways to choose what is deferred.

Each rival costs as much as the cascade or less, so that a gain over it is one that the cascade's routing and its ensemble
have earned. All are compared on the same rows, those of the seen families of test, in AUC and balanced accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.calibration.temperature import apply_temperature
from assay.images.cascade.decision import Decisions
from assay.images.cascade.measure import Measured
from assay.metrics.binary import Resampled, resample
from assay.metrics.claims import claim, outcome
from assay.metrics.discrimination import FloatArray, check_weights, ranking_metrics, threshold_metrics
from assay.metrics.paired import gain, gains_together

METRICS = {"auc": "AUC", "balanced_accuracy": "balanced accuracy"}
RIVALS = {
    "stage1": "stage 1 alone",
    "refit": "one refit network behind the same exits",
    "random": "random deferral at equal cost",
    "learned": "learned deferral at equal cost",
}
HARD = "On what stage 1 defers, the ensemble"
# Powers of stage 1's probability that learned deferral may weigh: enough for one hump anywhere, too few to follow noise.
DEGREE = 4


def mixed_metrics(
    labels: npt.ArrayLike,
    probs: npt.ArrayLike,
    *,
    weights: npt.ArrayLike | None = None,
    shares: tuple[float, ...] = (1.0,),
) -> dict[str, FloatArray]:
    """AUC and balanced accuracy that are expected where chance decides, row by row, whose word counts.

    A row's probability is that of system k with probability ``shares[k]``, whatever the other rows get. Both metrics are
    means over rows, or over pairs of two rows, so that their expectations are exact on a sample that holds each row once
    per system, weighted by the shares: no drawing.

    Args:
        labels: 0 or 1 [n].
        probs: of forged [n, k], a column per system; or [n] for one.
        weights: see `discrimination`.
        shares: k of them, of sum 1.
    """
    columns = np.asarray(probs, dtype=np.float64).reshape(len(np.asarray(labels)), -1)
    rows = check_weights(weights, size=len(columns))
    stacked = np.tile(np.asarray(labels), len(shares)), columns.T.ravel()
    counted = np.hstack([share * rows for share in shares])
    return {
        "auc": ranking_metrics(*stacked, weights=counted)["auc"],
        "balanced_accuracy": threshold_metrics(*stacked, weights=counted)["balanced_accuracy"],
    }


def refit_name(tune: Measured) -> str:
    """The expert whose refit network has the largest AUC on tune: what a user would run alone."""
    areas = {name: float(ranking_metrics(tune.labels, logits)["auc"][0]) for name, logits in tune.expert_logits.items()}
    return max(areas, key=lambda name: areas[name])


def learned_deferral(tune: Measured, test: Measured, *, temperature: float, deferred: np.ndarray) -> np.ndarray:
    """Which rows of test to send on, by what that is expected to gain: bool [n], True on seen rows only.

    A ridge regression of the fall in squared error on powers of stage 1's probability, fitted on tune (post-hoc deferral,
    Jitkrittum et al. 2023, "When does confidence-based cascade deferral suffice?", with what is known before the ensemble
    has run).

    Args:
        temperature: of the ensemble.
        deferred: what the cascade sends on [n]; of the seen rows as many are chosen, so that both cost the same.
    """
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    seen = test.slices["test"]
    ensemble = apply_temperature(tune.ensemble_logits, temperature)
    worth = (tune.stage1 - tune.labels) ** 2 - (ensemble - tune.labels) ** 2
    model = make_pipeline(PolynomialFeatures(DEGREE), Ridge()).fit(2 * tune.stage1[:, None] - 1, worth)
    order = np.argsort(-model.predict(2 * test.stage1[:, None] - 1), kind="stable")
    chosen = np.zeros(len(seen), dtype=bool)
    chosen[order[seen[order]][: int(deferred[seen].sum())]] = True
    return chosen


def compare(
    test: Measured,
    decisions: Decisions,
    *,
    ensemble: np.ndarray,
    refit: np.ndarray,
    learned: np.ndarray,
) -> dict[str, dict[str, float]]:
    """Metrics of each rival, and what the cascade gains over it, with paired intervals.

    Args:
        decisions: the cascade's, on test.
        ensemble, refit: calibrated probabilities [n] of the levels behind the exits.
        learned: what learned deferral sends on, bool [n].

    Returns:
        ``random_deferral`` and ``learned_deferral``: AUC, balanced accuracy; ``cascade``: ``<metric>_gain_<rival>``;
        ``deferred.ensemble``: the gains over stage 1 and the refit network on the rows that stage 1 defers, where both
        classes are among them.
    """
    seen = test.slices["test"]
    share = float(decisions.deferred[seen].mean())
    routed = np.where(decisions.deferred, refit, test.stage1), np.where(learned, ensemble, test.stage1)
    systems = {"stage1": test.stage1, "refit": routed[0], "learned": routed[1], "cascade": decisions.probs}
    found = {name: _measure(test, values, seen) for name, values in systems.items()}
    both = np.column_stack([test.stage1, ensemble])
    found["random"] = _measure(test, both, seen, shares=(1.0 - share, share))
    reports = {f"{name}_deferral": found[name].summary() for name in ("random", "learned")}
    reports["cascade"] = _gains(found["cascade"], {name: found[name] for name in RIVALS})
    hard = seen & decisions.deferred
    if len(set(test.labels[hard])) == 2:
        levels = {"stage1": test.stage1, "refit": refit, "ensemble": ensemble}
        on_hard = {name: _measure(test, values, hard) for name, values in levels.items()}
        reports["deferred.ensemble"] = _gains(on_hard.pop("ensemble"), on_hard)
    return reports


def gain_over_random(test: Measured, probs: np.ndarray, ensemble: np.ndarray, *, share: float) -> dict[str, float]:
    """n, n_groups and ``balanced_accuracy_gain_random`` of routed ``probs`` [n] on the seen rows.

    ``share``: of the rows that are deferred.
    """
    seen, both = test.slices["test"], np.column_stack([test.stage1, ensemble])
    ours = _measure(test, probs, seen)
    chance = _measure(test, both, seen, shares=(1.0 - share, share))
    key = "balanced_accuracy_gain_random"
    return {"n": ours.n, "n_groups": ours.n_groups} | gain(ours, chance, "balanced_accuracy", key=key)


def conclusion(metrics: Mapping[str, Any], reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What metrics/cascade.json says, in sentences: ``metrics`` flat, ``reports`` by system."""
    words: dict[str, Any] = {"one_training": True, "comparisons": len(RIVALS) * len(METRICS)}
    ours = reports["cascade"]
    lines = [
        claim(ours, f"{metric}_gain_{rival}", ours="The cascade", theirs=theirs, metric=name, **words)
        for rival, theirs in RIVALS.items()
        for metric, name in METRICS.items()
    ]
    hard = reports.get("deferred.ensemble", {})
    words["comparisons"] = 2 * len(METRICS)
    for rival, theirs in (("stage1", "stage 1"), ("refit", "one refit network")):
        if f"auc_gain_{rival}" in hard:
            lines += [
                claim(hard, f"{metric}_gain_{rival}", ours=HARD, theirs=theirs, metric=name, **words)
                for metric, name in METRICS.items()
            ]
    budgets = [report for name, report in reports.items() if name.startswith("frontier.")]
    key = "balanced_accuracy_gain_random"
    told = [outcome(report, key) for report in budgets]
    below = sum((report[key] or 0.0) < 0 for report in budgets)
    lines.append(
        f"The cascade against random deferral at equal cost, at {len(budgets)} budgets (exploratory): less balanced "
        f"accuracy at {below}; better at {told.count('better')} and worse at {told.count('worse')} beyond the interval."
    )
    million = {
        name: f"{metrics[f'cost.{name}_macs'] / 1e6:.1f}" for name in ("stage1", "refit", "refit_cascade", "cascade")
    }
    lines.append(
        f"Million multiply-accumulates an image: stage 1 {million['stage1']}, the refit network alone ({metrics['refit']}) "
        f"{million['refit']}, the same behind the exits {million['refit_cascade']}, the cascade {million['cascade']}. "
        f"Against the refit network alone, behind the exits it costs {metrics['speedup_refit_cascade']:.2f} times less, the "
        f"cascade {metrics['speedup']:.2f} times less (below 1: more)."
    )
    return lines


def _measure(test: Measured, probs: np.ndarray, mask: np.ndarray, *, shares: tuple[float, ...] = (1.0,)) -> Resampled:
    groups = test.keys["group_id"].to_numpy()[mask]
    return resample(test.labels[mask], probs[mask], groups, metrics=partial(mixed_metrics, shares=shares))


def _gains(ours: Resampled, rivals: Mapping[str, Resampled]) -> dict[str, float]:
    return gains_together(
        {f"{metric}_gain_{rival}": (ours, theirs, metric) for rival, theirs in rivals.items() for metric in METRICS}
    )
