"""Every system on the same rows and in the same units, and what follows from the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from assay.counts.bins import Bins
from assay.metrics.binary import summarise
from assay.metrics.intervals import group_bootstrap_weights, percentile_interval
from assay.metrics.ordinal import ordinal_metrics, regression_metrics

# What each variant is held against: the linear model of its kind.
PEERS = {"spearman": "tfidf_ridge", "macro_f1": "tfidf_logreg"}


@dataclass(frozen=True)
class Answers:
    """What one system says of every row.

    Attributes:
        counts: expected count [n].
        quantile: quantile bin [n].
        width: equal-width bin [n].
    """

    counts: np.ndarray
    quantile: np.ndarray
    width: np.ndarray


def answers(counts: np.ndarray, bins: Mapping[str, Bins], **own: np.ndarray) -> Answers:
    """Counts as answers in every unit; ``quantile`` or ``width`` replace what would follow from the counts."""
    quantile, width = bins["quantile"].assign(counts), bins["equal_width"].assign(counts)
    return Answers(counts, own.get("quantile", quantile), own.get("width", width))


def system_report(
    truth: np.ndarray, groups: np.ndarray, said: Answers, bins: Mapping[str, Bins], *, num_resamples: int, seed: int
) -> dict[str, float]:
    """All metrics with group-bootstrap intervals: of counts, of quantile bins, and ``width_`` those of equal-width bins."""
    how = {"num_resamples": num_resamples, "seed": seed}
    report = summarise(truth, said.counts, groups, metrics=regression_metrics, **how)
    for kind, predicted, prefix in (("quantile", said.quantile, ""), ("equal_width", said.width, "width_")):
        metrics = partial(ordinal_metrics, num_classes=bins[kind].num_bins)
        found = summarise(bins[kind].assign(truth), predicted, groups, metrics=metrics, **how)
        report |= {f"{prefix}{name}": value for name, value in found.items() if not name.startswith("n")}
    return report


def paired_gain(
    ours: Callable[[np.ndarray | None], np.ndarray],
    theirs: Callable[[np.ndarray | None], np.ndarray],
    groups: np.ndarray,
    *,
    num_resamples: int,
    seed: int,
) -> tuple[float, float, float]:
    """Gain of one system over another with its 95 % interval; both are measured on the same resamples of groups.

    ``ours``, ``theirs``: from weights [B, n] (None: ones) to a system's figures [B].
    """
    resamples = group_bootstrap_weights(groups, num_resamples=num_resamples, seed=seed)
    draws = [ours(weights) - theirs(weights) for weights in resamples]
    return float((ours(None) - theirs(None))[0]), *percentile_interval(np.concatenate(draws))


def gains(
    truth: np.ndarray,
    groups: np.ndarray,
    said: Mapping[str, Answers],
    bins: Mapping[str, Bins],
    variant: str,
    *,
    num_resamples: int,
    seed: int,
) -> dict[str, float]:
    """Keys ``spearman_gain`` over TF-IDF + ridge and ``macro_f1_gain`` over TF-IDF + logistic regression, with limits."""
    labels = bins["quantile"].assign(truth)

    def spearman(weights: np.ndarray | None, name: str) -> np.ndarray:
        return regression_metrics(truth, said[name].counts, weights=weights)["spearman"]

    def macro_f1(weights: np.ndarray | None, name: str) -> np.ndarray:
        classes = bins["quantile"].num_bins
        return ordinal_metrics(labels, said[name].quantile, num_classes=classes, weights=weights)["macro_f1"]

    found: dict[str, float] = {}
    for name, figure in (("spearman", spearman), ("macro_f1", macro_f1)):
        peer = PEERS[name]

        ours, theirs = partial(figure, name=variant), partial(figure, name=peer)
        value, low, high = paired_gain(ours, theirs, groups, num_resamples=num_resamples, seed=seed)
        found |= {f"{name}_gain": value, f"{name}_gain_low": low, f"{name}_gain_high": high}
    return found


def choose(val: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """The variant to use for a count (best Spearman on val) and for a bin (best macro-F1 on val)."""
    return {
        "count": max(val, key=lambda name: _known(val[name]["spearman"])),
        "bin": max(val, key=lambda name: _known(val[name]["macro_f1"])),
    }


def _known(value: float) -> float:
    return value if value == value else -np.inf


def conclusion(chosen: Mapping[str, str], reports: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What to use, in words that follow from the figures; the choice was made on val, the figures are those of test."""
    lines = []
    for what, metric, words in (("count", "spearman", "Spearman"), ("bin", "macro_f1", "macro-F1")):
        name, peer = chosen[what], PEERS[metric]
        report, gain = reports[name], f"{metric}_gain"
        low, high = report[f"{gain}_low"], report[f"{gain}_high"]
        verdict = "better than" if low > 0 else "worse than" if high < 0 else "not told apart from"
        lines.append(
            f"For a {what} use {name} (best {words} on val): on test {words} {report[metric]:.3f} "
            f"[{report[f'{metric}_low']:.3f}, {report[f'{metric}_high']:.3f}], {verdict} {peer}'s "
            f"{reports[peer][metric]:.3f} (gain {report[gain]:+.3f} [{low:+.3f}, {high:+.3f}])."
        )
        if high < 0:
            lines.append(f"{peer} costs next to nothing and does better: use that.")
    trap, constant = reports["equal_width"], reports["majority"]
    lines.append(
        f"Equal-width bins: accuracy {trap['width_accuracy']:.3f} looks well, macro-F1 {trap['width_macro_f1']:.3f} does "
        "not; "
        f"always naming the largest bin gives {constant['width_accuracy']:.3f} and {constant['width_macro_f1']:.3f}."
    )
    return lines
