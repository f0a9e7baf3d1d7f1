"""What a network has to beat: constants, and linear models on words and word pairs."""

from __future__ import annotations

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline

from assay.counts.bins import Bins


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
