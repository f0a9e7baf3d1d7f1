"""What every system says of the same rows: trained variants and baselines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from assay.counts.answers import Answers, answers
from assay.counts.baselines import baseline_counts, logreg_probs
from assay.counts.bins import Bins, cut, matched_cuts
from assay.counts.prediction import load_predictor
from assay.params.counts import EvaluateCounts


def variant_answers(folder: Path, texts: list[str], bins: dict[str, Bins], *, device: str) -> Answers:
    """What the trained variant of a model folder says: counts, and bins by its own rule."""
    predictor = load_predictor(folder, device=device)
    outputs = predictor.outputs(texts, what=folder.name)
    own = "width" if predictor.bins.kind == "equal_width" else "quantile"
    return answers(predictor.objective.counts(outputs), bins, **{own: predictor.bins_of(outputs)})


def baseline_answers(
    train: pd.DataFrame,
    val: pd.DataFrame,
    test: pd.DataFrame,
    bins: dict[str, Bins],
    settings: EvaluateCounts,
    *,
    seed: int,
) -> dict[str, Answers]:
    """Constants, means by setting and linear models, fitted on every row of train."""
    counts, size, shares = train["counts"].to_numpy(), len(test), bins["quantile"].shares
    largest = {kind: np.full(size, int(np.argmax(item.shares))) for kind, item in bins.items()}
    middle = np.full(size, bins["quantile"].means[int(largest["quantile"][0])])
    on_val, on_test = baseline_counts(train, val, test, alpha=settings.ridge_alpha)
    probs = logreg_probs(train, list(test["text"]), bins["quantile"], c=settings.logistic_c, seed=seed)
    # Bins are cut as those of the variants that predict a number.
    numbers = {
        name: answers(values, bins, quantile=cut(values, matched_cuts(on_val[name], shares)))
        for name, values in on_test.items()
    }
    return numbers | {
        "tfidf_logreg": answers(bins["quantile"].expected(probs), bins, quantile=probs.argmax(axis=1)),
        "majority": Answers(middle, largest["quantile"], largest["equal_width"]),
        "median": answers(np.full(size, float(np.median(counts))), bins),
    }
