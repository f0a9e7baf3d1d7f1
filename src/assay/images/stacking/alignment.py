"""Bringing the folds' embeddings into one space, and measuring how well that went.

Networks trained separately do not share coordinates, even from one initialisation: coordinate 17 of fold 0 need not
mean what coordinate 17 of fold 1 means. A meta-model fitted on the mixture can tell the folds apart and does well under
random cross-validation, where every fold is known, and badly on a network it has not met. Here every fold is mapped onto
the refit's space by the orthogonal map that fits best on common anchors (orthogonal Procrustes, Schoenemann 1966),
after removing the means.

Anchors say nothing of the directions in which they do not differ, and little of those in which they hardly do; those of one
group differ little. With no more groups of anchors than dimensions the fit takes the k leading principal directions of
the anchors, and of all orthogonal maps that fit best there the one nearest to the identity: networks from one
initialisation differ little where nothing says otherwise. It is the limit, for a small weight of the prior, of
Procrustes with a prior around the identity (Andreella and Finos, "Procrustes analysis for high-dimensional data",
Psychometrika 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import orthogonal_procrustes, polar, qr, svd
from scipy.stats import entropy
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

# Anchors that are enough to tell networks apart.
MAX_ROWS = 400
# Into how many parts the groups of the anchors are split, to see how many directions carry over, and to judge the maps.
FOLDS = 5


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


@dataclass(frozen=True)
class Procrustes(Alignment):
    """A fitted map.

    Attributes:
        directions: principal directions of the anchors that the rotation was fitted in: 0 to d.
        variance: share of the anchors' variance in these directions.
    """

    directions: int
    variance: float


def fit_procrustes(source: np.ndarray, target: np.ndarray, groups: np.ndarray) -> Procrustes:
    """The rigid map of ``source`` onto ``target``, both float [n, d], row i showing the same image.

    Up to d ``groups`` [n] fit in the number of directions that carries over best to anchors of other groups. The map may
    come down to a shift, or to nothing at all: where not even a shift carries over, or there is one group only.

    Raises:
        ValueError: shapes differ.
    """
    if source.shape != target.shape:
        raise ValueError(f"anchors of the two networks differ in shape: {source.shape} and {target.shape}")
    source, target = source.astype(np.float64), target.astype(np.float64)
    dim = source.shape[1]
    # Removing the mean costs one dimension: d anchors leave the sign of one direction to chance.
    if len(np.unique(groups)) <= dim:
        # Hundreds of small decompositions: threads would wait for each other more than they work.
        with threadpool_limits(1, user_api="blas"):
            directions = best_directions(source, target, groups)
            if directions is None:
                return Procrustes(np.zeros(dim), np.eye(dim), np.zeros(dim), 0, 0.0)
            return fitter(source, target)(directions)
    rotation, _ = orthogonal_procrustes(source - source.mean(axis=0), target - target.mean(axis=0))
    return Procrustes(source.mean(axis=0), rotation, target.mean(axis=0), dim, 1.0)


def best_directions(source: np.ndarray, target: np.ndarray, groups: np.ndarray) -> int | None:
    """How many leading directions to fit in: those whose map brings anchors of held-out groups nearest to their targets.

    Tried are 0 (a shift), 1, 2, 4 and so on, and all that there can be. None where leaving the embeddings as they are is at
    least as near.
    """
    num_groups = len(np.unique(groups))
    if num_groups < 2:
        return None
    splits = list(GroupKFold(min(FOLDS, num_groups)).split(source, groups=groups))
    most = min(source.shape[1], *(len(fit_rows) - 1 for fit_rows, _ in splits))
    candidates = sorted({0, *(2**power for power in range(most.bit_length())), most})
    errors = dict.fromkeys(candidates, 0.0)
    for fit_rows, rows in splits:
        fit = fitter(source[fit_rows], target[fit_rows])
        for number in candidates:
            errors[number] += float(((fit(number).apply(source[rows]) - target[rows]) ** 2).sum())
    best = min(errors, key=errors.__getitem__)
    return best if errors[best] < ((source - target) ** 2).sum() else None


def fitter(source: np.ndarray, target: np.ndarray) -> Callable[[int], Procrustes]:
    """A function of k: the map fitted in the k leading directions of ``source``, else as near to the identity as can be.

    ``source``, ``target``: float64 [n, d]; k below n, at most d.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    left, scale, right = svd(source - source_mean, full_matrices=False)
    crosses, total = (left * scale).T @ (target - target_mean), float((scale**2).sum())

    def fit(directions: int) -> Procrustes:
        principal, cross = right[:directions].T, crosses[:directions]
        rotation = np.eye(source.shape[1])
        if directions:
            # All that the map changes lies in the span of the directions and of their images.
            basis, _ = qr(np.hstack([principal, cross.T]), mode="economic")
            inner = _nearest_to_identity((basis.T @ principal) @ (cross @ basis))
            rotation += basis @ (inner - np.eye(len(inner))) @ basis.T
        share = float((scale[:directions] ** 2).sum()) / total if total else 0.0
        return Procrustes(source_mean, rotation, target_mean, directions, share)

    return fit


def _nearest_to_identity(cross: np.ndarray) -> np.ndarray:
    """Of the orthogonal maps R that maximise trace(R' cross), the one with the largest trace; [m, m]."""
    left, scale, right = svd(cross)
    rank = int((scale > scale[0] * len(scale) * np.finfo(np.float64).eps).sum())
    rotation = left[:, :rank] @ right[:rank]
    if rank < len(scale):
        free, _ = polar(left[:, rank:].T @ right[rank:].T)
        rotation += left[:, rank:] @ free @ right[rank:]
    return np.asarray(rotation)


@dataclass(frozen=True)
class HeldOut:
    """A part of the anchors and maps that were fitted without it.

    Attributes:
        raw: one float [n, d] per fold's network.
        mapped: the same after the maps.
        target: float [n, d] of the refit.
    """

    raw: list[np.ndarray]
    mapped: list[np.ndarray]
    target: np.ndarray


def held_out_parts(views: Sequence[np.ndarray], target: np.ndarray, groups: np.ndarray) -> Iterator[HeldOut]:
    """The anchors part by part, each mapped by what the other parts say; whole ``groups`` [n] stand in one part.

    On the anchors that fitted it a map always looks well: 256 directions of pure noise turn far enough towards each other
    for a correlation of 0.26. With one group there is no part.

    Args:
        views: one float [n, d] per network, rows showing the same images.
        target: of the refit, float [n, d].
    """
    parts = min(FOLDS, len(np.unique(groups)))
    if parts < 2:
        return
    for fit_rows, rows in GroupKFold(parts).split(target, groups=groups):
        maps = [fit_procrustes(view[fit_rows], target[fit_rows], groups[fit_rows]) for view in views]
        mapped = [item.apply(view[rows]) for item, view in zip(maps, views, strict=True)]
        yield HeldOut([view[rows] for view in views], mapped, target[rows])


def effective_rank(embeddings: np.ndarray) -> float:
    """In how many directions embeddings [n, d] vary: 1 to d; NaN where they don't.

    exp of the entropy of the shares that the covariance matrix's singular values, the variances along the principal
    directions, have in their sum (Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality"). Of
    the covariance, not of the embeddings themselves, whose singular values are its square roots: a long tail of directions
    with a thousandth of the variance would count there as if it mattered.
    """
    centred = embeddings - embeddings.mean(axis=0, dtype=np.float64)
    variances = svd(centred, compute_uv=False) ** 2
    total = variances.sum()
    return float(np.exp(entropy(variances / total))) if total > 0 else float("nan")


def coordinate_correlation(views: Sequence[np.ndarray]) -> float:
    """Mean Pearson correlation of a coordinate between two networks, over coordinates and pairs of networks.

    ``views``: one float [n, d] per network, rows showing the same images. Coordinates that are constant are left out;
    NaN where all are, as with a single row.
    """
    scaled = []
    for view in views:
        centred = view.astype(np.float64) - view.mean(axis=0, dtype=np.float64)
        norm = np.sqrt((centred**2).sum(axis=0))
        scaled.append(np.divide(centred, norm, out=np.full_like(centred, np.nan), where=norm > 0))
    pairs = [(scaled[i] * scaled[j]).sum(axis=0) for i in range(len(scaled)) for j in range(i)]
    return float("nan") if np.isnan(pairs).all() else float(np.nanmean(pairs))


def fold_predictability(views: Sequence[np.ndarray], *, seed: int) -> float:
    """Accuracy of telling which network made an embedding; chance is ``1 / len(views)``.

    Logistic regression, cross-validated so that an image never stands on both sides. On at most ``MAX_ROWS`` anchors; NaN
    with a single one.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(views[0]))[:MAX_ROWS])
    if len(rows) < 2:
        return float("nan")
    features = np.concatenate([view[rows] for view in views])
    fold = np.repeat(np.arange(len(views)), len(rows))
    image = np.tile(np.arange(len(rows)), len(views))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
    guesses = cross_val_predict(model, features, fold, groups=image, cv=GroupKFold(min(3, len(rows))))
    return float((guesses == fold).mean())
