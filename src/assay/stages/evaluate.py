"""evaluate: stage 1 on the test role, from its scores.

    python -m assay.stages.evaluate

Output: metrics/stage1.json, plots/stage1 (data files for dvc plots, and PNG) and data/stage1/test_predictions.parquet.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from assay.calibration.temperature import apply_temperature
from assay.core.io import read_json, write_json, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.images.evaluation import conclusion, evaluate, robustness_table, unlike_reports
from assay.images.evaluation_plots import save_all
from assay.images.exits import exit_table
from assay.images.manifest import read_manifest
from assay.metrics.binary import flatten
from assay.params.images import Images
from assay.report.tables import system_table

DATA = Path("data/processed")
SCORES = Path("data/stage1")
CALIBRATION = Path("models/stage1/calibration_temp.json")
METRICS = Path("metrics/stage1.json")
PLOTS = Path("plots/stage1")
COLUMNS = ("auc", "balanced_accuracy", "f1", "tpr_at_fpr_5", "nll", "ece_width")
CELL = ("jpeg_quality", "resize", "blur_sigma")


def main() -> None:
    params = load(Images)
    settings = params.evaluate
    with timed("evaluate"):
        test, tune = (pd.read_parquet(SCORES / f"scores_{role}.parquet") for role in ("test", "tune"))
        extra = {
            name: pd.read_parquet(SCORES / "test_extra" / f"{name}.parquet")
            for name in ("baselines", "robustness", "external", "external_audit", "drawings", "filters")
        }
        calibration = read_json(CALIBRATION)
        temperature = float(calibration["temperature"])
        reports, slices = evaluate(
            test,
            extra["baselines"],
            extra["external"],
            extra["filters"],
            calibration=calibration,
            seen_families=set(read_manifest(DATA, "train")["generator"]),
            num_bins=settings.num_bins,
            seed=params.runtime.seed,
        )
        unlike = unlike_reports(
            test,
            extra["drawings"],
            extra["external"],
            threshold=float(calibration["unlike_distance"]),
            slices=slices,
        )
        for row in extra["external_audit"].to_dict("records"):
            reports[f"external.{row.pop('dataset')}"] |= {f"audit_{name}": value for name, value in row.items()}
        limits = {name: calibration[name] for name in ("temperature_low", "temperature_high")}
        metrics = flatten(reports | unlike) | {"temperature": temperature} | limits
        exits = exit_table(
            apply_temperature(tune["logit"].to_numpy(), temperature),
            tune["label"].to_numpy(),
            tune["group_id"].to_numpy(),
            exit_real=settings.exit_real,
            exit_forged=settings.exit_forged,
        )
        grid = robustness_table(extra["robustness"], cell=CELL, temperature=temperature)
        write_json(METRICS, metrics)
        save_all(
            PLOTS, test, slices, metrics, temperature=temperature, grid=grid, exits=exits, num_bins=settings.num_bins
        )
        probs = apply_temperature(test["logit"].to_numpy(), temperature)
        write_parquet(SCORES / "test_predictions.parquet", test.assign(prob=probs))
    print(system_table(metrics, list(reports), COLUMNS).to_string())
    print("\n".join(conclusion(reports)))
    print("\nWarned of as unlike all seen:")
    print(system_table(metrics, list(unlike), ("alarms", "auc")).to_string())
    print(
        "\nExits on the tune role (leaves as real at or below, as forged at or above; leaks are means over scenes, and "
        "their 95 % bounds take scenes as independent, not images):"
    )
    print(exits.round(3).to_string(index=False))


if __name__ == "__main__":
    run(main)
