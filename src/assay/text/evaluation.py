"""What follows from the figures of the text line: by length, the worst mistakes, and which classifier to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from assay.metrics.binary import summarise
from assay.metrics.paired import verdict

# What is told of each range of lengths.
FIGURES = ("n", "accuracy", "accuracy_low", "accuracy_high")


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
    names, predicted = np.array(classes), probs.argmax(axis=1)
    table = rows[["sample_id", "text"]].assign(
        label=names[rows["label"]], predicted=names[predicted], confidence=probs.max(axis=1).round(4)
    )
    wrong = table[predicted != rows["label"].to_numpy()]
    return wrong.sort_values(["confidence", "sample_id"], ascending=[False, True]).head(limit)


def conclusion(reports: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What to use, in words that follow from the figures."""
    ours, baseline, alone = reports["test"], reports["tfidf_bigram"], reports["network"]
    lines = [
        f"The classifier that ships: accuracy {ours['accuracy']:.4f} [{ours['accuracy_low']:.4f}, "
        f"{ours['accuracy_high']:.4f}] (n {ours['n']:.0f}), {verdict(ours, 'accuracy_gain')} character bigrams' "
        f"{baseline['accuracy']:.4f} ({_gain(ours, 'accuracy_gain')}).",
        f"One network alone: {alone['accuracy']:.4f}, {verdict(alone, 'accuracy_gain')} the bigrams "
        f"({_gain(alone, 'accuracy_gain')}).",
    ]
    if "linear" in reports:
        linear = reports["linear"]
        lines.append(
            f"Its linear member alone: {linear['accuracy']:.4f}, {verdict(linear, 'accuracy_gain')} the bigrams "
            f"({_gain(linear, 'accuracy_gain')}); all together are {verdict(ours, 'accuracy_gain_linear')} it "
            f"({_gain(ours, 'accuracy_gain_linear')})."
        )
    if "no_pretraining" in reports:
        low, high = (alone[f"accuracy_gain_pretraining_{end}"] for end in ("low", "high"))
        pays = "pays" if low > 0 else "harms" if high < 0 else "is not shown to pay"
        lines.append(
            f"Pretraining {pays}: {alone['accuracy']:.4f} with, {reports['no_pretraining']['accuracy']:.4f} without "
            f"({_gain(alone, 'accuracy_gain_pretraining')})."
        )
    if ours["accuracy_gain_low"] > 0:
        lines.append("Use the classifier that ships.")
    else:
        lines.append("Character bigrams cost next to nothing and are not shown to be worse: use these.")
    return lines


def _gain(report: Mapping[str, float], key: str) -> str:
    return f"gain {report[key]:+.4f} [{report[f'{key}_low']:+.4f}, {report[f'{key}_high']:+.4f}]"
