"""What a network has to beat: constants, the setting alone, and linear models on words and word pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline

from assay.counts.bins import Bins


def setting_counts(train: pd.DataFrame, settings: pd.Series) -> np.ndarray:
    """Counts float64 [n] that know the setting and nothing of the question: its geometric mean over train.

    ``train`` has columns setting and counts. A setting that train lacks gets the mean over all of train.
    """
    logs = np.log1p(train["counts"])
    means = logs.groupby(train["setting"]).mean()
    return np.expm1(settings.map(means).fillna(logs.mean()).to_numpy(dtype=np.float64))


def _words() -> TfidfVectorizer:
    return TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)


def tfidf_ridge(texts: list[str], counts: np.ndarray, *, alpha: float) -> Pipeline:
    """Ridge regression on the TF-IDF of words and word pairs; the target is log(1 + count)."""
    return make_pipeline(_words(), Ridge(alpha=alpha)).fit(texts, np.log1p(counts))


def ridge_counts(model: Pipeline, texts: list[str], *, low: float, high: float) -> np.ndarray:
    """Counts float64 [n] by a fitted `tfidf_ridge`, kept within the range of train."""
    return np.clip(np.expm1(model.predict(texts)), low, high)


def tfidf_logreg(texts: list[str], counts: np.ndarray, bins: Bins, *, c: float, seed: int) -> Pipeline:
    """Multinomial logistic regression on the same features, over bins."""
    model = make_pipeline(_words(), LogisticRegression(C=c, max_iter=1000, random_state=seed))
    return model.fit(texts, bins.assign(counts))


def logreg_probs(model: Pipeline, texts: list[str], bins: Bins) -> np.ndarray:
    """Probabilities [n, num_bins] by a fitted `tfidf_logreg`; a bin that train lacks has 0."""
    probs = np.zeros((len(texts), bins.num_bins))
    probs[:, model[-1].classes_] = model.predict_proba(texts)
    return probs


def baseline_counts(train: pd.DataFrame, *roles: pd.DataFrame, alpha: float) -> list[dict[str, np.ndarray]]:
    """For each of ``roles`` the counts of the baselines that predict a number: ``setting_mean`` and ``tfidf_ridge``."""
    counts = train["counts"].to_numpy()
    ridge = tfidf_ridge(list(train["text"]), counts, alpha=alpha)
    keep = {"low": float(counts.min()), "high": float(counts.max())}
    return [
        {
            "setting_mean": setting_counts(train, role["setting"]),
            "tfidf_ridge": ridge_counts(ridge, list(role["text"]), **keep),
        }
        for role in roles
    ]
