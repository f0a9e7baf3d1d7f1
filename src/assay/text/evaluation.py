"""What follows from the metrics of the text line: by length, the worst mistakes, and which classifier to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from assay.metrics.binary import summarise
from assay.metrics.paired import gain_text, pays, verdict
from assay.report.tables import confident_mistakes

# Shown of each range of lengths.
METRICS = ["n", "accuracy", "accuracy_low", "accuracy_high"]


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


def conclusion(reports: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What to use, in words that follow from the metrics."""
    gain = partial(gain_text, digits=4)
    ours, alone, bigrams = reports["test"], reports["network"], reports["tfidf_bigram"]["accuracy"]
    interval = f"[{ours['accuracy_low']:.4f}, {ours['accuracy_high']:.4f}]"
    lines = [
        f"The classifier that ships: accuracy {ours['accuracy']:.4f} {interval} (n {ours['n']:.0f}), "
        f"{verdict(ours, 'accuracy_gain')} character bigrams' {bigrams:.4f} ({gain(ours, 'accuracy_gain')}).",
        f"One network alone: {alone['accuracy']:.4f}, {verdict(alone, 'accuracy_gain')} the bigrams "
        f"({gain(alone, 'accuracy_gain')}).",
    ]
    if "linear" in reports:
        linear = reports["linear"]
        lines.append(
            f"Its linear member alone: {linear['accuracy']:.4f}, {verdict(linear, 'accuracy_gain')} the bigrams "
            f"({gain(linear, 'accuracy_gain')}); all together are {verdict(ours, 'accuracy_gain_linear')} it "
            f"({gain(ours, 'accuracy_gain_linear')})."
        )
    if "no_pretraining" in reports:
        key, without = "accuracy_gain_pretraining", reports["no_pretraining"]["accuracy"]
        lines.append(
            f"Pretraining {pays(alone, key)}: {alone['accuracy']:.4f} with, {without:.4f} without ({gain(alone, key)})."
        )
    if ours["accuracy_gain_low"] > 0:
        lines.append("Use the classifier that ships.")
    else:
        lines.append("Character bigrams cost next to nothing and are not shown to be worse: use these.")
    return lines
