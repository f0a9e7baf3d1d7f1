"""Every system on the same rows and in the same units, and what follows from the metrics."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.counts.answers import Answers
from assay.counts.bins import Bins
from assay.counts.queueing import FIRST_COME, ORACLE, percent
from assay.metrics.binary import Resampled, resample
from assay.metrics.claims import claim
from assay.metrics.discrimination import FloatArray
from assay.metrics.ordinal import ordinal_metrics, regression_metrics
from assay.metrics.paired import gain, gains_together
from assay.report.tables import interval_text

# What is asked for, the metric that a choice for it rests on, and its name.
PURPOSES = {"count": ("spearman", "Spearman"), "bin": ("macro_f1", "macro-F1")}
# What a network has to beat. Which of them it is held against is chosen on val.
SIMPLE = ("setting_mean", "tfidf_ridge", "tfidf_logreg", "encoder_ridge", "majority", "median")
SETTING, LINEAR = "setting_mean", ("tfidf_ridge", "tfidf_logreg", "encoder_ridge")
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
    """The simple system that a variant is held against, chosen as the variant is: by the same metric, on val.

    Under ``linear`` the best linear model for a count.
    """
    return _best(val, SIMPLE) | {"linear": _best(val, LINEAR)["count"]}


def rivals_of(peer: Mapping[str, str]) -> dict[str, str]:
    """End of a gain's name -> what a variant is held against for a count."""
    return {"": peer["count"], "_setting": SETTING, "_linear": peer["linear"]}


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
    of a row's setting, ``spearman_gain_linear`` over the best linear model. Of the variant on equal-width bins also
    ``width_accuracy_gain`` and ``width_macro_f1_gain``, over the constant that names the largest.
    """
    found: dict[str, float] = {}
    for purpose, (metric, _) in PURPOSES.items():
        found |= gain(measured[variant], measured[peer[purpose]], metric, key=f"{metric}_gain")
        found |= gain(measured[variant], measured[SETTING], metric, key=f"{metric}_gain_setting")
    found |= gain(measured[variant], measured[peer["linear"]], "spearman", key="spearman_gain_linear")
    if variant == TRAP:
        for metric in TRAP_METRICS:
            found |= gain(measured[TRAP], measured[CONSTANT], metric, key=f"{metric}_gain")
    return found


def queue_gains(
    waits: Mapping[str, Resampled], variant: str, peer: Mapping[str, str], *, loads: Sequence[float]
) -> dict[str, float]:
    """``oracle_share_<percent>_gain`` over the rivals of `rivals_of`, and ``_half``: over half of what the oracle saves.

    The intervals of one rival hold for all loads together.
    """
    found: dict[str, float] = {}
    shares = [f"oracle_share_{percent(load)}" for load in loads]
    for end, rival in rivals_of(peer).items():
        found |= gains_together({f"{name}_gain{end}": (waits[variant], waits[rival], name) for name in shares})
    ours = waits[variant]
    half = replace(
        ours,
        point=dict.fromkeys(shares, 0.5),
        left_out={name: np.full(ours.left_out[name].shape, 0.5) for name in shares},
    )
    return found | gains_together({f"{name}_half": (ours, half, name) for name in shares})


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
        if purpose == "count" and peer["linear"] != other:
            rivals |= {f"{key}_linear": peer["linear"]}
        lines += [
            claim(report, end, ours=name, theirs=rival, metric=words, one_training=True)
            for end, rival in rivals.items()
        ]
    trap = reports[TRAP]
    lines += [
        claim(trap, f"{metric}_gain", ours=TRAP, theirs=CONSTANT, metric=words, one_training=True)
        for metric, words in TRAP_METRICS.items()
    ]
    return [*lines, *of_queue(chosen["count"], peer, reports), *of_intervals(chosen["count"], reports)]


def of_queue(name: str, peer: Mapping[str, str], reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the variant ``name`` is worth in a queue, in sentences from figures."""
    report, first, best = reports[name], reports[FIRST_COME], reports[ORACLE]
    loads = {end.removeprefix("load_"): value for end, value in reports["queue"].items() if end.startswith("load_")}
    lines = []
    together: dict[str, Any] = {"comparisons": len(loads), "one_training": True}
    for end, load in loads.items():
        wait, share = f"wait_{end}", f"oracle_share_{end}"
        lines.append(
            f"Mean wait for a server with load {load:g}: {interval_text(report, wait)} if the question goes first that "
            f"{name} predicts to be the shortest, {interval_text(first, wait)} first come, first served, "
            f"{interval_text(best, wait)} by the true counts; {name} saves {interval_text(report, share)} of what "
            "these save."
        )
        half = {"ours": name, "theirs": "half of what the true counts save", "metric": f"mean wait at load {load:g}"}
        lines.append(claim(report, f"{share}_half", **half, **together))
    end, load = max(loads.items(), key=lambda item: item[1])
    seen = {name}
    for key, rival in rivals_of(peer).items():
        if rival not in seen:
            words = {"ours": name, "theirs": rival, "metric": f"share of what the true counts save at load {load:g}"}
            lines.append(claim(report, f"oracle_share_{end}_gain{key}", **words, **together))
        seen.add(rival)
    mean, tail = f"aged_wait_{end}", f"aged_p99_{end}"
    lines.append(
        f"With ageing, so that none waits for ever, simulated at load {load:g}: mean wait {interval_text(report, mean)} by "
        f"{name}, {interval_text(first, mean)} first come; of a hundred one waits longer than "
        f"{interval_text(report, tail)} and {interval_text(first, tail)}."
    )
    return lines


def of_intervals(name: str, reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the intervals of the variant ``name`` hold, in sentences from figures."""
    report, learned = reports[name], reports["intervals"]
    parts = {part.rpartition(".")[2]: item for part, item in reports.items() if part.startswith("intervals.")}
    kinds = [item["coverage"] for part, item in parts.items() if part.startswith("kind_")]
    spread = (
        f", of the kinds of setting from {min(kinds):.3f} to {max(kinds):.3f}" if kinds and None not in kinds else ""
    )
    line = (
        f"Intervals that are to hold {learned['level']:.0%} of the counts, learned on {learned['num_groups']:.0f} problems "
        f"of calib: on test those of {name} hold {interval_text(report, 'coverage')}{spread}; they are "
        f"{interval_text(report, 'interval_width')} counts wide, around the median of train "
        f"{interval_text(reports['median'], 'interval_width')}."
    )
    words = {"ours": name, "theirs": SETTING, "metric": "width of the intervals"}
    return [line, claim(report, "interval_width_gain_setting", **words, lower_is_better=True, one_training=True)]
