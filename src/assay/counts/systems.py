"""What every system says of the same rows: trained variants and baselines, of val and of test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from assay.counts.answers import Answers, answers
from assay.counts.baselines import baseline_counts, logreg_probs
from assay.counts.bins import Bins, cut, matched_cuts
from assay.counts.prediction import load_predictor
from assay.params.counts import EvaluateCounts


def variant_answers(
    folder: Path, texts: Mapping[str, list[str]], bins: Mapping[str, Bins], *, device: str
) -> dict[str, Answers]:
    """What the trained variant of a model folder says of ``val`` (kept by its training) and of the roles of ``texts``.

    Bins are those of its own rule; the variant on equal-width bins, which has none for quantile bins, cuts its counts as the
    baselines do.
    """
    kept, predictor = pd.read_parquet(folder / "val.parquet"), load_predictor(folder, device=device)
    counts, own = {"val": kept["predicted"].to_numpy()}, {"val": kept["bin"].to_numpy()}
    for role, asked in texts.items():
        outputs = predictor.outputs(asked, what=f"{folder.name}, {role}")
        counts[role], own[role] = predictor.objective.counts(outputs), predictor.bins_of(outputs)
    if predictor.bins.kind == "quantile":
        return {role: answers(values, bins, quantile=own[role]) for role, values in counts.items()}
    matched = matched_answers(counts, bins)
    return {role: answers(counts[role], bins, quantile=matched[role].quantile, width=own[role]) for role in counts}


def matched_answers(counts: Mapping[str, np.ndarray], bins: Mapping[str, Bins]) -> dict[str, Answers]:
    """Predicted counts by role, ``val`` among them; quantile bins are cut so that on val each is named as often as due."""
    cuts = matched_cuts(counts["val"], bins["quantile"].shares)
    return {role: answers(values, bins, quantile=cut(values, cuts)) for role, values in counts.items()}


def baseline_answers(
    rows: Mapping[str, pd.DataFrame],
    bins: Mapping[str, Bins],
    settings: EvaluateCounts,
    *,
    embed: Callable[[list[str]], np.ndarray],
    seed: int,
) -> dict[str, dict[str, Answers]]:
    """Constants, means by setting and linear models, fitted on every row of train: system -> role -> answers.

    All that predict numbers are cut into bins by one rule, `matched_answers`, which is the variants' as well, so that no
    system looks better or worse than another by its rule.

    Args:
        rows: ``train``, and the roles to answer for, ``val`` among them.
        embed: vectors [n, k] of n questions, for `encoder_ridge`.
    """
    train, roles = rows["train"], [role for role in rows if role != "train"]
    counts, middle = train["counts"].to_numpy(), bins["quantile"]
    largest = {kind: int(np.argmax(item.shares)) for kind, item in bins.items()}
    # Fitted once, for the rows of all roles.
    asked = pd.concat([rows[role] for role in roles], ignore_index=True)
    numbers = baseline_counts(train, asked, alpha=settings.ridge_alpha, embed=embed)
    numbers["tfidf_logreg"] = middle.expected(logreg_probs(train, asked, middle, c=settings.logistic_c, seed=seed))
    ends = np.cumsum([len(rows[role]) for role in roles])[:-1]
    said = {
        name: matched_answers(dict(zip(roles, np.split(values, ends), strict=True)), bins)
        for name, values in numbers.items()
    }
    said["majority"], said["median"] = {}, {}
    for role in roles:
        size = len(rows[role])
        expected = np.full(size, middle.means[largest["quantile"]])
        constant = {kind: np.full(size, number) for kind, number in largest.items()}
        said["majority"][role] = Answers(expected, constant["quantile"], constant["equal_width"])
        said["median"][role] = answers(np.full(size, float(np.median(counts))), bins)
    return said
