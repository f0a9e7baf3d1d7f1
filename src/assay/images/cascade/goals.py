"""Does the cascade pay? What tune chose, measured on test, and the sentences that follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from assay.images.cascade.bake_off import GAIN, METRIC, Choice
from assay.images.cascade.cost import ENSEMBLE, MACS, STAGE1, WAYS, Costs
from assay.images.cascade.line import mixture
from assay.images.cascade.measure import Measured
from assay.images.cascade.pairs import Fitted, Pair, exits_by_share
from assay.images.cascade.rivals import METRICS, RIVALS, measure
from assay.metrics.binary import Resampled
from assay.metrics.claims import claim, told
from assay.metrics.paired import gain

# What the goals below ask for: balanced accuracy over stage 1, and how little the refit may be better at which speedup.
OVER_STAGE1, BELOW_REFIT, SPEEDUP = 0.03, 0.01, 2.5
# The shares deferred at which the cascade is meant to lie above the line of single networks.
LINE_SHARES = (0.2, 0.3, 0.4, 0.5)
SECOND = "On what the first network defers, the second"


def gain_over_line(ours: Resampled, alone: Mapping[str, Resampled], choice: Choice, *, cost: float) -> dict[str, float]:
    """n, n_groups, `GAIN` with its limits, and ``cost``: a cascade against the line that tune drew, at its own cost."""
    theirs = mixture(alone, choice.line.shares(cost), metric=METRIC)
    size: dict[str, float] = {"n": ours.n, "n_groups": ours.n_groups}
    return size | gain(ours, theirs, METRIC, key=GAIN) | {"cost": cost}


def goal_reports(
    tune: Measured,
    test: Measured,
    *,
    choices: Mapping[str, Choice],
    cascades: Mapping[Pair, Fitted],
    probs: Mapping[str, np.ndarray],
    ours: np.ndarray,
    names: Mapping[str, str],
    costs: Costs,
) -> dict[str, dict[str, Any]]:
    """What was chosen on tune, on the seen families of test.

    Args:
        probs: of test, each system on every image, [n]; ``ours``: the cascade's.
        names: ``expert``, the best single expert of tune at any size, and ``refit``, the best at its own.

    Returns:
        ``choice.<way>``: what tune chose, and the chosen cascade at its exits against the line; ``line.<way>.<share>``:
        the same where tune defers that share; ``goal.ensemble``: the ensemble against the best single expert;
        ``goal.stage1`` and ``goal.refit``: the cascade against stage 1, and against the refit network on every image.
    """
    seen = test.slices["test"]
    alone = {name: measure(test, values, seen) for name, values in probs.items()}
    reports: dict[str, dict[str, Any]] = {}
    for way, choice in choices.items():
        fitted = cascades[choice.cascade]
        points: dict[str, Mapping[str, float]] = {f"choice.{way}": fitted.thresholds.exits}
        first = fitted.probs(tune)[0]
        points |= {f"line.{way}.{share}": exits_by_share(first, share) for share in LINE_SHARES}
        for name, exits in points.items():
            made = fitted.decide(test, exits=exits)
            share = float(made.deferred[seen].mean())
            cost = costs.cascade(*choice.cascade, share, way=way)
            reports[name] = gain_over_line(measure(test, made.probs, seen), alone, choice, cost=cost)
            reports[name]["share_deferred"] = share
        reports[f"choice.{way}"] |= choice.record()
    cascade = measure(test, ours, seen)
    pairs = {
        "ensemble": (alone[ENSEMBLE], alone[names["expert"]]),
        "stage1": (cascade, alone[STAGE1]),
        "refit": (cascade, alone[names["refit"]]),
    }
    for name, (one, two) in pairs.items():
        report: dict[str, float] = {"n": one.n, "n_groups": one.n_groups}
        for metric in METRICS:
            report |= gain(one, two, metric, key=f"{metric}_gain")
        reports[f"goal.{name}"] = report
    return reports


def choice_sentences(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """By each way of counting: what won, what tune says for it, and what test does."""
    lines = []
    for way, words in WAYS.items():
        if (report := reports.get(f"choice.{way}")) is None:
            continue
        tune = {key.removeprefix("tune_"): value for key, value in report.items() if key.startswith("tune_")}
        what = f"cascade rejected: take {report['network']} alone" if report["rejected"] else "cascade kept"
        on_tune = told(tune, GAIN, comparisons=report["comparisons"], one_training=True)
        lines.append(
            f"Counted in {words}: {what}. The best cascade of tune ({report['cascade']}) against the line of single "
            f"networks at its cost, balanced accuracy: on tune {on_tune}; on test {told(report, GAIN, one_training=True)}."
        )
    return lines


def _reaches(value: float | None, least: float) -> bool:
    """Whether a value is known and at least so large."""
    return value is not None and value >= least


def goal_sentences(metrics: Mapping[str, Any], reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The goals, each with its figures and whether the point estimate reaches it."""
    if "goal.stage1" not in reports:
        return []
    stage1, refit = reports["goal.stage1"], reports["goal.refit"]
    words: dict[str, Any] = {"one_training": True}
    lines = [
        claim(
            reports["goal.ensemble"],
            f"{metric}_gain",
            ours="The ensemble",
            theirs=f"the best single expert of tune ({metrics['expert']})",
            metric=name,
            **words,
        )
        for metric, name in METRICS.items()
    ]
    key = f"{METRIC}_gain"
    over = claim(stage1, key, ours="The cascade", theirs="stage 1 alone", metric=METRICS[METRIC], **words)
    lines.append(f"{over} Goal of {OVER_STAGE1:+.2f}: {'reached' if _reaches(stage1[key], OVER_STAGE1) else 'missed'}.")
    for way, what in WAYS.items():
        found = [reports[f"line.{way}.{share}"] for share in LINE_SHARES]
        points = "; ".join(f"{one['share_deferred']:.0%} deferred {told(one, GAIN, **words)}" for one in found)
        ours = f"The cascade ({reports[f'choice.{way}']['cascade']}) against the line of single networks"
        lines.append(f"{ours}, counted in {what}, balanced accuracy: {points}.")
    theirs = f"the refit network ({metrics['refit']}) on every image"
    below = claim(refit, key, ours="The cascade", theirs=theirs, metric=METRICS[METRIC], **words)
    speedups = {WAYS[way]: metrics["speedup" if way == MACS else f"speedup_{way}"] for way in WAYS}
    # No speedup: the cascade costs nothing.
    cheaper = ", ".join(f"{'-' if value is None else f'{value:.2f}'} by {what}" for what, value in speedups.items())
    met = [what for what, value in speedups.items() if value is None or value >= SPEEDUP]
    reached = f"reached by {', '.join(met)}" if _reaches(refit[key], -BELOW_REFIT) and met else "missed"
    lines.append(
        f"{below} Times that it costs less: {cheaper}. Goal of at most {BELOW_REFIT:.2f} below at {SPEEDUP} times less: "
        f"{reached}."
    )
    return lines


def conclusion(metrics: Mapping[str, Any], reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What metrics/cascade.json says, in sentences: ``metrics`` flat, ``reports`` by system."""
    ours = reports["cascade"]
    words: dict[str, Any] = {"one_training": True, "comparisons": len(RIVALS) * len(METRICS)}
    lines = choice_sentences(reports) + goal_sentences(metrics, reports)
    lines += _claims(ours, "The cascade", RIVALS, words)
    words["comparisons"] = 2 * len(METRICS)
    hard = {"first": "the first", "refit": "one refit network"}
    if "auc_gain_first" in (found := reports.get("deferred.second", {})):
        lines += _claims(found, SECOND, hard, words)
    names = {"stage1": "stage 1", "refit": f"the refit network alone ({metrics['refit']})", "cascade": "the cascade"}
    million = ", ".join(f"{text} {metrics[f'cost.{name}_{MACS}'] / 1e6:.1f}" for name, text in names.items())
    return [*lines, f"Million multiply-accumulates an image: {million}."]


def _claims(report: Mapping[str, Any], ours: str, rivals: Mapping[str, str], words: Mapping[str, Any]) -> list[str]:
    return [
        claim(report, f"{metric}_gain_{rival}", ours=ours, theirs=theirs, metric=name, **words)
        for rival, theirs in rivals.items()
        for metric, name in METRICS.items()
    ]
