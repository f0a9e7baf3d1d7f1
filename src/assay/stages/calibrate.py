"""calibrate: fit the temperature of stage 1, and the threshold of its warning, on a role that nothing else has used.

    python -m assay.stages.calibrate

Output: models/stage1/calibration_temp.json and a reliability diagram before and after. The limits temperature_low and _high
are those of the maximum-likelihood temperature over groups, whatever the objective.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from assay.calibration.platt import fit_platt
from assay.calibration.temperature import apply_temperature, fit_temperature, temperature_interval, two_columns
from assay.core.io import write_csv, write_json
from assay.core.params import load
from assay.core.stage import run, timed
from assay.images.unlike import alarm_threshold
from assay.metrics.binary import nulled
from assay.metrics.calibration_error import reliability_table
from assay.params.images import Images
from assay.report.plots import save_reliability_png

SCORES = Path("data/stage1")
MODEL = Path("models/stage1")
PLOTS = Path("plots/calibrate")


def main() -> None:
    params = load(Images)
    settings = params.calibrate
    with timed("calibrate"):
        scores = pd.read_parquet(SCORES / f"scores_{settings.role}.parquet")
        logits, labels = scores["logit"].to_numpy(), scores["label"].to_numpy()
        fit = fit_temperature(logits, labels, objective=settings.objective, name="stage 1")
        limits = temperature_interval(two_columns(logits), labels, scores["group_id"].to_numpy())
        platt = fit_platt(logits, labels)
        tables = {
            "before": reliability_table(apply_temperature(logits, 1.0), labels, num_bins=settings.num_bins),
            "after": reliability_table(apply_temperature(logits, fit.temperature), labels, num_bins=settings.num_bins),
        }
        PLOTS.mkdir(parents=True, exist_ok=True)
        title = f"Stage 1 on the {settings.role} role it was calibrated on (T = {fit.temperature:.3f})"
        save_reliability_png(PLOTS / "reliability.png", tables, title=title)
        write_csv(PLOTS / "reliability.csv", pd.concat([t.assign(when=name) for name, t in tables.items()]))
        record = {
            "role": settings.role,
            "objective": settings.objective,
            "n": len(labels),
            "n_groups": int(scores["group_id"].nunique()),
            "platt": asdict(platt),
            "unlike_distance": alarm_threshold(scores["distance"], rate=settings.false_alarms),
        }
        write_json(MODEL / "calibration_temp.json", record | asdict(fit) | nulled(limits))
    print(
        f"temperature {fit.temperature:.4f} [{limits['temperature_low']:.4f}, {limits['temperature_high']:.4f}] on "
        f"{len(labels)} rows in {record['n_groups']} groups of {settings.role}: "
        f"NLL {fit.nll_before:.4f} -> {fit.nll_after:.4f}"
    )
    print(f"Platt for comparison: slope {platt.slope:.4f}, bias {platt.bias:+.4f}, NLL {platt.nll:.4f}")


if __name__ == "__main__":
    run(main)
