"""vlm_predict: both models on test, calibrated and put together; and what each part of the recipe is worth.

    python -m assay.stages.vlm_predict

Output: models/vlm/fusion.json, data/vlm/b-submit.txt (file name, tab, label; in the order of the input list),
data/vlm/test_predictions.parquet, metrics/vlm.json (keys <system>.<metric>) and plots/vlm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assay.calibration.pooling import fit_pool_temperature
from assay.core.io import atomic_path, read_json, write_csv, write_json, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.metrics.binary import flatten, resample
from assay.metrics.multiclass import confidence_table
from assay.metrics.ordinal import class_confusion
from assay.params.vlm import Vlm
from assay.report.plots import save_confusion_png, save_reliability_png
from assay.report.tables import system_table
from assay.report.vlm_plots import save_losses_png, save_mistakes_png, save_systems_png
from assay.vlm.consistency import dropped_table
from assay.vlm.evaluation import as_rows, conclusion, gains, metrics_for, mistakes, spread
from assay.vlm.examples import Cache
from assay.vlm.fusion import correct, fit_strength
from assay.vlm.messages import read_messages
from assay.vlm.network import RECORD
from assay.vlm.prediction import FUSION, Scorer, blank_copies, calibrated, open_scorers
from assay.vlm.prompts import prompt_from_json

ROWS = Path("data/vlm/rows")
MODELS = Path("models/vlm")
METRICS = Path("metrics/vlm.json")
PLOTS = Path("plots/vlm")
SUBMISSION = Path("data/vlm/b-submit.txt")
PREDICTIONS = Path("data/vlm/test_predictions.parquet")
FITTED, TEST = ("calib", "tune"), "test"
SHOWN = ("accuracy", "f1", "high_recall", "high_precision", "high_error", "nll", "ece")
Records = dict[str, list[dict[str, Any]]]


def score(name: str, scorer: Scorer, records: Records) -> dict[str, np.ndarray]:
    """Log-probabilities of one adapter for each role, and for ``base`` of blank pictures in the place of test's."""
    found = {role: scorer.log_probs(rows, what=f"{name} {role}") for role, rows in records.items()}
    if name == "base":
        with blank_copies(records[TEST], max_pixels=scorer.decode_pixels) as blanks:
            found["blank"] = scorer.log_probs(blanks, what="blank")
    return found


def fuse(
    base: dict[str, np.ndarray], second: dict[str, np.ndarray], truth: dict[str, np.ndarray], *, high: int, limit: float
) -> tuple[dict[str, Any], np.ndarray]:
    """What puts the models together, fitted on tune, and the corrected probabilities of test."""
    neutral = float(second["tune"].mean())
    how: dict[str, Any] = {"high": high, "neutral": neutral}
    strength = fit_strength(base["tune"], second["tune"], truth["tune"], max_strength=limit, **how)
    return how | {"strength": strength}, correct(base[TEST], second[TEST], strength=strength, **how)


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


def main() -> None:
    params = load(Vlm)
    settings, seed = params.vlm_predict, params.runtime.seed
    set_up_torch(threads=params.runtime.threads)
    with timed("vlm_predict"):
        prompts = {name: prompt_from_json(value) for name, value in read_json(ROWS / "prompt.json").items()}
        labels, names = prompts["risk"].labels, prompts["risk"].names
        high = labels.index(params.prepare_vlm.high_risk.label)
        records = {role: read_messages(ROWS / f"{role}.jsonl") for role in (*FITTED, TEST)}
        truth = {role: prompts["risk"].numbers(rows) for role, rows in records.items()}
        table = as_rows(records[TEST])
        systems = sorted(path.parent.name for path in (MODELS / "sft").glob(f"*/{RECORD}"))
        folders = {name: MODELS / "sft" / name for name in systems} | {"high_risk": MODELS / "high_risk"}
        limits: dict[str, Any] = {"decode_pixels": params.render_corridors.max_pixels, "cache": Cache()}
        limits |= {"device": params.runtime.device, "batch_size": settings.batch_size}
        scorers = zip(folders, open_scorers(list(folders.values()), **limits), strict=True)
        raw = {name: score(name, scorer, records) for name, scorer in scorers}
        temperatures = {name: fit_pool_temperature(raw[name]["calib"], truth["calib"]) for name in systems}
        is_high = (truth["calib"] == high).astype(np.int64)
        second_temperature = fit_pool_temperature(raw["high_risk"]["calib"], is_high)
        base = {role: calibrated(values, temperatures["base"]) for role, values in raw["base"].items()}
        second = {role: calibrated(values, second_temperature)[:, 1] for role, values in raw["high_risk"].items()}
        fitted, fused = fuse(base, second, truth, high=high, limit=settings.max_strength)
        fusion = fitted | {"temperature": temperatures["base"], "high_temperature": second_temperature}
        write_json(MODELS / FUSION, fusion)
        shares = np.bincount(truth["calib"], minlength=len(labels)) / len(truth["calib"])
        probs = {"base": base[TEST], "fused": fused, "uncalibrated": np.exp(raw["base"][TEST]), "blank": base["blank"]}
        probs |= {name: calibrated(raw[name][TEST], temperatures[name]) for name in systems if name != "base"}
        probs["majority"] = np.tile(shares, (len(table), 1))
        how: dict[str, Any] = {"num_resamples": settings.num_resamples, "seed": seed, "metrics": metrics_for(high)}
        measured = {
            name: resample(truth[TEST], value, table["group"].to_numpy(), **how) for name, value in probs.items()
        }
        reports = {name: item.summary() for name, item in measured.items()}
        for name, found in gains(measured).items():
            reports[name] |= found
        reports["blank"]["changed"] = float((base["blank"].argmax(axis=1) != base[TEST].argmax(axis=1)).mean())
        runs = [probs[name] for name in ("base", *(name for name in systems if name.startswith("order_")))]
        judged = pd.read_parquet(MODELS / "sft" / "consistency.parquet")
        dropped = dropped_table(judged, names) if len(judged) else pd.DataFrame(columns=["class", "transform", "share"])
        others = {"spread": spread(runs, truth[TEST]), "fusion": fusion}
        others["filter"] = {f"dropped.{row['class']}.{row['transform']}": row["share"] for _, row in dropped.iterrows()}
        write_json(METRICS, flatten(reports | others))
        predicted = fused.argmax(axis=1)
        with atomic_path(SUBMISSION) as temporary:
            lines = [f"{name}\t{labels[number]}\n" for name, number in zip(table["name"], predicted, strict=True)]
            temporary.write_text("".join(lines), encoding="utf-8")
        both = {f"base_{name}": base[TEST][:, number] for number, name in enumerate(names)}
        both |= {f"fused_{name}": fused[:, number] for number, name in enumerate(names)}
        write_parquet(PREDICTIONS, table.assign(predicted=[labels[number] for number in predicted], **both))
        save_plots(table, probs, truth[TEST], names, settings.num_mistakes)
        save_systems_png(PLOTS / "systems.png", reports, title=f"Corridors on test (n = {len(table)})")
        histories = [pd.read_csv(MODELS / part / "history.csv") for part in ("pretrained", "sft", "high_risk")]
        save_losses_png(PLOTS / "training.png", histories, title="Training")
    print(system_table(flatten(reports), list(reports), SHOWN).to_string())
    print("\n".join(conclusion(reports, strength=fitted["strength"])))


if __name__ == "__main__":
    run(main)
