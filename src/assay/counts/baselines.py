"""What a network has to beat: constants, the setting alone, and linear models on setting and question."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from assay.counts.bins import Bins
from assay.counts.question import question_of

INPUTS = ["text", "setting"]
PENALTIES = np.logspace(-2, 3, 26)


def setting_counts(train: pd.DataFrame, settings: pd.Series) -> np.ndarray:
    """Counts float64 [n] that know the setting and nothing of the question: its geometric mean over train.

    ``train`` has columns setting and counts. A setting that train lacks gets the mean over all of train.
    """
    logs = np.log1p(train["counts"])
    means = logs.groupby(train["setting"]).mean()
    return np.expm1(settings.map(means).fillna(logs.mean()).to_numpy(dtype=np.float64))


def _features() -> ColumnTransformer:
    """Words and word pairs of the text, and the setting as a category: its words alone leave most of it unsaid."""
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    return ColumnTransformer(
        [("words", words, "text"), ("setting", OneHotEncoder(handle_unknown="ignore"), ["setting"])]
    )


def logreg_probs(train: pd.DataFrame, asked: pd.DataFrame, bins: Bins, *, c: float, seed: int) -> np.ndarray:
    """Probabilities [n, num_bins] of the rows ``asked`` by multinomial logistic regression over bins.

    A bin that train lacks has 0. Both tables have columns text and setting.
    """
    model = make_pipeline(_features(), LogisticRegression(C=c, max_iter=1000, random_state=seed))
    model.fit(train[INPUTS], bins.assign(train["counts"]))
    probs = np.zeros((len(asked), bins.num_bins))
    probs[:, model[-1].classes_] = model.predict_proba(asked[INPUTS])
    return probs


def question_effects(
    train: pd.DataFrame, asked: pd.DataFrame, residuals: np.ndarray, *, embed: Callable[[list[str]], np.ndarray]
) -> np.ndarray:
    """What the question of each row ``asked`` adds to a log count, [n], by ridge regression on embeddings of questions.

    It learns the mean ``residuals`` [m] of each question of train; its penalty is the best of leave-one-out (RidgeCV).
    """
    known, wanted = (
        [question_of(text, setting) for text, setting in zip(rows["text"], rows["setting"], strict=True)]
        for rows in (train, asked)
    )
    every = list(dict.fromkeys([*known, *wanted]))
    vectors = dict(zip(every, embed(every), strict=True))
    means = pd.Series(residuals).groupby(np.array(known, dtype=object), sort=False).mean()
    model = RidgeCV(alphas=PENALTIES).fit(np.stack([vectors[question] for question in means.index]), means.to_numpy())
    found: np.ndarray = model.predict(np.stack([vectors[question] for question in wanted]))
    return found


def baseline_counts(
    train: pd.DataFrame, asked: pd.DataFrame, *, alpha: float, embed: Callable[[list[str]], np.ndarray]
) -> dict[str, np.ndarray]:
    """For the rows ``asked`` the counts of the baselines that predict a number, kept within the range of train.

    ``setting_mean``; ``tfidf_ridge``, ridge regression of log(1 + count); ``encoder_ridge``, the mean of the setting and
    `question_effects` by ``embed``.
    """
    logs, (low, high) = np.log1p(train["counts"].to_numpy()), (train["counts"].min(), train["counts"].max())
    ridge = make_pipeline(_features(), Ridge(alpha=alpha)).fit(train[INPUTS], logs)
    own, theirs = (np.log1p(setting_counts(train, rows["setting"])) for rows in (train, asked))
    numbers = {
        "setting_mean": theirs,
        "tfidf_ridge": ridge.predict(asked[INPUTS]),
        "encoder_ridge": theirs + question_effects(train, asked, logs - own, embed=embed),
    }
    return {name: np.clip(np.expm1(values), float(low), float(high)) for name, values in numbers.items()}
