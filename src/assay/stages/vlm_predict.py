"""vlm_predict: both models on test, calibrated and put together, from their scores; and what each part is worth.

    python -m assay.stages.vlm_predict

Output: models/vlm/fusion.json, models/vlm/SHA256SUMS (of it and of every adapter), data/vlm/b-submit.txt (file name, tab,
label; in the order of the input list), data/vlm/test_predictions.parquet, metrics/vlm.json (keys <system>.<metric>) and
plots/vlm.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from assay.calibration.temperature import scaling_metrics, temperature_interval
from assay.core.io import atomic_path, read_json, write_csv, write_json, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.metrics.binary import flatten
from assay.metrics.multiclass import confidence_table
from assay.metrics.ordinal import class_confusion
from assay.params.vlm import Vlm
from assay.report.plots import save_confusion_png, save_reliability_png
from assay.report.tables import system_table
from assay.report.vlm_plots import save_losses_png, save_marks_png, save_mistakes_png, save_systems_png
from assay.shipped.sums import write_sums
from assay.vlm.consistency import dropped_table
from assay.vlm.evaluation import conclusion, evaluate, mistakes, spread, system_probs
from assay.vlm.fusion import FUSION, choose_second, fit_fusion
from assay.vlm.prompts import Prompt, prompt_from_json
from assay.vlm.scores import KEYS, SECOND, raw_scores, with_pool

ROWS = Path("data/vlm/rows")
MODELS = Path("models/vlm")
METRICS = Path("metrics/vlm.json")
PLOTS = Path("plots/vlm")
SUBMISSION = Path("data/vlm/b-submit.txt")
PREDICTIONS = Path("data/vlm/test_predictions.parquet")
SCORES = Path("data/vlm")
MARKS = Path("data/vlm/marks.parquet")
CONSISTENCY = Path("data/vlm/filtered/consistency.parquet")
# The base of the adapters is vouched for by their manifests.
SHIPPED = (FUSION, "sft/*/*", "high_risk/*/*")
ROLES = ("calib", "tune", "test")
SHOWN = ("accuracy", "f1", "high_recall", "high_precision", "high_error", "nll", "ece")


def save_plots(
    table: pd.DataFrame, probs: dict[str, np.ndarray], truth: np.ndarray, names: tuple[str, ...], limit: int
) -> None:
    """Confusion and reliability of both stages, and the worst mistakes."""
    for name in ("base", "fused"):
        predicted = probs[name].argmax(axis=1)
        matrix = class_confusion(truth, predicted, num_classes=len(names))
        title = f"Corridors on test, {name} (n = {len(truth)})"
        save_confusion_png(PLOTS / f"confusion_{name}.png", matrix, class_names=names, title=title)
    shown = np.array(names)
    write_csv(
        PLOTS / "confusion.csv",
        pd.DataFrame({"true": shown[truth], "predicted": shown[probs["fused"].argmax(axis=1)]}),
    )
    tables = {name: confidence_table(truth, probs[name]) for name in ("uncalibrated", "base", "fused")}
    save_reliability_png(PLOTS / "reliability.png", tables, title="Confidence in the predicted class: is it right?")
    worst = mistakes(table, probs["fused"], truth, names).head(limit)
    save_mistakes_png(PLOTS / "mistakes.png", worst, title="Worst mistakes on test")


def save_marks(second: str) -> None:
    """What the gate of the second model that corrects amplifies, or of the last one that has a gate."""
    marks = pd.read_parquet(MARKS)
    gated = list(dict.fromkeys(marks["network"]))
    shown = second if second in gated else (gated or [second])[-1]
    title = f"What the second model {shown} amplifies"
    save_marks_png(PLOTS / "amplified.png", marks[marks["network"] == shown], title=title)


def write_predictions(table: pd.DataFrame, probs: dict[str, np.ndarray], prompt: Prompt) -> None:
    """The submission (file name, tab, label) and the probabilities of both stages."""
    predicted = [prompt.labels[number] for number in probs["fused"].argmax(axis=1)]
    with atomic_path(SUBMISSION) as temporary:
        lines = [f"{name}\t{label}\n" for name, label in zip(table["name"], predicted, strict=True)]
        temporary.write_text("".join(lines), encoding="utf-8")
    both = {
        f"{system}_{name}": probs[system][:, number]
        for system in ("base", "fused")
        for number, name in enumerate(prompt.names)
    }
    write_parquet(PREDICTIONS, table.assign(predicted=predicted, **both))


def filter_shares(names: Sequence[str]) -> dict[str, float]:
    """What the consistency filter took out: ``dropped.<class>.<transform>`` -> share."""
    judged = pd.read_parquet(CONSISTENCY)
    rows = dropped_table(judged, names).to_dict("records") if len(judged) else []
    return {f"dropped.{row['class']}.{row['transform']}": row["share"] for row in rows}


def main() -> None:
    params = load(Vlm)
    settings = params.vlm_predict
    with timed("vlm_predict"):
        prompt = prompt_from_json(read_json(ROWS / "prompt.json")["risk"])
        high = prompt.labels.index(params.prepare_vlm.high_risk.label)
        tables = {role: pd.read_parquet(SCORES / f"scores_{role}.parquet") for role in ROLES}
        raw = {role: with_pool(raw_scores(table)) for role, table in tables.items()}
        truth = {role: prompt.numbers([{"label": label} for label in table["label"]]) for role, table in tables.items()}
        systems = [name for name in raw["calib"] if not name.startswith(SECOND)]
        calib_groups = tables["calib"]["group"].to_numpy()
        scalings, fusions = fit_fusion(
            raw["calib"],
            raw["tune"],
            truth,
            calib_groups,
            systems=systems,
            seconds=[name.removeprefix(SECOND) for name in raw["calib"] if name.startswith(SECOND)],
            high=high,
            max_strength=settings.max_strength,
            scaling=settings.scaling,
        )
        second = choose_second(raw["tune"], truth["tune"], scalings, fusions, choice=settings.second)
        fusion = fusions[second]
        write_json(MODELS / FUSION, fusion)
        write_sums(MODELS, SHIPPED)
        shares = np.bincount(truth["calib"], minlength=len(prompt.labels)) / len(truth["calib"])
        probs = system_probs(raw["test"], scalings, fusions, shares, second=second)
        table, labels = tables["test"][KEYS], truth["test"]
        groups = table["group"].to_numpy()
        reports = evaluate(probs, labels, groups, high=high, seed=params.runtime.seed)
        runs = [probs[name] for name in ("base", *(name for name in systems if name.startswith("order_")))]
        fitted = scaling_metrics(fusion, raw["calib"]["base"], truth["calib"], calib_groups)
        is_high = (truth["calib"] == high).astype(np.int64)
        limits = temperature_interval(raw["calib"][f"{SECOND}{second}"], is_high, calib_groups)
        fitted |= {f"high_{name}": value for name, value in limits.items()}
        fitted |= {f"strength.{name}": float(other["strength"]) for name, other in fusions.items()}
        others = {"spread": spread(runs, labels), "fusion": fitted, "filter": filter_shares(prompt.names)}
        write_json(METRICS, flatten(reports | others))
        write_predictions(table, probs, prompt)
        save_plots(table, probs, labels, prompt.names, settings.num_mistakes)
        save_systems_png(PLOTS / "systems.png", reports, title=f"Corridors on test (n = {len(table)})")
        networks = pd.concat([pd.read_csv(MODELS / "sft" / name / "history.csv") for name in params.vlm_networks])
        seconds = pd.concat(
            [pd.read_csv(MODELS / SECOND / name / "history.csv") for name in params.vlm_high_risk_networks]
        )
        histories = [pd.read_csv(MODELS / "pretrained" / "history.csv"), networks, seconds]
        save_marks(second)
        save_losses_png(PLOTS / "training.png", histories, title="Training")
    print(system_table(flatten(reports), list(reports), SHOWN).to_string())
    print("\n".join(conclusion(reports, strength=fusion["strength"])))


if __name__ == "__main__":
    run(main)
