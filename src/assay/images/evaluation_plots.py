"""What stage 1's evaluation draws: data files for ``dvc plots`` and PNG images beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from assay.calibration.temperature import apply_temperature
from assay.core.io import write_csv
from assay.images.evaluation import Scored
from assay.images.model.store import PixelStore, open_store
from assay.metrics.calibration_error import reliability_table
from assay.metrics.discrimination import confusion_matrix
from assay.report.plots import (
    roc_points,
    save_confusion_png,
    save_contact_sheet,
    save_heatmap_grid_png,
    save_reliability_png,
    save_roc_png,
    save_training_png,
)

DATA = Path("data/processed")
HISTORY = Path("models/stage1/history.csv")
CLASS_NAMES = ("real", "forged")
# A file that every run commits: of each row as many as show what a family looks like.
EXAMPLES, MISTAKES = 4, 10


def save_roc(
    folder: Path, scored: Scored, masks: Mapping[str, np.ndarray], metrics: Mapping[str, float | None]
) -> None:
    """roc.csv (slice, fpr, tpr) and roc.png for the seen and the unseen families, of which test may hold one only."""
    names = {"test": "seen families", "unseen": "unseen families"}
    curves, aucs = {}, {}
    for key in (key for key in names if key in masks):
        part = scored.where(masks[key])
        if len(set(part.labels)) < 2:
            continue
        curves[names[key]] = roc_points(part.labels, part.logits)
        found = [metrics[f"{key}.auc{end}"] for end in ("", "_low", "_high")]
        value, low, high = (np.nan if item is None else item for item in found)
        aucs[names[key]] = (value, low, high)
    write_csv(folder / "roc.csv", pd.concat([curve.assign(slice=name) for name, curve in curves.items()]))
    save_roc_png(folder / "roc.png", curves, title="Stage 1 on the test role", aucs=aucs)


def save_examples(folder: Path, test: pd.DataFrame, probs: np.ndarray, *, store: PixelStore) -> None:
    """examples.png: images of the test role, a row of real ones and one per generator, with the mean probability."""
    rows, titles = [], []
    # Real images may name a generator, too: the camera, or "real" as anyone spells it.
    real = (test["label"] == 0).to_numpy()
    generators = test["generator"].to_numpy()
    named = [(name, ~real & (generators == name)) for name in sorted(set(generators[~real]))]
    for name, mask in [("real", real), *named]:
        chosen = test[mask].iloc[:: max(1, mask.sum() // EXAMPLES)].head(EXAMPLES)
        rows.append(list(store.pixels[store.rows_of(list(chosen["sample_id"]))]))
        titles.append(f"{name}\nmean p {probs[mask].mean():.2f}")
    save_contact_sheet(folder / "examples.png", rows, row_titles=titles, title="Test role: examples of each generator")


def save_mistakes(folder: Path, test: pd.DataFrame, probs: np.ndarray, *, store: PixelStore) -> None:
    """mistakes.png: the most confidently wrong images of each class."""
    rows, titles = [], []
    for label, name in enumerate(CLASS_NAMES):
        index = np.flatnonzero(test["label"].to_numpy() == label)
        wrong = index[np.argsort(-np.abs(probs[index] - label), kind="stable")][:MISTAKES]
        rows.append(list(store.pixels[store.rows_of(list(test["sample_id"].iloc[wrong]))]))
        titles.append(f"{name}\np {probs[wrong].min():.2f} to {probs[wrong].max():.2f}")
    save_contact_sheet(folder / "mistakes.png", rows, row_titles=titles, title="Test role: most confidently wrong")


def save_all(
    folder: Path,
    test: pd.DataFrame,
    masks: Mapping[str, np.ndarray],
    metrics: Mapping[str, float | None],
    *,
    temperature: float,
    grid: pd.DataFrame,
    exits: pd.DataFrame,
    num_bins: int,
) -> None:
    """Write every plot of the evaluation into ``folder``; ``test`` are the scores of the test role."""
    folder.mkdir(parents=True, exist_ok=True)
    scored = Scored.of(test)
    seen = scored.where(masks["test"])
    probs = apply_temperature(seen.logits, temperature)
    save_roc(folder, scored, masks, metrics)
    tables = {
        "before": reliability_table(apply_temperature(seen.logits, 1.0), seen.labels, num_bins=num_bins),
        "after": reliability_table(probs, seen.labels, num_bins=num_bins),
    }
    write_csv(folder / "reliability.csv", pd.concat([table.assign(when=name) for name, table in tables.items()]))
    title = f"Stage 1 on the test role, seen families (T = {temperature:.3f})"
    save_reliability_png(folder / "reliability.png", tables, title=title)
    names = np.array(CLASS_NAMES)
    confusion = pd.DataFrame({"actual": names[seen.labels], "predicted": names[(probs >= 0.5).astype(int)]})
    write_csv(folder / "confusion.csv", confusion)
    save_confusion_png(
        folder / "confusion.png",
        confusion_matrix(seen.labels, probs),
        class_names=CLASS_NAMES,
        title="Stage 1 on test, seen families, at 0.5",
    )
    curve = pd.read_csv(HISTORY)
    write_csv(folder / "training.csv", curve)
    save_training_png(folder / "training.png", curve)
    write_csv(folder / "robustness.csv", grid)
    save_heatmap_grid_png(
        folder / "robustness.png",
        grid,
        value="auc",
        rows="resize",
        columns="blur_sigma",
        facet="jpeg_quality",
        title=f"AUC under degradation (n = {int(grid['n'].iloc[0])})",
    )
    write_csv(folder / "exits.csv", exits)
    all_probs = apply_temperature(scored.logits, temperature)
    store = open_store(DATA)
    save_examples(folder, test, all_probs, store=store)
    save_mistakes(folder, test, all_probs, store=store)
