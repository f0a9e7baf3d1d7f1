"""Every system on the same rows and in the same units, and what follows from the metrics."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.counts.answers import Answers
from assay.counts.bins import Bins
from assay.metrics.binary import Resampled, resample
from assay.metrics.claims import claim
from assay.metrics.discrimination import FloatArray
from assay.metrics.ordinal import ordinal_metrics, regression_metrics
from assay.metrics.paired import gain
from assay.report.tables import interval_text

# What is asked for, the metric that a choice for it rests on, and its name.
PURPOSES = {"count": ("spearman", "Spearman"), "bin": ("macro_f1", "macro-F1")}
# What a network has to beat. Which of them it is held against is chosen on val.
SIMPLE = ("setting_mean", "tfidf_ridge", "tfidf_logreg", "majority", "median")
SETTING = "setting_mean"
# Equal-width bins: a variant that learns them, and the constant that names the largest.
TRAP, CONSTANT = "equal_width", "majority"
TRAP_METRICS = {"width_accuracy": "accuracy on equal-width bins", "width_macro_f1": "macro-F1 on equal-width bins"}


def count_metrics(
    truth: npt.ArrayLike, said: npt.ArrayLike, *, weights: npt.ArrayLike | None = None, bins: Mapping[str, Bins]
) -> dict[str, FloatArray]:
    """All metrics of counts, of quantile bins, and as ``width_`` of equal-width bins.

    Args:
        truth: counts [n].
        said: columns count, quantile bin, equal-width bin [n, 3].
        weights: see `discrimination`.
    """
    counts, quantile, width = np.asarray(said).T
    found = regression_metrics(truth, counts, weights=weights)
    for kind, predicted, prefix in (("quantile", quantile, ""), ("equal_width", width, "width_")):
        options: dict[str, Any] = {"num_classes": bins[kind].num_bins, "weights": weights}
        part = ordinal_metrics(bins[kind].assign(truth), predicted.astype(np.int64), **options)
        found |= {f"{prefix}{name}": values for name, values in part.items()}
    return found


def measure(truth: np.ndarray, groups: np.ndarray, said: Answers, bins: Mapping[str, Bins]) -> Resampled:
    """`count_metrics` with what intervals need."""
    columns = np.column_stack([said.counts, said.quantile, said.width])
    return resample(truth, columns, groups, metrics=partial(count_metrics, bins=bins))


def on_val(truth: np.ndarray, said: Mapping[str, Answers], bins: Mapping[str, Bins]) -> dict[str, dict[str, float]]:
    """What choices rest on, of each system: Spearman and macro-F1 on val, from its counts and bins."""
    found = {}
    for name, item in said.items():
        report = count_metrics(truth, np.column_stack([item.counts, item.quantile, item.width]), bins=bins)
        found[name] = {metric: float(report[metric][0]) for metric, _ in PURPOSES.values()}
    return found


def choose(val: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """The variant to use for a count (best Spearman on val) and for a bin (best macro-F1 on val)."""
    return _best(val, [name for name in val if name not in SIMPLE])


def peers(val: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """The simple system that a variant is held against, chosen as the variant is: by the same metric, on val."""
    return _best(val, SIMPLE)


def _best(val: Mapping[str, Mapping[str, float]], names: Collection[str]) -> dict[str, str]:
    return {
        purpose: max(names, key=lambda name: _known(val[name][metric])) for purpose, (metric, _) in PURPOSES.items()
    }


def _known(value: float | None) -> float:
    """Below all others where a metric is not defined: NaN, or null as JSON holds it."""
    return -np.inf if value is None or value != value else value


def gains(measured: Mapping[str, Resampled], variant: str, peer: Mapping[str, str]) -> dict[str, float]:
    """What a variant has over others, with limits.

    ``spearman_gain`` and ``macro_f1_gain`` are over ``peer``, see `peers`; with ``_setting`` at the end over the mean count
    of a row's setting. Of the variant on equal-width bins also ``width_accuracy_gain`` and ``width_macro_f1_gain``, over
    the constant that names the largest.
    """
    found: dict[str, float] = {}
    for purpose, (metric, _) in PURPOSES.items():
        found |= gain(measured[variant], measured[peer[purpose]], metric, key=f"{metric}_gain")
        found |= gain(measured[variant], measured[SETTING], metric, key=f"{metric}_gain_setting")
    if variant == TRAP:
        for metric in TRAP_METRICS:
            found |= gain(measured[TRAP], measured[CONSTANT], metric, key=f"{metric}_gain")
    return found


def conclusion(
    chosen: Mapping[str, str], peer: Mapping[str, str], reports: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """What was chosen on val, and what it comes to on test, in sentences from figures."""
    lines = []
    for purpose, (metric, words) in PURPOSES.items():
        name, other = chosen[purpose], peer[purpose]
        report, key = reports[name], f"{metric}_gain"
        lines.append(
            f"For a {purpose}, {name} has the best {words} of the variants on val, {other} that of the simple systems; on "
            f"test {interval_text(report, metric)} and {interval_text(reports[other], metric)}."
        )
        rivals = {key: other} | ({} if other == SETTING else {f"{key}_setting": SETTING})
        lines += [
            claim(report, end, ours=name, theirs=rival, metric=words, one_training=True)
            for end, rival in rivals.items()
        ]
    trap = reports[TRAP]
    lines += [
        claim(trap, f"{metric}_gain", ours=TRAP, theirs=CONSTANT, metric=words, one_training=True)
        for metric, words in TRAP_METRICS.items()
    ]
    return lines
