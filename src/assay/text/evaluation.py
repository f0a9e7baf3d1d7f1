"""What follows from the metrics of the text line: by length, the worst mistakes, and what each part is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from assay.metrics.binary import summarise
from assay.metrics.claims import claim
from assay.report.tables import confident_mistakes

# Shown of each range of lengths.
METRICS = ["n", "accuracy", "accuracy_low", "accuracy_high"]

# (system, the one that it is compared with, key of the difference).
RIVALS = (
    ("test", "tfidf_bigram", "accuracy_gain"),
    ("test", "linear", "accuracy_gain_linear"),
    ("test", "small", "accuracy_gain_small"),
    ("small", "linear", "accuracy_gain_linear"),
    ("pretrained", "tfidf_bigram", "accuracy_gain"),
    ("pretrained", "linear", "accuracy_gain_linear"),
    ("pretrained", "own", "accuracy_gain_own"),
    ("distilled", "own", "accuracy_gain_own"),
    ("distilled", "linear", "accuracy_gain_linear"),
    ("own", "tfidf_bigram", "accuracy_gain"),
    ("linear", "tfidf_bigram", "accuracy_gain"),
)
OURS = {
    "test": "What ships",
    "small": "The small classifier",
    "pretrained": "The pretrained network alone",
    "distilled": "The own encoder taught by the pretrained network",
    "own": "The own encoder alone",
    "linear": "The linear member",
}
THEIRS = {
    "tfidf_bigram": "character bigrams",
    "linear": "the linear member alone",
    "small": "the small classifier",
    "own": "the own encoder alone",
}


def system_probs(scores: pd.DataFrame, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Probabilities [n, num_classes] of every system, from columns ``<system>.<class>``."""
    names = dict.fromkeys(column.partition(".")[0] for column in scores.columns if "." in column)
    return {name: scores[[f"{name}.{label}" for label in classes]].to_numpy() for name in names}


def by_length(rows: pd.DataFrame, probs: np.ndarray, *, edges: Sequence[int], **options: Any) -> pd.DataFrame:
    """Accuracy in ranges of length.

    Args:
        rows: columns text, label, group.
        probs: [n, num_classes].
        edges: lengths (characters) at which a new range begins.
        options: of `summarise`.

    Returns:
        Columns characters (the range), n, accuracy, accuracy_low, accuracy_high; ranges without a text are left out.
    """
    length = rows["text"].str.len().to_numpy()
    found = []
    for low, high in pairwise([0, *edges, np.inf]):
        here = (length >= low) & (length < high)
        if here.any():
            part = rows[here]
            report = summarise(part["label"].to_numpy(), probs[here], part["group"].to_numpy(), **options)
            name = f"{low:.0f}+" if high == np.inf else f"{low:.0f}-{high - 1:.0f}"
            found.append({"characters": name} | {metric: report[metric] for metric in METRICS})
    return pd.DataFrame(found)


def mistakes(rows: pd.DataFrame, probs: np.ndarray, classes: Sequence[str], *, limit: int) -> pd.DataFrame:
    """The ``limit`` most confident wrong answers: sample_id, text, label, predicted, confidence; most confident first."""
    wrong = confident_mistakes(rows[["sample_id", "text"]], rows["label"].to_numpy(), probs, classes)
    return wrong.rename(columns={"true": "label"}).head(limit)


def conclusion(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What each part gains in accuracy, in sentences from figures; systems that were not measured are left out."""
    return [
        claim(
            reports[system],
            key,
            ours=OURS[system],
            theirs=THEIRS[other],
            metric="accuracy",
            one_training=system != "linear",
        )
        for system, other, key in RIVALS
        if key in reports.get(system, {})
    ]
