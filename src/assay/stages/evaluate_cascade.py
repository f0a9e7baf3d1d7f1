"""evaluate_cascade: thresholds from tune, calibration on deferred calib rows, everything measured on test.

    python -m assay.stages.evaluate_cascade

Output: models/cascade/cascade.json (what `assay predict` reads), metrics/cascade.json, plots/cascade.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from assay.calibration.temperature import apply_temperature
from assay.core.io import read_json, write_csv, write_json, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.images.cascade.cost import count_macs, speedup
from assay.images.cascade.decision import decide, deferred_mask
from assay.images.cascade.ensemble import load_ensemble
from assay.images.cascade.measure import Measured, fit_ensemble_temperature, load_refit, measure_role, system_reports
from assay.images.cascade.systems import RoleProbs, frontier
from assay.images.cascade.thresholds import certification_text, fit_thresholds
from assay.images.decode_set import decode_settings
from assay.images.model.prediction import load_predictor
from assay.metrics.binary import flatten
from assay.params.stacking import EXPERTS, Stacking
from assay.report.frontier import save_frontier_png
from assay.report.tables import system_table

DATA = Path("data/processed")
MODELS = Path("models")
METRICS = Path("metrics/cascade.json")
PLOTS = Path("plots/cascade")
PREDICTIONS = Path("data/cascade/test_predictions.parquet")
COLUMNS = ("auc", "balanced_accuracy", "f1", "nll", "ece_width")


def main() -> None:
    params = load(Stacking)
    settings, seed, device = params.evaluate_cascade, params.runtime.seed, params.runtime.device
    set_up_torch(threads=params.runtime.threads)
    with timed("evaluate_cascade"):
        stage1, ensemble = load_predictor(MODELS / "stage1", device=device), load_ensemble(MODELS, device=device)
        t1 = float(read_json(MODELS / "stage1" / "calibration_temp.json")["temperature"])
        tune = measure_role(DATA, "tune", stage1, None, stage1_temperature=t1)
        found = fit_thresholds(
            tune.stage1,
            tune.labels,
            budget_forged=settings.budget_forged,
            budget_real=settings.budget_real,
            certify=settings.certify,
        )
        exits = {"exit_real": found.exit_real.threshold, "exit_forged": found.exit_forged.threshold}
        refit = load_refit(MODELS, EXPERTS, device=device)
        calib = measure_role(DATA, "calib", stage1, ensemble, stage1_temperature=t1, refit=refit)
        deferred = deferred_mask(calib.stage1, **exits)
        temperature = fit_ensemble_temperature(calib, deferred)
        test = measure_role(DATA, "test", stage1, ensemble, stage1_temperature=t1, refit=refit)
        probs = apply_temperature(test.ensemble_logits, temperature)
        unsure = (settings.unsure[0], settings.unsure[1]) if settings.unsure is not None else None
        decisions = decide(test.stage1, probs, **exits, unsure=unsure)
        macs = {"stage1": count_macs(stage1.network, image_size=stage1.image_size), "ensemble": ensemble.macs()}
        share = float(decisions.deferred[test.slices["test"]].mean())
        reports = system_reports(
            test, calib, decisions, temperature=temperature, num_resamples=settings.num_resamples, seed=seed
        )
        loss = reports["ensemble"]["balanced_accuracy"] - reports["cascade"]["balanced_accuracy"]
        gain = speedup(macs["stage1"], macs["ensemble"], share)
        metrics = flatten(reports) | {
            "share_deferred": share,
            "speedup": gain,
            "cost.stage1_macs": macs["stage1"],
            "cost.ensemble_macs": macs["ensemble"],
            "cost.cascade_macs": macs["stage1"] + share * macs["ensemble"],
            "balanced_accuracy_loss": loss,
            "ensemble_temperature": temperature,
        }
        for name, side in (("exit_real", found.exit_real), ("exit_forged", found.exit_forged)):
            metrics |= {f"{name}.{key}": value for key, value in asdict(side).items()}
        costs = {name: count_macs(one.network, image_size=one.image_size) for name, one in refit.items()}
        metrics |= {f"cost.{name}_macs": cost for name, cost in {**costs, "mean_logit": sum(costs.values())}.items()}
        write_json(METRICS, metrics)
        save_plots(tune, test, temperature, macs, metrics, params)
        record = exits | {"stage1_temperature": t1, "ensemble_temperature": temperature, "unsure": settings.unsure}
        write_json(
            MODELS / "cascade" / "cascade.json",
            record | {"decode": asdict(decode_settings(params.prepare, side=params.prepare.size))},
        )
        frame = test.keys.assign(prob=decisions.probs, verdict=decisions.verdicts, decided_by=decisions.decided_by)
        write_parquet(PREDICTIONS, frame)
    print(system_table(metrics, list(reports), COLUMNS).to_string())
    print(certification_text(found.exit_real, what="forged that leave as real"))
    print(certification_text(found.exit_forged, what="real that leave as forged"))
    print(f"{share:.1%} deferred, speedup {gain:.2f} over always-ensemble, balanced accuracy {-loss:+.4f}")


def save_plots(
    tune: Measured, test: Measured, temperature: float, macs: dict[str, int], metrics: dict, params: Stacking
) -> None:
    """The frontier as data and as PNG, on the seen families."""
    mask = test.slices["test"]
    roles = [
        RoleProbs(tune.stage1, np.full(len(tune.labels), np.nan), tune.labels),
        RoleProbs(test.stage1[mask], apply_temperature(test.ensemble_logits, temperature)[mask], test.labels[mask]),
    ]
    points = {
        "stage1": (macs["stage1"], roles[1].stage1),
        **{
            f"{e} (refit)": (metrics[f"cost.{e}_macs"], (test.expert_logits[e] > 0)[mask].astype(float))
            for e in EXPERTS
        },
        "ensemble": (macs["ensemble"], roles[1].ensemble),
    }
    table = frontier(
        *roles,
        budgets=params.evaluate_cascade.frontier_budgets,
        cost_stage1=macs["stage1"],
        cost_ensemble=macs["ensemble"],
        points=points,
        seed=params.runtime.seed,
    )
    PLOTS.mkdir(parents=True, exist_ok=True)
    write_csv(PLOTS / "frontier.csv", table)
    save_frontier_png(PLOTS / "frontier.png", table, title=f"Cost against error on test (n = {int(mask.sum())})")


if __name__ == "__main__":
    run(main)
