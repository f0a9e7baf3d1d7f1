"""The meta-model: candidates, their search and their fits.

Every comparison here is leave-base-fold-out: the rows of one fold's networks are held out together, since deployment
always meets networks whose rows the meta-model has not seen. What is shipped is a `MetaModel`, numbers alone.
"""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupShuffleSplit,
    ParameterGrid,
    PredefinedSplit,
    RandomizedSearchCV,
    cross_val_predict,
)

from assay.images.stacking.meta_model import MetaModel, expert_logits
from assay.images.stacking.trees import trees_of_text
from assay.params.stacking import MetaSearch


def lightgbm_classifier(*, seed: int, threads: int, **settings: Any) -> lightgbm.LGBMClassifier:
    """LightGBM that gives the same model on every run: fixed seed and threads, deterministic histograms."""
    return lightgbm.LGBMClassifier(
        random_state=seed,
        n_jobs=threads,
        deterministic=True,
        force_row_wise=True,
        verbose=-1,
        **{"subsample_freq": 1, **settings},
    )


def search_space(settings: MetaSearch) -> dict[str, Any]:
    """Distributions for a random search, or lists for a grid, from the parameter file's ranges."""
    if settings.method == "grid":
        return {name: list(values) for name, values in settings.grid.items()}
    space: dict[str, Any] = {}
    for name, (low, high) in settings.ranges.model_dump().items():
        if name in ("n_estimators", "num_leaves", "max_depth"):
            space[name] = randint(int(low), int(high) + 1)
        elif name in ("subsample", "colsample_bytree"):
            space[name] = uniform(low, high - low)
        else:
            space[name] = loguniform(low, high)
    return space


def search(
    features: np.ndarray, labels: np.ndarray, base_fold: np.ndarray, *, settings: MetaSearch, seed: int, threads: int
) -> tuple[dict[str, Any], float]:
    """Best LightGBM settings by leave-base-fold-out AUC, and that AUC (a selection score, not a result)."""
    model = lightgbm_classifier(seed=seed, threads=threads)
    space, split = search_space(settings), PredefinedSplit(base_fold)
    options = {"scoring": "roc_auc", "cv": split, "error_score": "raise", "refit": False, "verbose": 3}
    if settings.method == "grid":
        print(f"grid search over {len(ParameterGrid(space))} settings", flush=True)
        found = GridSearchCV(model, space, **options)
    else:
        found = RandomizedSearchCV(model, space, n_iter=settings.num_candidates, random_state=seed, **options)
    found.fit(features, labels)
    best = {
        name: value.item() if isinstance(value, np.generic) else value for name, value in found.best_params_.items()
    }
    return best, float(found.best_score_)


def inner_split(
    model: BaseEstimator, features: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fit on 90 % of the groups; (row numbers, probabilities) of the other 10 %."""
    splitter = GroupShuffleSplit(1, test_size=0.1, random_state=seed)
    fit_rows, rows = next(splitter.split(features, labels, groups))
    fitted = clone(model).fit(features[fit_rows], labels[fit_rows])
    return rows, np.asarray(fitted.predict_proba(features[rows])[:, 1], dtype=np.float64)


def _classifiers(
    features: np.ndarray, num_experts: int, model: lightgbm.LGBMClassifier, logits_model: lightgbm.LGBMClassifier
) -> dict[str, tuple[BaseEstimator, np.ndarray]]:
    """The candidates that are fitted: a classifier, and what it reads of X_meta."""
    logits = expert_logits(features, num_experts)
    return {
        # Hardly regularised: two coefficients need no help.
        "logistic": (LogisticRegression(C=100.0, max_iter=1000), logits),
        "lightgbm_logits": (clone(logits_model), logits),
        "lightgbm": (clone(model), features),
    }


def fit_meta(
    kind: str,
    features: np.ndarray,
    labels: np.ndarray,
    *,
    experts: tuple[str, ...],
    expert: int,
    model: lightgbm.LGBMClassifier,
    logits_model: lightgbm.LGBMClassifier,
) -> MetaModel:
    """Fit one candidate on all of X_meta; for the arguments see `candidate_probs`."""
    if kind == "single":
        return MetaModel(kind, experts, expert=expert)
    if kind == "mean_logit":
        return MetaModel(kind, experts)
    classifier, inputs = _classifiers(features, len(experts), model, logits_model)[kind]
    fitted = classifier.fit(inputs, labels)
    if kind == "logistic":
        coefficients = tuple(fitted.coef_[0].tolist())
        return MetaModel(kind, experts, coefficients=coefficients, intercept=float(fitted.intercept_[0]))
    return MetaModel(kind, experts, trees=trees_of_text(fitted.booster_.model_to_string()))


def candidate_probs(
    features: np.ndarray,
    labels: np.ndarray,
    base_fold: np.ndarray,
    *,
    experts: tuple[str, ...],
    expert: int,
    model: lightgbm.LGBMClassifier,
    logits_model: lightgbm.LGBMClassifier,
) -> dict[str, np.ndarray]:
    """Leave-base-fold-out probabilities [n] of every candidate; the first two have nothing to fit.

    Args:
        experts: names, in the order of their logits in X_meta.
        expert: position of the one that ``single`` takes.
        model: LightGBM for all of X_meta.
        logits_model: LightGBM for the experts' logits alone.
    """
    probs = {kind: MetaModel(kind, experts, expert=expert).probs(features) for kind in ("single", "mean_logit")}
    split = PredefinedSplit(base_fold)
    for kind, (classifier, inputs) in _classifiers(features, len(experts), model, logits_model).items():
        found = cross_val_predict(classifier, inputs, labels, cv=split, method="predict_proba")
        probs[kind] = np.asarray(found[:, 1], dtype=np.float64)
    return probs
