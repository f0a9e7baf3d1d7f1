"""Character n-gram TF-IDF + logistic regression: baseline, teacher, and a member of the ensemble. Saved without pickle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import log_softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline

from assay.core.io import read_json, write_json, write_parquet

TABLE, RECORD = "linear.parquet", "linear.json"
FOLDS = 5


def make_linear(*, max_ngram: int, c: float, seed: int) -> Pipeline:
    """TF-IDF of the characters' n-grams up to ``max_ngram``, then multinomial logistic regression; not fitted."""
    return make_pipeline(
        TfidfVectorizer(analyzer="char", ngram_range=(1, max_ngram), min_df=2, sublinear_tf=True),
        LogisticRegression(C=c, max_iter=2000, random_state=seed),
    )


def out_of_fold_probs(
    texts: Sequence[str], labels: np.ndarray, groups: np.ndarray, *, max_ngram: int, c: float, seed: int
) -> np.ndarray:
    """Probabilities float64 [n, num_classes] of each text by a linear model that has not seen its group.

    What a model says of the texts it was fitted on is near their labels and would teach nothing.
    """
    model, splits = make_linear(max_ngram=max_ngram, c=c, seed=seed), GroupKFold(n_splits=FOLDS)
    probs: np.ndarray = cross_val_predict(model, texts, labels, groups=groups, cv=splits, method="predict_proba")
    return probs


@dataclass(frozen=True)
class LinearModel:
    """A fitted linear model as plain arrays.

    Attributes:
        grams: its n-grams.
        idf: float64 [num_grams].
        weights: float64 [num_grams, num_classes].
        bias: float64 [num_classes].
        max_ngram: longest n-gram.
    """

    grams: list[str]
    idf: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    max_ngram: int

    def log_probs(self, texts: Sequence[str]) -> np.ndarray:
        """Log-probabilities float64 [n, num_classes]."""
        places = {gram: number for number, gram in enumerate(self.grams)}
        words = TfidfVectorizer(analyzer="char", ngram_range=(1, self.max_ngram), sublinear_tf=True, vocabulary=places)
        words.idf_ = self.idf
        scores = words.transform(texts) @ self.weights + self.bias
        found: np.ndarray = log_softmax(scores, axis=1)
        return found


def fit_linear(texts: Sequence[str], labels: np.ndarray, *, max_ngram: int, c: float, seed: int) -> LinearModel:
    """Fit on ``texts`` and ``labels`` (int64 [n], every class from 0 on occurs)."""
    model = make_linear(max_ngram=max_ngram, c=c, seed=seed).fit(texts, labels)
    words, logistic = model[0], model[1]
    weights, bias = logistic.coef_.T, logistic.intercept_
    if weights.shape[1] == 1:  # two classes: scikit-learn keeps one score, for the second
        weights, bias = np.hstack([-weights / 2, weights / 2]), np.array([-bias[0] / 2, bias[0] / 2])
    return LinearModel(list(words.get_feature_names_out()), words.idf_, weights, bias, max_ngram)


def save_linear(folder: Path, model: LinearModel) -> None:
    """Write ``linear.parquet`` (gram, idf, a weight per class) and ``linear.json``."""
    columns = {f"weight_{number}": column for number, column in enumerate(model.weights.T)}
    write_parquet(folder / TABLE, pd.DataFrame({"gram": model.grams, "idf": model.idf} | columns))
    write_json(folder / RECORD, {"max_ngram": model.max_ngram, "bias": model.bias.tolist()})


def load_linear(folder: Path) -> LinearModel:
    """The model that `save_linear` wrote.

    Raises:
        ValueError: files missing.
    """
    try:
        table, record = pd.read_parquet(folder / TABLE), read_json(folder / RECORD)
        bias = np.array(record["bias"], dtype=np.float64)
        weights = table[[f"weight_{number}" for number in range(len(bias))]].to_numpy()
        return LinearModel(list(table["gram"]), table["idf"].to_numpy(), weights, bias, int(record["max_ngram"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder}: no linear model that can be read: {error}") from error
