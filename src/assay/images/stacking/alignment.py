"""Bringing the folds' embeddings into one space, and measuring how well that went.

Networks trained separately do not share coordinates, even from one initialisation: coordinate 17 of fold 0 need not
mean what coordinate 17 of fold 1 means. A meta-model fitted on the mixture can tell the folds apart and does well under
random cross-validation, where every fold is known, and badly on a network it has not met. Here every fold is mapped onto
the refit's space by the orthogonal map that fits best on common anchors (orthogonal Procrustes, Schoenemann 1966),
after removing the means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import orthogonal_procrustes
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# Anchors that are enough to tell networks apart.
MAX_ROWS = 400


@dataclass(frozen=True)
class Alignment:
    """``z -> (z - source_mean) @ rotation + target_mean``: means [d], rotation [d, d] orthogonal."""

    source_mean: np.ndarray
    rotation: np.ndarray
    target_mean: np.ndarray

    def apply(self, embeddings: np.ndarray) -> np.ndarray:
        """Map float [n, d]; float32 [n, d]."""
        centred = embeddings.astype(np.float64) - self.source_mean
        return (centred @ self.rotation + self.target_mean).astype(np.float32)


def identity(dim: int) -> Alignment:
    """The map that changes nothing."""
    return Alignment(np.zeros(dim), np.eye(dim), np.zeros(dim))


def fit_procrustes(source: np.ndarray, target: np.ndarray) -> Alignment:
    """The rigid map of ``source`` onto ``target``, both float [n, d], row i showing the same image.

    Raises:
        ValueError: shapes differ, or too few rows to fix a rotation.
    """
    if source.shape != target.shape:
        raise ValueError(f"anchors of the two networks differ in shape: {source.shape} and {target.shape}")
    # Removing the mean costs one dimension: d anchors leave the sign of one direction to chance.
    if len(source) <= source.shape[1]:
        raise ValueError(f"{len(source)} anchors can't fix a rotation in {source.shape[1]} dimensions; use more")
    source, target = source.astype(np.float64), target.astype(np.float64)
    rotation, _ = orthogonal_procrustes(source - source.mean(axis=0), target - target.mean(axis=0))
    return Alignment(source.mean(axis=0), rotation, target.mean(axis=0))


def coordinate_correlation(views: Sequence[np.ndarray]) -> float:
    """Mean Pearson correlation of a coordinate between two networks, over coordinates and pairs of networks.

    ``views``: one float [n, d] per network, rows showing the same images. Coordinates that are constant are left out.
    """
    scaled = []
    for view in views:
        centred = view.astype(np.float64) - view.mean(axis=0, dtype=np.float64)
        norm = np.sqrt((centred**2).sum(axis=0))
        scaled.append(np.divide(centred, norm, out=np.full_like(centred, np.nan), where=norm > 0))
    pairs = [(scaled[i] * scaled[j]).sum(axis=0) for i in range(len(scaled)) for j in range(i)]
    return float(np.nanmean(pairs))


def fold_predictability(views: Sequence[np.ndarray], *, seed: int) -> float:
    """Accuracy of telling which network made an embedding; chance is ``1 / len(views)``.

    Logistic regression, cross-validated so that an image never stands on both sides. On at most ``MAX_ROWS`` anchors.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(views[0]))[:MAX_ROWS])
    features = np.concatenate([view[rows] for view in views])
    fold = np.repeat(np.arange(len(views)), len(rows))
    image = np.tile(np.arange(len(rows)), len(views))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
    guesses = cross_val_predict(model, features, fold, groups=image, cv=GroupKFold(3))
    return float((guesses == fold).mean())
