"""evaluate_cascade: cascades against single networks on tune, then everything measured on test, from scores.

    python -m assay.stages.evaluate_cascade

Output: models/cascade/cascade.json (what `assay predict` reads), models/SHA256SUMS (of it and of all networks),
metrics/cascade.json, plots/cascade and data/cascade/test_predictions.parquet.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from assay.core.io import read_json, write_csv, write_json, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.images.cascade.cost import Costs
from assay.images.cascade.evaluation import evaluate
from assay.images.cascade.goals import conclusion
from assay.images.cascade.measure import measured
from assay.images.decode_set import decode_settings
from assay.images.manifest import read_manifest
from assay.images.stacking import EXPERTS
from assay.metrics.binary import flatten, nulled
from assay.params.stacking import Stacking
from assay.report.frontier import save_frontier_png
from assay.report.tables import sections, system_table
from assay.shipped.sums import write_sums

DATA = Path("data/processed")
SCORES = Path("data/cascade")
MODELS = Path("models")
METRICS = Path("metrics/cascade.json")
PLOTS = Path("plots/cascade")
# What the cascade, or another combination of its parts, is made of.
SHIPPED = ("cascade/*", "meta/*", "stage1/*", "experts/*/*/*")
COLUMNS = ("auc", "balanced_accuracy", "f1", "nll", "ece_width")


def main() -> None:
    params = load(Stacking)
    settings = params.evaluate_cascade
    with timed("evaluate_cascade"):
        calibration = read_json(MODELS / "stage1" / "calibration_temp.json")
        costs = Costs(**read_json(SCORES / "costs.json"))
        seen = set(read_manifest(DATA, "train")["generator"])
        calib, tune, test = (
            measured(pd.read_parquet(SCORES / f"scores_{role}.parquet"), systems=costs.macs, seen=seen)
            for role in ("calib", "tune", "test")
        )
        found = evaluate(
            calib,
            tune,
            test,
            stage1_temperature=float(calibration["temperature"]),
            experts=EXPERTS,
            costs=costs,
            settings=settings,
        )
        metrics = flatten(found.reports) | flatten(found.leaks) | nulled(found.others)
        write_json(METRICS, metrics)
        write_csv(PLOTS / "frontier.csv", found.table)
        n = int(test.slices["test"].sum())
        save_frontier_png(PLOTS / "frontier.png", found.table, title=f"Cost against error on test (n = {n})")
        record = found.record() | {
            "explanation": found.explanation(),
            "unlike_distance": calibration["unlike_distance"],
            "decode": asdict(decode_settings(params.prepare, side=params.prepare.size)),
        }
        write_json(MODELS / "cascade" / "cascade.json", record)
        write_sums(MODELS, SHIPPED)
        made = found.decisions
        predictions = test.keys.assign(prob=made.probs, verdict=made.verdicts, decided_by=made.decided_by)
        write_parquet(SCORES / "test_predictions.parquet", predictions)
    systems = [name for name, report in found.reports.items() if "auc" in report]
    print(system_table(metrics, systems, COLUMNS).to_string())
    print("\n".join([*conclusion(metrics, sections(metrics)), *found.exits()]))
    print(f"assay predict runs: {found.explanation()[0]}")


if __name__ == "__main__":
    run(main)
