"""evaluate_counts: every variant and the baselines on the same test rows, and which one to use, from their scores.

    python -m assay.stages.evaluate_counts

Output: metrics/counts.json (keys <system>.<metric>), plots/counts, models/counts/choice.json and intervals.json (read by
`assay counts`), models/counts/SHA256SUMS (of both and of every variant) and data/counts/test_predictions.parquet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assay.core.io import read_json, write_csv, write_json, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.counts.answers import Answers, answers_of
from assay.counts.bins import Bins, bins_from_json
from assay.counts.coverage import Judged, coverage_by_part, judge_intervals
from assay.counts.evaluation import (
    SETTING,
    choose,
    conclusion,
    gains,
    measure,
    on_val,
    peers,
    queue_gains,
    rivals_of,
)
from assay.counts.queueing import (
    FIRST_COME,
    ORACLE,
    mean_waits,
    measure_waits,
    percent,
    simulate_systems,
    with_limits,
)
from assay.metrics.binary import flatten
from assay.metrics.ordinal import class_confusion
from assay.metrics.paired import gain
from assay.params.counts import VARIANTS, Counts
from assay.report.counts_plots import (
    save_confusions_png,
    save_coverage_png,
    save_curves_png,
    save_predicted_png,
    save_queue_png,
)
from assay.report.tables import system_table
from assay.shipped.sums import write_sums

SCORES = Path("data/counts")
BINS = Path("data/counts/rows/bins.json")
MODELS = Path("models/counts")
METRICS = Path("metrics/counts.json")
PLOTS = Path("plots/counts")
PREDICTIONS = Path("data/counts/test_predictions.parquet")
TABLES = (
    ("mse", "rmse", "mae", "r2", "spearman", "kendall"),
    ("accuracy", "macro_f1", "quadratic_kappa", "within_one"),
    ("width_accuracy", "width_macro_f1"),
    ("coverage", "interval_width"),
)
LOADS = tuple(np.arange(1, 20) / 20)  # that the plot shows


def save_plots(truth: np.ndarray, said: dict[str, Answers], bins: dict[str, Bins]) -> None:
    """Confusions of the classifiers (as plot data too), predictions against truth, training curves."""
    matrices, labels = {}, {}
    for name in ("equal_width", "quantile", "staged", "ordinal", "llm_lora", "tfidf_logreg"):
        own = bins["equal_width" if name == "equal_width" else "quantile"]
        predicted = said[name].width if name == "equal_width" else said[name].quantile
        actual = own.assign(truth)
        ranges = [own.whole_range(number) for number in range(own.num_bins)]
        labels[name] = [f"{low}-{high}" for low, high in ranges]
        matrices[name] = class_confusion(actual, predicted, num_classes=own.num_bins)
        true, guess = np.array(labels[name])[actual], np.array(labels[name])[predicted]
        write_csv(PLOTS / "confusion" / f"{name}.csv", pd.DataFrame({"true": true, "predicted": guess}))
    save_confusions_png(PLOTS / "confusion.png", matrices, labels, title=f"Bins on test (n = {len(truth)})")
    shown = {name: item.counts for name, item in said.items() if name not in ("majority", "median")}
    save_predicted_png(PLOTS / "predicted.png", truth, shown, title=f"Counts on test (n = {len(truth)})")
    histories = {name: pd.read_csv(MODELS / name / "history.csv") for name in VARIANTS}
    last = {name: frame[frame["phase"] == "all"] for name, frame in histories.items()}
    curves = {name: (list(frame["step"]), list(frame["loss"])) for name, frame in last.items()}
    save_curves_png(PLOTS / "training.png", curves, title="Training loss")


def worth(
    test: pd.DataFrame, judged: dict[str, Judged], chosen: str, peer: dict[str, str], params: Counts
) -> dict[str, dict[str, float]]:
    """What every system's predictions are worth in a queue, and their intervals: system -> metrics with limits."""
    truth, groups, said = test["counts"].to_numpy(dtype=float), test["group"].to_numpy(), answers_of(test)
    queue, keys = params.evaluate_counts.queue, {name: item.counts for name, item in said.items()}
    waits = measure_waits(truth, keys, groups, loads=queue.loads)
    rivals = rivals_of(peer)
    aged = simulate_systems(truth, keys, groups, queue, resampled=[chosen, *rivals.values()], seed=params.runtime.seed)
    sizes = {"n": len(truth), "n_groups": len(set(groups.tolist()))}
    reports = {name: sizes | with_limits(waits[name]) | with_limits(aged[name]) for name in waits}
    for name, item in judged.items():
        reports[name] |= item.measured.summary()
    for name in VARIANTS:
        reports[name] |= queue_gains(waits, name, peer, loads=queue.loads)
        for end, rival in rivals.items():
            ours, theirs = judged[name].measured, judged[rival].measured
            reports[name] |= gain(ours, theirs, "interval_width", key=f"interval_width_gain{end}")
    edges = np.quantile(said[chosen].counts, [1 / 3, 2 / 3])
    parts = coverage_by_part(test, said[chosen].counts, judged[chosen], edges=edges)
    reports |= {f"intervals.{part}": report for part, report in parts.items()}
    learned = judged[chosen].intervals
    reports["intervals"] = {"level": learned.level, "num_groups": learned.num_groups}
    reports["queue"] = {f"load_{percent(load)}": load for load in queue.loads}
    return reports


def save_worth_plots(test: pd.DataFrame, shown: list[str], reports: dict[str, dict[str, float]]) -> None:
    """Waits against load, and how many counts the intervals hold."""
    truth, said = test["counts"].to_numpy(dtype=float), answers_of(test)
    keys = {name: said[name].counts for name in shown} | {FIRST_COME: np.zeros(len(truth)), ORACLE: truth}
    waits = {name: list(mean_waits(truth, values, loads=LOADS).values()) for name, values in keys.items()}
    curves = {name: np.concatenate(values) for name, values in waits.items()}
    loads = {end.removeprefix("load_"): load for end, load in reports["queue"].items()}
    tails = {name: {load: reports[name][f"aged_p99_{end}"] for end, load in loads.items()} for name in curves}
    title = f"One server, the shortest prediction first (n = {len(truth)})"
    save_queue_png(PLOTS / "queue.png", LOADS, curves, tails, title=title)
    parts = {name: report for name, report in reports.items() if name.startswith("intervals.")}
    save_coverage_png(PLOTS / "intervals.png", parts, level=reports["intervals"]["level"], title="Intervals on test")


def main() -> None:
    params = load(Counts)
    with timed("evaluate_counts"):
        val, calib, test = (pd.read_parquet(SCORES / f"scores_{role}.parquet") for role in ("val", "calib", "test"))
        bins = {kind: bins_from_json(record) for kind, record in read_json(BINS).items()}
        truth, groups, said = test["counts"].to_numpy(), test["group"].to_numpy(), answers_of(test)
        chosen_on = on_val(val["counts"].to_numpy(), answers_of(val), bins)
        chosen, peer = choose(chosen_on), peers(chosen_on)
        measured = {name: measure(truth, groups, item, bins) for name, item in said.items()}
        judged = judge_intervals(calib, test, level=params.evaluate_counts.interval_level)
        reports = worth(test, judged, chosen["count"], peer, params)
        for name, item in measured.items():
            reports[name] |= item.summary()
        for name in VARIANTS:
            reports[name] |= gains(measured, name, peer)
        metrics: dict[str, Any] = flatten(reports) | flatten(
            {f"val.{name}": report for name, report in chosen_on.items()}
        )
        metrics |= {"test.clipped": bins["quantile"].num_outside(truth)}
        for word, told in (("choice", chosen), ("peer", peer)):
            metrics |= {f"{word}.{purpose}": name for purpose, name in told.items()}
        write_json(METRICS, metrics)
        write_json(MODELS / "choice.json", chosen)
        learned = {name: judged[name].intervals.to_json() for name in VARIANTS}
        write_json(MODELS / "intervals.json", {"variants": learned})
        write_sums(MODELS, ["choice.json", "intervals.json", *(f"{name}/*" for name in VARIANTS)])
        columns = {name: item.counts for name, item in said.items()}
        columns |= {f"{name}.{end}": getattr(judged[name], end) for name in VARIANTS for end in ("low", "high")}
        write_parquet(PREDICTIONS, test[["sample_id", "counts", "group"]].assign(**columns))
        save_plots(truth, said, bins)
        save_worth_plots(test, list(dict.fromkeys([chosen["count"], *peer.values(), SETTING])), reports)
    waits = [
        name
        for name in reports[FIRST_COME]
        if name.startswith(("wait_", "aged_")) and not name.endswith(("_low", "_high"))
    ]
    for names in (*TABLES, waits):
        print(system_table(flatten(reports), [*said, FIRST_COME, ORACLE], names).to_string())
    print("\n".join(conclusion(chosen, peer, reports)))


if __name__ == "__main__":
    run(main)
