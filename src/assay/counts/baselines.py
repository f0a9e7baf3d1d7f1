"""What a network has to beat: constants, the setting alone, and linear models on words and word pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

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


def logreg_probs(train: pd.DataFrame, texts: list[str], bins: Bins, *, c: float, seed: int) -> np.ndarray:
    """Probabilities [n, num_bins] by multinomial logistic regression over bins; a bin that train lacks has 0."""
    model = make_pipeline(_words(), LogisticRegression(C=c, max_iter=1000, random_state=seed))
    model.fit(list(train["text"]), bins.assign(train["counts"]))
    probs = np.zeros((len(texts), bins.num_bins))
    probs[:, model[-1].classes_] = model.predict_proba(texts)
    return probs


def baseline_counts(train: pd.DataFrame, *roles: pd.DataFrame, alpha: float) -> list[dict[str, np.ndarray]]:
    """For each of ``roles`` the counts of the baselines that predict a number: ``setting_mean`` and ``tfidf_ridge``.

    The latter is ridge regression of log(1 + count), kept within the range of train.
    """
    counts = train["counts"].to_numpy()
    ridge = make_pipeline(_words(), Ridge(alpha=alpha)).fit(list(train["text"]), np.log1p(counts))
    low, high = float(counts.min()), float(counts.max())
    return [
        {
            "setting_mean": setting_counts(train, role["setting"]),
            "tfidf_ridge": np.clip(np.expm1(ridge.predict(list(role["text"]))), low, high),
        }
        for role in roles
    ]
