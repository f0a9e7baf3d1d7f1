"""The meta-model: candidates, their search and bake-off, and how the shipped one is kept.

Every comparison here is leave-base-fold-out: the rows of one fold's networks are held out together, since deployment
always meets networks whose rows the meta-model has not seen. No pickle: a pickled model runs whatever its file says when
it is loaded, and breaks with the next version of the library; LightGBM's text format and JSON hold numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import lightgbm
import numpy as np
import pandas as pd
from scipy.special import expit, logit
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

from assay.params.stacking import MetaSearch

EPSILON = 1e-7
# From the simplest to the most complex; the bake-off ships the first that the winner does not clearly beat.
CANDIDATES = ("single", "mean_logit", "logistic", "lightgbm_logits", "lightgbm")


class Classifier(Protocol):
    """What a meta-model must do."""

    def predict_proba(self, features: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Columns:
    """Where logits stand in X_meta: the last ``len(experts)`` columns, in the order of ``experts``."""

    experts: tuple[str, ...]

    def logits(self, features: np.ndarray) -> np.ndarray:
        """float64 [n, number of experts]."""
        return np.asarray(features[:, -len(self.experts) :], dtype=np.float64)


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
    ranges = settings.ranges
    return {
        "n_estimators": randint(int(ranges.n_estimators[0]), int(ranges.n_estimators[1]) + 1),
        "learning_rate": loguniform(*ranges.learning_rate),
        "num_leaves": randint(int(ranges.num_leaves[0]), int(ranges.num_leaves[1]) + 1),
        "max_depth": randint(int(ranges.max_depth[0]), int(ranges.max_depth[1]) + 1),
        "reg_alpha": loguniform(*ranges.reg_alpha),
        "reg_lambda": loguniform(*ranges.reg_lambda),
        "subsample": uniform(ranges.subsample[0], ranges.subsample[1] - ranges.subsample[0]),
        "colsample_bytree": uniform(
            ranges.colsample_bytree[0], ranges.colsample_bytree[1] - ranges.colsample_bytree[0]
        ),
    }


def search(
    features: np.ndarray, labels: np.ndarray, base_fold: np.ndarray, *, settings: MetaSearch, seed: int, threads: int
) -> tuple[dict[str, Any], float]:
    """Best LightGBM settings by leave-base-fold-out AUC, and that AUC (a selection score, not a result)."""
    model = lightgbm_classifier(seed=seed, threads=threads)
    common = {
        "scoring": "roc_auc",
        "cv": PredefinedSplit(base_fold),
        "error_score": "raise",
        "refit": False,
        "verbose": 3,
    }
    space = search_space(settings)
    if settings.method == "grid":
        print(f"grid search over {len(ParameterGrid(space))} settings", flush=True)
        found = GridSearchCV(model, space, **common)
    else:
        found = RandomizedSearchCV(model, space, n_iter=settings.num_candidates, random_state=seed, **common)
    found.fit(features, labels)
    best = {
        name: value.item() if isinstance(value, np.generic) else value for name, value in found.best_params_.items()
    }
    return best, float(found.best_score_)


def out_of_fold_probs(
    model: BaseEstimator, features: np.ndarray, labels: np.ndarray, base_fold: np.ndarray
) -> np.ndarray:
    """Leave-base-fold-out probabilities of forged [n]."""
    probs = cross_val_predict(clone(model), features, labels, cv=PredefinedSplit(base_fold), method="predict_proba")
    return np.asarray(probs[:, 1], dtype=np.float64)


def inner_split(
    model: BaseEstimator, features: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fit on 90 % of the groups; (row numbers, probabilities) of the other 10 %."""
    splitter = GroupShuffleSplit(1, test_size=0.1, random_state=seed)
    fit_rows, rows = next(splitter.split(features, labels, groups))
    fitted = clone(model).fit(features[fit_rows], labels[fit_rows])
    return rows, np.asarray(fitted.predict_proba(features[rows])[:, 1], dtype=np.float64)


@dataclass(frozen=True)
class MetaModel:
    """The shipped meta-model: X_meta [n, f] -> probability of forged [n]. Holds numbers only.

    ``kind`` is one of ``CANDIDATES``. ``expert``: position of the single expert. ``coefficients``, ``intercept``: of the
    logistic regression on the experts' logits. ``booster``: LightGBM's.
    """

    kind: str
    columns: Columns
    expert: int = 0
    coefficients: tuple[float, ...] = ()
    intercept: float = 0.0
    booster: lightgbm.Booster | None = None

    def probs(self, features: np.ndarray) -> np.ndarray:
        """Probability of forged, float64 [n]."""
        if self.kind == "lightgbm":
            assert self.booster is not None
            return np.asarray(self.booster.predict(features), dtype=np.float64)
        logits = self.columns.logits(features)
        if self.kind == "lightgbm_logits":
            assert self.booster is not None
            return np.asarray(self.booster.predict(logits), dtype=np.float64)
        if self.kind == "single":
            return expit(logits[:, self.expert])
        if self.kind == "mean_logit":
            return expit(logits.mean(axis=1))
        assert self.kind == "logistic", self.kind
        return expit(logits @ np.array(self.coefficients) + self.intercept)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Log-odds of forged, float64 [n], finite."""
        return logit(np.clip(self.probs(features), EPSILON, 1 - EPSILON))

    def reduced(self) -> MetaModel:
        """The same model without experts that it does not look at (``single`` needs one)."""
        if self.kind != "single":
            return self
        return MetaModel(self.kind, Columns((self.columns.experts[self.expert],)))

    def to_json(self) -> dict[str, Any]:
        """Everything but the booster."""
        return {
            "kind": self.kind,
            "experts": list(self.columns.experts),
            "expert": self.expert,
            "coefficients": list(self.coefficients),
            "intercept": self.intercept,
        }


def meta_from_json(record: Mapping[str, Any], booster: lightgbm.Booster | None) -> MetaModel:
    """The inverse of ``MetaModel.to_json``.

    Raises:
        ValueError: an unknown kind, or a LightGBM kind without its text file.
    """
    if record["kind"] not in CANDIDATES:
        raise ValueError(f"meta-model kind {record['kind']!r} is unknown; known are {CANDIDATES}")
    if record["kind"].startswith("lightgbm") and booster is None:
        raise ValueError(f"meta-model kind {record['kind']} needs the text file of its booster")
    return MetaModel(
        kind=record["kind"],
        columns=Columns(tuple(record["experts"])),
        expert=int(record["expert"]),
        coefficients=tuple(record["coefficients"]),
        intercept=float(record["intercept"]),
        booster=booster if record["kind"].startswith("lightgbm") else None,
    )


def fit_meta(
    kind: str,
    features: np.ndarray,
    labels: np.ndarray,
    *,
    columns: Columns,
    expert: int,
    model: lightgbm.LGBMClassifier,
    logits_model: lightgbm.LGBMClassifier,
) -> MetaModel:
    """Fit one candidate on all of X_meta."""
    if kind == "single":
        return MetaModel(kind, columns, expert=expert)
    if kind == "mean_logit":
        return MetaModel(kind, columns)
    logits = columns.logits(features)
    if kind == "logistic":
        fitted = logistic_classifier().fit(logits, labels)
        return MetaModel(
            kind,
            columns,
            coefficients=tuple(float(value) for value in fitted.coef_[0]),
            intercept=float(fitted.intercept_[0]),
        )
    if kind == "lightgbm_logits":
        return MetaModel(kind, columns, booster=clone(logits_model).fit(logits, labels).booster_)
    assert kind == "lightgbm", kind
    return MetaModel(kind, columns, booster=clone(model).fit(features, labels).booster_)


def logistic_classifier() -> LogisticRegression:
    """Logistic regression on the experts' logits, hardly regularised: two coefficients need no help."""
    return LogisticRegression(C=100.0, max_iter=1000)


def candidate_probs(
    features: np.ndarray,
    labels: np.ndarray,
    base_fold: np.ndarray,
    *,
    columns: Columns,
    expert: int,
    model: lightgbm.LGBMClassifier,
    logits_model: lightgbm.LGBMClassifier,
) -> dict[str, np.ndarray]:
    """Leave-base-fold-out probabilities [n] of every candidate; the first two have nothing to fit."""
    logits = columns.logits(features)
    return {
        "single": expit(logits[:, expert]),
        "mean_logit": expit(logits.mean(axis=1)),
        "logistic": out_of_fold_probs(logistic_classifier(), logits, labels, base_fold),
        "lightgbm_logits": out_of_fold_probs(logits_model, logits, labels, base_fold),
        "lightgbm": out_of_fold_probs(model, features, labels, base_fold),
    }


def choose(table: pd.DataFrame, *, ship: str) -> str:
    """Which candidate is shipped.

    Args:
        table: index = candidates, columns auc and auc_low (of its interval).
        ship: ``auto``, or a candidate that is forced.

    Returns:
        With ``auto`` the simplest candidate whose AUC lies within the interval of the best one.
    """
    if ship != "auto":
        return ship
    best = table.iloc[int(np.argmax(table["auc"].to_numpy()))]
    # An interval may be undefined or lie above its own figure; the winner always stands within its reach.
    reach = np.fmin(best["auc_low"], best["auc"])
    return next(name for name in CANDIDATES if table["auc"][name] >= reach)
