"""evaluate_text: the classifier that ships, its parts and the baselines on the same test rows, from their scores.

    python -m assay.stages.evaluate_text

Output: metrics/text.json (keys <system>.<metric>), plots/text and data/text/mistakes.csv (the most confident mistakes).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from assay.calibration.temperature import scaling_metrics
from assay.core.io import read_json, write_csv, write_json
from assay.core.params import load
from assay.core.stage import run, timed
from assay.metrics.binary import Resampled, flatten, resample
from assay.metrics.multiclass import confidence_table, confidence_test, multiclass_metrics
from assay.metrics.ordinal import class_confusion
from assay.metrics.paired import gain
from assay.params.text import Text
from assay.report.plots import save_confusion_png, save_reliability_png
from assay.report.tables import system_table
from assay.report.text_plots import save_fine_tuning_png, save_lengths_png
from assay.text.evaluation import RIVALS, by_length, conclusion, mistakes, system_probs

SCORES = Path("data/text/scores_test.parquet")
ENCODER = Path("models/text/encoder")
CLASSIFIER = Path("models/text/classifier")
METRICS = Path("metrics/text.json")
PLOTS = Path("plots/text")
MISTAKES = Path("data/text/mistakes.csv")
SHOWN = ("accuracy", "f1", "precision", "recall", "auc", "nll", "ece")


def gains(measured: dict[str, Resampled]) -> dict[str, dict[str, float]]:
    """Accuracy of a system less that of another, as `RIVALS` has them, where both were measured."""
    found: dict[str, dict[str, float]] = {}
    for system, other, key in RIVALS:
        if {system, other} <= set(measured):
            found.setdefault(system, {}).update(gain(measured[system], measured[other], "accuracy", key=key))
    return found


def save_plots(truth: np.ndarray, probs: dict[str, np.ndarray], lengths: pd.DataFrame, classes: list[str]) -> None:
    """Confusion, reliability before and after the temperature, accuracy by length, fine-tuning curves."""
    predicted = probs["test"].argmax(axis=1)
    names = np.array(classes)
    write_csv(PLOTS / "confusion.csv", pd.DataFrame({"true": names[truth], "predicted": names[predicted]}))
    matrix = class_confusion(truth, predicted, num_classes=len(classes))
    save_confusion_png(PLOTS / "confusion.png", matrix, class_names=classes, title=f"Text, test (n = {len(truth)})")
    systems = {"before": "uncalibrated", "after": "test"}
    tables = {f"{name} temperature": confidence_table(truth, probs[system]) for name, system in systems.items()}
    save_reliability_png(PLOTS / "reliability.png", tables, title="Confidence in the predicted class: is it right?")
    write_csv(PLOTS / "length.csv", lengths)
    overall = float((predicted == truth).mean())
    save_lengths_png(PLOTS / "length.png", lengths, overall=overall, title=f"Accuracy by length (n = {len(truth)})")
    history = pd.read_csv(CLASSIFIER / "history.csv")
    judged = history.dropna(subset="eval_loss")[["network", "epoch", "eval_loss", "eval_accuracy"]]
    write_csv(PLOTS / "training.csv", judged)
    save_fine_tuning_png(PLOTS / "training.png", history, title="Fine-tuning")


def main() -> None:
    params = load(Text)
    settings = params.evaluate_text
    with timed("evaluate_text"):
        test, record = pd.read_parquet(SCORES), read_json(CLASSIFIER / "ensemble.json")
        classes = record["classes"]
        probs = system_probs(test, classes)
        truth, groups = test["label"].to_numpy(), test["group"].to_numpy()
        metrics = multiclass_metrics
        measured = {name: resample(truth, values, groups, metrics=metrics) for name, values in probs.items()}
        reports = {name: item.summary() for name, item in measured.items()}
        for name, found in gains(measured).items():
            reports[name] |= found
        for name, report in reports.items():
            report["ece_p_value"] = confidence_test(truth, probs[name], groups, seed=params.runtime.seed).p_value
        lengths = by_length(test, probs["test"], edges=settings.length_edges, metrics=metrics)
        calib = pd.read_parquet(CLASSIFIER / "calib.parquet")
        fitted = {name: record[name] for name in ("scaling", "temperature", "vector_gain", "vector_gain_error")}
        calib_truth, calib_groups = calib["label"].to_numpy(), calib["group"].to_numpy()
        others = {"pretraining": read_json(ENCODER / "pretraining.json")}
        others["calibration"] = scaling_metrics(fitted, calib[classes].to_numpy(), calib_truth, calib_groups)
        write_json(METRICS, flatten(reports | others))
        write_csv(MISTAKES, mistakes(test, probs["test"], classes, limit=settings.num_mistakes))
        save_plots(truth, probs, lengths, classes)
    print(system_table(flatten(reports), list(reports), SHOWN).to_string())
    print(lengths.round(3).to_string(index=False))
    print("\n".join(conclusion(reports)))


if __name__ == "__main__":
    run(main)
