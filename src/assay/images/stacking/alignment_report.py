"""How far the folds' embeddings share coordinates, before and after alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import BaseCrossValidator, PredefinedSplit, StratifiedGroupKFold, cross_val_predict

from assay.core.io import write_csv
from assay.images.stacking.alignment import (
    HeldOut,
    Procrustes,
    coordinate_correlation,
    effective_rank,
    fold_predictability,
    held_out_parts,
)
from assay.images.stacking.meta import lightgbm_classifier
from assay.images.stacking.out_of_fold import Stacked, feature_matrix

# Below this an embedding says little that the logit does not.
MIN_RANK = 8
ON_ANCHORS = ("correlation", "fold_predictability")
# The probe that compares cross-validations: small, and the same before and after, since only the difference matters.
PROBE = {"n_estimators": 80, "num_leaves": 15, "learning_rate": 0.1, "colsample_bytree": 0.3, "min_child_samples": 20}


def probe_auc(
    features: np.ndarray, labels: np.ndarray, splits: BaseCrossValidator | list, *, seed: int, threads: int
) -> float:
    """AUC of a LightGBM probe over the pooled held-out predictions of a cross-validation."""
    model = lightgbm_classifier(seed=seed, threads=threads, **PROBE)
    scores = cross_val_predict(model, features, labels, cv=splits, method="predict_proba")[:, 1]
    return float(roc_auc_score(labels, scores))


def _cross_validated(rows: Stacked, embeddings: dict[str, np.ndarray], *, seed: int, threads: int) -> dict[str, float]:
    """``random_cv_auc``, ``leave_base_fold_out_auc`` and ``gap`` on X_meta."""
    features = feature_matrix(embeddings, rows.logits)
    labels, base_fold = rows.keys["label"].to_numpy(), rows.keys["base_fold"].to_numpy()
    # Random over groups: no scene stands on both sides, so that the gap is that of the networks alone. Another seed than
    # the fold table's, or the two cross-validations would be one.
    splitter = StratifiedGroupKFold(len(np.unique(base_fold)), shuffle=True, random_state=seed + 1)
    random = list(splitter.split(features, labels, rows.keys["group_id"]))
    random_auc = probe_auc(features, labels, random, seed=seed, threads=threads)
    held_out_auc = probe_auc(features, labels, PredefinedSplit(base_fold), seed=seed, threads=threads)
    return {
        "random_cv_auc": random_auc,
        "leave_base_fold_out_auc": held_out_auc,
        "gap": random_auc - held_out_auc,
    }


def _on_anchors(parts: Sequence[HeldOut], *, mapped: bool, seed: int) -> dict[str, float]:
    """``correlation``, ``fold_predictability`` (means over the parts) and ``anchor_error`` of one expert."""
    if not parts:
        return dict.fromkeys(("correlation", "fold_predictability", "anchor_error"), float("nan"))
    views = [part.mapped if mapped else part.raw for part in parts]
    errors = [
        ((view - part.target) ** 2).sum() / len(one) for part, one in zip(parts, views, strict=True) for view in one
    ]
    target = np.concatenate([part.target for part in parts])
    spread = float(((target - target.mean(axis=0)) ** 2).sum())
    return {
        "correlation": float(np.mean([coordinate_correlation(one) for one in views])),
        "fold_predictability": float(np.mean([fold_predictability(one, seed=seed) for one in views])),
        "anchor_error": float(np.sum(errors)) / spread if spread > 0 else float("nan"),
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

    ``n_anchors``, ``n_anchor_groups``, ``n_dimensions``; ``<expert>.fold_<k>.directions``: principal directions of the
    anchors in which a map turns (0: it shifts, or does nothing); ``<expert>.fold_<k>.variance``: share of the anchors'
    variance that they hold; ``<expert>.effective_rank``: the smallest `effective_rank` of a network on the anchors.

    On anchors of groups that the map did not see (`held_out_parts`), before and after it: ``correlation``: mean Pearson
    correlation of a coordinate between two folds; ``fold_predictability``: accuracy of telling the fold from an embedding
    (chance: ``chance``); ``<expert>.anchor_error``: mean squared distance to the refit's embedding over that embedding's
    variance. On X_meta: ``random_cv_auc`` (random over groups) and ``leave_base_fold_out_auc`` of one LightGBM probe;
    ``gap`` is the first minus the second.
    """
    groups = anchors[0].keys["group_id"].to_numpy()
    report: dict[str, float] = {
        "n": len(rows.keys),
        "n_anchors": len(groups),
        "n_anchor_groups": len(np.unique(groups)),
        "chance": 1 / len(anchors),
    }
    for (expert, fold), item in maps.items():
        report |= {
            "n_dimensions": len(item.rotation),
            f"{expert}.fold_{fold}.directions": item.directions,
            f"{expert}.fold_{fold}.variance": item.variance,
        }
    views = {expert: [stack.embeddings[expert] for stack in anchors] for expert in target}
    parts = {expert: list(held_out_parts(views[expert], target[expert], groups)) for expert in target}
    for expert, wanted in target.items():
        report[f"{expert}.effective_rank"] = min(effective_rank(view) for view in (*views[expert], wanted))
    for name, embeddings in (("raw", rows.embeddings), ("aligned", aligned)):
        side = _cross_validated(rows, embeddings, seed=seed, threads=threads)
        each = {expert: _on_anchors(parts[expert], mapped=name == "aligned", seed=seed) for expert in target}
        side |= {key: float(np.mean([found[key] for found in each.values()])) for key in ON_ANCHORS}
        side |= {
            f"{expert}.{key}": found[key] for expert, found in each.items() for key in ("correlation", "anchor_error")
        }
        report |= {f"{name}.{key}": value for key, value in side.items()}
    return report


def save_alignment_data(folder: Path, report: Mapping[str, float]) -> None:
    """alignment.csv: the report's two sides as rows, for ``dvc plots``."""
    names = ("correlation", "fold_predictability", "random_cv_auc", "leave_base_fold_out_auc")
    rows = [(side, name, report[f"{side}.{name}"]) for name in names for side in ("raw", "aligned")]
    write_csv(folder / "alignment.csv", pd.DataFrame(rows, columns=["side", "measure", "value"]))


def rank_warnings(report: Mapping[str, float], experts: Sequence[str]) -> list[str]:
    """A sentence for each expert whose embedding has an effective rank below `MIN_RANK`."""
    return [
        f"warning: the embeddings of {expert} have an effective rank of {report[f'{expert}.effective_rank']:.1f} of "
        f"{report['n_dimensions']} dimensions (below {MIN_RANK}): a meta-model on them gets little more than the logit"
        for expert in experts
        if report[f"{expert}.effective_rank"] < MIN_RANK
    ]
