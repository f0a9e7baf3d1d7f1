"""How far the folds' embeddings share coordinates, before and after alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import BaseCrossValidator, PredefinedSplit, StratifiedGroupKFold, cross_val_predict

from assay.core.io import write_csv
from assay.images.stacking.alignment import Procrustes, coordinate_correlation, fold_predictability
from assay.images.stacking.meta import lightgbm_classifier
from assay.images.stacking.out_of_fold import Stacked, feature_matrix

# The probe that compares cross-validations: small, and the same before and after, since only the difference matters.
PROBE = {"n_estimators": 80, "num_leaves": 15, "learning_rate": 0.1, "colsample_bytree": 0.3, "min_child_samples": 20}


def probe_auc(
    features: np.ndarray, labels: np.ndarray, splits: BaseCrossValidator | list, *, seed: int, threads: int
) -> float:
    """AUC of a LightGBM probe over the pooled held-out predictions of a cross-validation."""
    model = lightgbm_classifier(seed=seed, threads=threads, **PROBE)
    scores = cross_val_predict(model, features, labels, cv=splits, method="predict_proba")[:, 1]
    return float(roc_auc_score(labels, scores))


def _side(
    rows: Stacked,
    embeddings: dict[str, np.ndarray],
    views: Mapping[str, Sequence[np.ndarray]],
    *,
    seed: int,
    threads: int,
) -> dict[str, float]:
    features = feature_matrix(embeddings, rows.logits)
    labels, base_fold = rows.keys["label"].to_numpy(), rows.keys["base_fold"].to_numpy()
    # Random over groups: no scene stands on both sides, so that the gap is that of the networks alone. Another seed than
    # the fold table's, or the two cross-validations would be one.
    splitter = StratifiedGroupKFold(len(np.unique(base_fold)), shuffle=True, random_state=seed + 1)
    random = list(splitter.split(features, labels, rows.keys["group_id"]))
    random_auc = probe_auc(features, labels, random, seed=seed, threads=threads)
    held_out_auc = probe_auc(features, labels, PredefinedSplit(base_fold), seed=seed, threads=threads)
    correlations = {expert: coordinate_correlation(view) for expert, view in views.items()}
    return {
        "random_cv_auc": random_auc,
        "leave_base_fold_out_auc": held_out_auc,
        "gap": random_auc - held_out_auc,
        "correlation": float(np.mean(list(correlations.values()))),
        "fold_predictability": float(np.mean([fold_predictability(view, seed=seed) for view in views.values()])),
        **{f"{expert}.correlation": value for expert, value in correlations.items()},
    }


def alignment_report(
    rows: Stacked,
    aligned: dict[str, np.ndarray],
    anchors: Sequence[Stacked],
    maps: Mapping[tuple[str, int], Procrustes],
    target: Mapping[str, np.ndarray],
    *,
    seed: int,
    threads: int,
) -> dict[str, float]:
    """Flat keys ``raw.<name>`` and ``aligned.<name>``, and what the maps rest on. NaN: undefined with so few anchors.

    ``n_anchors``, ``n_dimensions``; ``<expert>.fold_<k>.directions``: principal directions of the anchors in which a map
    turns (0: it shifts, or does nothing); ``<expert>.fold_<k>.variance``: share of the anchors' variance that they hold.

    ``correlation``: mean Pearson correlation of a coordinate between two folds on the anchors. ``fold_predictability``:
    accuracy of telling the fold from an anchor's embedding (chance: ``chance``). ``random_cv_auc`` (random over groups) and
    ``leave_base_fold_out_auc``: of one LightGBM probe on X_meta; ``gap`` is the first minus the second.
    ``<expert>.anchor_error``: mean squared distance to the refit's embedding of an anchor over that embedding's variance.
    """
    report: dict[str, float] = {"n": len(rows.keys), "n_anchors": len(anchors[0].keys), "chance": 1 / len(anchors)}
    for (expert, fold), item in maps.items():
        report |= {
            "n_dimensions": len(item.rotation),
            f"{expert}.fold_{fold}.directions": item.directions,
            f"{expert}.fold_{fold}.variance": item.variance,
        }
    raw = {expert: [stack.embeddings[expert] for stack in anchors] for expert in rows.embeddings}
    mapped = {e: [maps[e, fold].apply(view) for fold, view in enumerate(views)] for e, views in raw.items()}
    for name, embeddings, views in (("raw", rows.embeddings, raw), ("aligned", aligned, mapped)):
        side = _side(rows, embeddings, views, seed=seed, threads=threads)
        for expert, wanted in target.items():
            spread = float(wanted.var(axis=0).sum())
            errors = [float(((view - wanted) ** 2).sum(axis=1).mean()) for view in views[expert]]
            side[f"{expert}.anchor_error"] = float(np.mean(errors)) / spread if spread > 0 else float("nan")
        report |= {f"{name}.{key}": value for key, value in side.items()}
    return report


def save_alignment_data(folder: Path, report: Mapping[str, float]) -> None:
    """alignment.csv: the report's two sides as rows, for ``dvc plots``."""
    names = ("correlation", "fold_predictability", "random_cv_auc", "leave_base_fold_out_auc")
    rows = [(side, name, report[f"{side}.{name}"]) for name in names for side in ("raw", "aligned")]
    write_csv(folder / "alignment.csv", pd.DataFrame(rows, columns=["side", "measure", "value"]))
