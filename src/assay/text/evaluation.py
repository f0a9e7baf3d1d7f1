"""What follows from the figures of the text line: by length, the worst mistakes, and which classifier to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from assay.metrics.binary import summarise
from assay.metrics.paired import gain_text, pays, verdict
from assay.report.tables import confident_mistakes

# What is told of each range of lengths.
FIGURES = ("n", "accuracy", "accuracy_low", "accuracy_high")


def system_probs(scores: pd.DataFrame, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Probabilities [n, num_classes] of every system, from columns ``<system>.<class>``."""
    names = dict.fromkeys(column.partition(".")[0] for column in scores.columns if "." in column)
    return {name: scores[[f"{name}.{label}" for label in classes]].to_numpy() for name in names}


def by_length(rows: pd.DataFrame, probs: np.ndarray, *, edges: Sequence[int], **how: Any) -> pd.DataFrame:
    """Accuracy in ranges of length.

    Args:
        rows: columns text, label, group.
        probs: [n, num_classes].
        edges: lengths (characters) at which a new range begins.
        how: options of `summarise`.

    Returns:
        Columns characters (the range), n, accuracy, accuracy_low, accuracy_high; ranges without a text are left out.
    """
    bounds = [0, *edges, np.inf]
    length = rows["text"].str.len().to_numpy()
    found = []
    for low, high in pairwise(bounds):
        here = (length >= low) & (length < high)
        if here.any():
            part = rows[here]
            report = summarise(part["label"].to_numpy(), probs[here], part["group"].to_numpy(), **how)
            name = f"{low:.0f}+" if high == np.inf else f"{low:.0f}-{high - 1:.0f}"
            found.append({"characters": name} | {figure: report[figure] for figure in FIGURES})
    return pd.DataFrame(found)


def mistakes(rows: pd.DataFrame, probs: np.ndarray, classes: Sequence[str], *, limit: int) -> pd.DataFrame:
    """The ``limit`` most confident wrong answers: sample_id, text, label, predicted, confidence; most confident first."""
    wrong = confident_mistakes(rows[["sample_id", "text"]], rows["label"].to_numpy(), probs, classes)
    return wrong.rename(columns={"true": "label"}).head(limit)


def conclusion(reports: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What to use, in words that follow from the figures."""
    ours, baseline, alone = reports["test"], reports["tfidf_bigram"], reports["network"]
    lines = [
        f"The classifier that ships: accuracy {ours['accuracy']:.4f} [{ours['accuracy_low']:.4f}, "
        f"{ours['accuracy_high']:.4f}] (n {ours['n']:.0f}), {verdict(ours, 'accuracy_gain')} character bigrams' "
        f"{baseline['accuracy']:.4f} ({gain_text(ours, 'accuracy_gain', digits=4)}).",
        f"One network alone: {alone['accuracy']:.4f}, {verdict(alone, 'accuracy_gain')} the bigrams "
        f"({gain_text(alone, 'accuracy_gain', digits=4)}).",
    ]
    if "linear" in reports:
        linear = reports["linear"]
        lines.append(
            f"Its linear member alone: {linear['accuracy']:.4f}, {verdict(linear, 'accuracy_gain')} the bigrams "
            f"({gain_text(linear, 'accuracy_gain', digits=4)}); all together are {verdict(ours, 'accuracy_gain_linear')} it "
            f"({gain_text(ours, 'accuracy_gain_linear', digits=4)})."
        )
    if "no_pretraining" in reports:
        lines.append(
            f"Pretraining {pays(alone, 'accuracy_gain_pretraining')}: {alone['accuracy']:.4f} with, "
            f"{reports['no_pretraining']['accuracy']:.4f} without "
            f"({gain_text(alone, 'accuracy_gain_pretraining', digits=4)})."
        )
    if ours["accuracy_gain_low"] > 0:
        lines.append("Use the classifier that ships.")
    else:
        lines.append("Character bigrams cost next to nothing and are not shown to be worse: use these.")
    return lines
