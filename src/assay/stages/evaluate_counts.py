"""evaluate_counts: every variant and the baselines on the same test rows, and which one to use, from their scores.

    python -m assay.stages.evaluate_counts

Output: metrics/counts.json (keys <system>.<metric>), plots/counts, models/counts/choice.json (read by `assay counts`),
models/counts/SHA256SUMS (of it and of every variant) and data/counts/test_predictions.parquet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assay.core.io import read_json, write_csv, write_json, write_parquet
from assay.core.stage import run, timed
from assay.counts.answers import Answers, answers_of
from assay.counts.bins import Bins, bins_from_json
from assay.counts.evaluation import choose, conclusion, gains, measure, on_val, peers
from assay.metrics.binary import flatten
from assay.metrics.ordinal import class_confusion
from assay.params.counts import VARIANTS
from assay.report.counts_plots import save_confusions_png, save_curves_png, save_predicted_png
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
)


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


def main() -> None:
    with timed("evaluate_counts"):
        val, test = (pd.read_parquet(SCORES / f"scores_{role}.parquet") for role in ("val", "test"))
        bins = {kind: bins_from_json(record) for kind, record in read_json(BINS).items()}
        truth, groups, said = test["counts"].to_numpy(), test["group"].to_numpy(), answers_of(test)
        chosen_on = on_val(val["counts"].to_numpy(), answers_of(val), bins)
        chosen, peer = choose(chosen_on), peers(chosen_on)
        measured = {name: measure(truth, groups, item, bins) for name, item in said.items()}
        reports = {name: item.summary() for name, item in measured.items()}
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
        write_sums(MODELS, ["choice.json", *(f"{name}/*" for name in VARIANTS)])
        columns = {name: item.counts for name, item in said.items()}
        write_parquet(PREDICTIONS, test[["sample_id", "counts", "group"]].assign(**columns))
        save_plots(truth, said, bins)
    for names in TABLES:
        print(system_table(flatten(reports), list(reports), names).to_string())
    print("\n".join(conclusion(chosen, peer, reports)))


if __name__ == "__main__":
    run(main)
