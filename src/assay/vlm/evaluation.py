"""What follows from the predictions of the vlm line: metrics of high risk, spread over runs, and whether fusion pays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from assay.calibration.scaling import Scaling
from assay.metrics.binary import Resampled, resample
from assay.metrics.claims import claim
from assay.metrics.discrimination import FloatArray, check_weights
from assay.metrics.multiclass import confidence_test, multiclass_metrics, ratio
from assay.metrics.paired import gain, gains_together
from assay.report.tables import confident_mistakes
from assay.vlm.fusion import corrected
from assay.vlm.scores import POOL, SECOND

# What the correction is judged by, and whether less is better.
FUSED = {"accuracy": False, "nll": True, "high_recall": False, "high_precision": False, "high_error": True}
# What the parts of the second model are judged by.
PARTS = ("high_error", "accuracy")
WORDS = {"nll": "NLL", "high_recall": "recall of high risk", "high_precision": "precision of high risk"}
WORDS |= {"high_error": "errors on high risk"}


def risk_metrics(
    labels: npt.ArrayLike, probs: npt.ArrayLike, *, high: int, weights: npt.ArrayLike | None = None
) -> dict[str, FloatArray]:
    """`multiclass_metrics`, and high_precision, high_recall (0 where undefined) and high_error, float64 [B] each.

    They are of the class with index ``high``; high_error is the share of rows on which "high or not" is wrong.
    """
    metrics = multiclass_metrics(labels, probs, weights=weights)
    truth, named = np.asarray(labels) == high, np.asarray(probs).argmax(axis=1) == high
    rows = check_weights(weights, size=len(truth))
    hits = rows @ (truth & named)
    metrics |= {"high_precision": ratio(hits, rows @ named), "high_recall": ratio(hits, rows @ truth)}
    metrics["high_error"] = rows @ (truth != named) / rows.sum(axis=1)
    return metrics


def system_probs(
    raw: Mapping[str, np.ndarray],
    scalings: Mapping[str, Scaling],
    fusions: Mapping[str, Mapping[str, Any]],
    shares: np.ndarray,
    *,
    second: str,
) -> dict[str, np.ndarray]:
    """Probabilities [n, C] of every system that is reported.

    Args:
        raw: system -> log-probabilities of the test role, ``blank`` among them.
        scalings, fusions: see `fit_fusion`.
        shares: of the classes [C], for the baseline ``majority``.
        second: the second model that corrects: its system is ``fused``, those of the others `fused_with`.
    """
    base = scalings["base"].probs(raw["base"])
    probs = {"base": base, "uncalibrated": np.exp(raw["base"])}
    for name, fusion in fusions.items():
        probs["fused" if name == second else fused_with(name)] = corrected(base, raw[f"{SECOND}{name}"], fusion)
    probs["blank"] = scalings["base"].probs(raw["blank"])
    probs |= {name: scaling.probs(raw[name]) for name, scaling in scalings.items() if name != "base"}
    return probs | {"majority": np.tile(shares, (len(base), 1))}


def fused_with(name: str) -> str:
    """The system of ``base`` corrected by a second model that is measured but does not ship."""
    return f"fused_{name}"


def in_words(second: str) -> str:
    """A second model, or all of them, in a sentence."""
    return "all second models together" if second == POOL else f"the second model {second}"


def evaluate(
    probs: Mapping[str, np.ndarray], truth: np.ndarray, groups: np.ndarray, *, high: int, seed: int
) -> dict[str, dict[str, float]]:
    """Metrics of every system with intervals, what each part gains, and how often a grey image changes the answer.

    ``high_error_fewer`` is the share of the first model's errors on high risk that a correction takes away.
    """
    metrics = partial(risk_metrics, high=high)
    measured = {name: resample(truth, value, groups, metrics=metrics) for name, value in probs.items()}
    reports = {name: item.summary() for name, item in measured.items()}
    for name, found in gains(measured).items():
        reports[name] |= found
    for name, report in reports.items():
        report["ece_p_value"] = confidence_test(truth, probs[name], groups, seed=seed).p_value
        if name.startswith("fused"):
            before = reports["base"]["high_error"]
            report["high_error_fewer"] = 1 - report["high_error"] / before if before else math.nan
    changed = probs["blank"].argmax(axis=1) != probs["base"].argmax(axis=1)
    reports["blank"]["changed"] = float(changed.mean())
    return reports


def spread(runs: Sequence[np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """How far runs that differ in the order of the data differ in what they say.

    Args:
        runs: probabilities [n, C] of each.
        labels: int64 [n].

    Returns:
        runs; accuracy_min, accuracy_max; confidence_mean and confidence_p95, of the largest minus the smallest
        probability that the runs give to the class the first of them names; changed, the share of rows on which two
        runs name different classes.
    """
    stacked = np.stack(runs)
    named = stacked.argmax(axis=2)
    accuracy = (named == labels).mean(axis=1)
    confidence = np.take_along_axis(stacked, named[:1, :, None], axis=2)[..., 0]
    width = confidence.max(axis=0) - confidence.min(axis=0)
    return {
        "runs": float(len(runs)),
        "accuracy_min": float(accuracy.min()),
        "accuracy_max": float(accuracy.max()),
        "confidence_mean": float(width.mean()),
        "confidence_p95": float(np.quantile(width, 0.95)),
        "changed": float((named != named[0]).any(axis=0).mean()),
    }


def gains(measured: Mapping[str, Resampled]) -> dict[str, dict[str, float]]:
    """What each part gains in accuracy, and fusion in the metrics of high risk; each with its paired interval."""
    base: dict[str, float] = {}
    for other, end in {"majority": "", "no_augmentation": "_augmentation", "no_filter": "_filter"}.items():
        if other in measured:
            base |= gain(measured["base"], measured[other], "accuracy", key=f"accuracy_gain{end}")
    fused = gains_together({f"{name}_gain": (measured["fused"], measured["base"], name) for name in FUSED})
    found = {"base": base, "fused": fused}
    if "soup" in measured:
        found["soup"] = gain(measured["soup"], measured["base"], "accuracy", key="accuracy_gain")
    # Each other second model against the first model alone, and what ships against it; all looked at in one breath.
    others = {name: item for name, item in measured.items() if name.startswith(fused_with(""))}
    pairs = {
        f"{name}.{metric}_gain": (item, measured["base"], metric) for name, item in others.items() for metric in PARTS
    }
    pairs |= {f"{name}.high_error_behind": (measured["fused"], item, "high_error") for name, item in others.items()}
    for key, value in (gains_together(pairs) if pairs else {}).items():
        name, _, end = key.partition(".")
        found.setdefault(name, {})[end] = value
    return found


def mistakes(rows: pd.DataFrame, probs: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Wrong answers: sample_id, name, picture, true, predicted, confidence; the most confident first."""
    return confident_mistakes(rows[["sample_id", "name", "picture"]], labels, probs, names)


def conclusion(reports: Mapping[str, Mapping[str, Any]], *, strength: float) -> list[str]:
    """What each part gains, in sentences from figures.

    ``strength``: of the correction, as fitted on tune; at 0 it is the identity, and nothing is to be judged.
    """
    base, fused = reports["base"], reports["fused"]
    rivals = {"": "the largest class", "_augmentation": "the same without augmentation"}
    rivals |= {"_filter": "the same without the filter"}
    lines = [
        claim(base, f"accuracy_gain{end}", ours="The first model", theirs=theirs, metric="accuracy", one_training=True)
        for end, theirs in rivals.items()
        if f"accuracy_gain{end}" in base
    ]
    if "soup" in reports:
        words: dict[str, Any] = {"ours": "The mean of the orders' weights", "theirs": "the first model alone"}
        lines.append(claim(reports["soup"], "accuracy_gain", metric="accuracy", one_training=True, **words))
    if strength == 0:
        lines.append("The correction has strength 0: on tune it gains nothing, so that it is the identity.")
    words = {"ours": f"The correction (strength {strength:.2f})", "theirs": "the first model alone"}
    words |= {"comparisons": len(FUSED), "one_training": True}
    lines += [
        claim(fused, f"{name}_gain", metric=WORDS.get(name, name), lower_is_better=lower, **words)
        for name, lower in FUSED.items()
        if strength > 0
    ]
    others = [name for name in reports if name.startswith(fused_with(""))]
    words |= {"comparisons": len(others) * (len(PARTS) + 1)}
    for name in others:
        second = in_words(name.removeprefix(fused_with("")))
        words |= {"ours": f"The correction by {second}"}
        lines += [
            claim(reports[name], f"{part}_gain", metric=WORDS.get(part, part), lower_is_better=FUSED[part], **words)
            for part in PARTS
        ]
        rivals = {"ours": "The second model that ships", "theirs": second, "metric": WORDS["high_error"]}
        lines.append(claim(reports[name], "high_error_behind", lower_is_better=True, **words | rivals))
    return lines
