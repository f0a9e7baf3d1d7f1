"""evaluate: stage 1 on the test role, read here and nowhere before.

    python -m assay.stages.evaluate

Output: metrics/stage1.json, plots/stage1 (data files for dvc plots, and PNG) and data/stage1/test_predictions.parquet.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from assay.calibration.platt import PlattFit
from assay.calibration.temperature import apply_temperature
from assay.core.io import read_json, write_csv, write_json, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.images.evaluation import (
    Bootstrap,
    Scored,
    baseline_probs,
    calibration_report,
    external_set,
    platt_report,
)
from assay.images.evaluation_plots import save_all
from assay.images.exits import exit_table
from assay.images.model.dataset import PictureSet, read_manifest
from assay.images.model.prediction import Predictor, load_predictor, role_logits
from assay.images.model.store import open_store
from assay.images.robustness import robustness_table
from assay.images.slices import family_slices
from assay.metrics.binary import flatten, summarise
from assay.params.images import Images
from assay.report.tables import system_table

DATA = Path("data/processed")
MODEL = Path("models/stage1")
PREDICTIONS = Path("data/stage1/test_predictions.parquet")
METRICS = Path("metrics/stage1.json")
PLOTS = Path("plots/stage1")
COLUMNS = ("auc", "balanced_accuracy", "f1", "tpr_at_fpr_5", "nll", "ece_width")


def score(predictor: Predictor, manifest: pd.DataFrame) -> Scored:
    """The test role with its logits."""
    data = PictureSet(open_store(DATA), manifest, image_size=predictor.image_size)
    labels = manifest["label"].to_numpy(dtype=np.int64)
    return Scored(predictor.logits(data), labels, manifest["group_id"].to_numpy(), manifest["generator"].to_numpy())


def robustness(
    predictor: Predictor, test: pd.DataFrame, mask: np.ndarray, params: Images, temperature: float
) -> pd.DataFrame:
    """The degradation grid on a seeded sample of the seen families."""
    settings, seed = params.evaluate.robustness, params.runtime.seed
    part = test[mask]
    part = part.sample(min(len(part), settings.max_samples), random_state=seed).sort_index()
    data = PictureSet(open_store(DATA), part, image_size=predictor.image_size)
    pixels = data.__getitems__(list(range(len(data))))[0].permute(0, 2, 3, 1).numpy()
    return robustness_table(
        predictor,
        pixels,
        part["label"].to_numpy(),
        part["group_id"].to_numpy(),
        settings=settings,
        temperature=temperature,
        num_resamples=params.evaluate.num_resamples,
        seed=seed,
    )


def main() -> None:
    params = load(Images)
    settings, seed = params.evaluate, params.runtime.seed
    how = Bootstrap(settings.num_resamples, seed)
    set_up_torch(threads=params.runtime.threads)
    with timed("evaluate"):
        predictor = load_predictor(MODEL, device=params.runtime.device)
        calibration = read_json(MODEL / "calibration_temp.json")
        temperature = float(calibration["temperature"])
        train, test = read_manifest(DATA, "train"), read_manifest(DATA, "test")
        scored = score(predictor, test)
        masks = family_slices(scored.labels, scored.generators, seen=set(train["generator"]))
        reports = {
            name: calibration_report(scored.where(mask), temperature=temperature, num_bins=settings.num_bins, how=how)
            for name, mask in masks.items()
        }
        seen = scored.where(masks["test"])
        reports["platt"] = platt_report(seen, PlattFit(**calibration["platt"]), how=how)
        baselines = baseline_probs(train, test[masks["test"]], open_store(DATA), seed=seed)
        for name, probs in baselines.items():
            reports[name] = summarise(seen.labels, probs, seen.groups, num_resamples=how.num_resamples, seed=seed)
        known = {
            path
            for role in ("train", "val", "calib", "tune", "test")
            for path in read_manifest(DATA, role)["image_path"]
        }
        for item in settings.external:
            outside, rejected = external_set(
                predictor,
                Path(item.path),
                name=item.name,
                settings=params.prepare,
                workers=params.runtime.workers,
                seen_ids=known,
            )
            reports[f"external.{item.name}"] = calibration_report(
                outside, temperature=temperature, num_bins=settings.num_bins, how=how
            )
            write_csv(PLOTS / f"external_{item.name}_rejected.csv", rejected)
        metrics = flatten(reports) | {"temperature": temperature}
        write_json(METRICS, metrics)
        grid = robustness(predictor, test, masks["test"], params, temperature)
        tune_logits, tune_labels = role_logits(predictor, DATA, "tune")
        exits = exit_table(
            apply_temperature(tune_logits, temperature),
            tune_labels,
            exit_real=settings.exit_real,
            exit_forged=settings.exit_forged,
        )
        save_all(
            PLOTS,
            scored,
            masks,
            metrics,
            temperature=temperature,
            grid=grid,
            exits=exits,
            test=test,
            num_bins=settings.num_bins,
        )
        predictions = test[["sample_id", "label", "group_id", "generator"]]
        write_parquet(
            PREDICTIONS,
            predictions.assign(logit=scored.logits, prob=apply_temperature(scored.logits, temperature)),
        )
    print(system_table(metrics, list(reports), COLUMNS).to_string())
    print("\nExits on the tune role (leaves as real at or below, as forged at or above):")
    print(exits.round(3).to_string(index=False))


if __name__ == "__main__":
    run(main)
