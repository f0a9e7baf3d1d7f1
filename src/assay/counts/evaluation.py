"""Every system on the same rows and in the same units, and what follows from the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from assay.counts.answers import Answers
from assay.counts.bins import Bins
from assay.metrics.binary import Resampled, resample
from assay.metrics.ordinal import ordinal_metrics, regression_metrics
from assay.metrics.paired import gain, gain_text, verdict

# What each variant is held against: the linear model of its kind, and what knows the setting alone.
PEERS = {"spearman": "tfidf_ridge", "macro_f1": "tfidf_logreg"}
SETTING = "setting_mean"


def measure(truth: np.ndarray, groups: np.ndarray, said: Answers, bins: Mapping[str, Bins]) -> Resampled:
    """All metrics, resampled over groups: of counts, of quantile bins, and as ``width_`` of equal-width bins."""
    found = resample(truth, said.counts, groups, metrics=regression_metrics)
    for kind, predicted, prefix in (("quantile", said.quantile, ""), ("equal_width", said.width, "width_")):
        metrics = partial(ordinal_metrics, num_classes=bins[kind].num_bins)
        part = resample(bins[kind].assign(truth), predicted, groups, metrics=metrics)
        found.point.update({f"{prefix}{name}": value for name, value in part.point.items()})
        found.left_out.update({f"{prefix}{name}": values for name, values in part.left_out.items()})
    return found


def gains(measured: Mapping[str, Resampled], variant: str) -> dict[str, float]:
    """What a variant has over others, with limits.

    ``spearman_gain`` is over TF-IDF + ridge, ``macro_f1_gain`` over TF-IDF + logistic regression;
    ``spearman_gain_setting`` and ``macro_f1_gain_setting`` are over the mean count of a row's setting.
    """
    found: dict[str, float] = {}
    for name, peer in PEERS.items():
        found |= gain(measured[variant], measured[peer], name, key=f"{name}_gain")
        found |= gain(measured[variant], measured[SETTING], name, key=f"{name}_gain_setting")
    return found


def choose(val: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """The variant to use for a count (best Spearman on val) and for a bin (best macro-F1 on val)."""
    return {
        "count": max(val, key=lambda name: _known(val[name]["spearman"])),
        "bin": max(val, key=lambda name: _known(val[name]["macro_f1"])),
    }


def _known(value: float | None) -> float:
    """Below all others where a metric is not defined: NaN, or null as JSON holds it."""
    return -np.inf if value is None or value != value else value


def conclusion(chosen: Mapping[str, str], reports: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What to use, in words that follow from the metrics; the choice was made on val, the metrics are those of test."""
    lines = []
    for purpose, metric, words in (("count", "spearman", "Spearman"), ("bin", "macro_f1", "macro-F1")):
        name, peer = chosen[purpose], PEERS[metric]
        report, gain = reports[name], f"{metric}_gain"
        lines.append(
            f"For a {purpose} use {name} (best {words} on val): on test {words} {report[metric]:.3f} "
            f"[{report[f'{metric}_low']:.3f}, {report[f'{metric}_high']:.3f}], {verdict(report, gain)} {peer}'s "
            f"{reports[peer][metric]:.3f} ({gain_text(report, gain)})."
        )
        if report[f"{gain}_high"] < 0:
            lines.append(f"{peer} costs next to nothing and does better: use that.")
        more = report[f"{gain}_setting_low"] > 0
        learned = "so it reads more than" if more else "so it is not shown to read more than"
        lines.append(
            f"  The mean of each setting, blind to the question, has {words} {reports[SETTING][metric]:.3f} "
            f"({gain_text(report, f'{gain}_setting')}), {learned} the setting."
        )
    trap, constant = reports["equal_width"], reports["majority"]
    lines.append(
        f"Equal-width bins: accuracy {trap['width_accuracy']:.3f} looks well, macro-F1 {trap['width_macro_f1']:.3f} does "
        "not; "
        f"always naming the largest bin gives {constant['width_accuracy']:.3f} and {constant['width_macro_f1']:.3f}."
    )
    return lines
