"""Log-probabilities of every fine-tuned model as a table per role: written by score_vlm, read by vlm_predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp

# What a network says of the training rows that it was not trained on, in its folder.
OUT_OF_FOLD = "out_of_fold.parquet"
# In front of the names of second models, and their folder.
SECOND = "high_risk/"
# The name of all second models together: of no network.
POOL = "mean"
# Test images of each outcome whose marks are kept.
SHOWN = 8
KEYS = ["sample_id", "name", "group", "label", "picture"]


def as_rows(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Columns sample_id, name, picture, group, label of conversations, in their order."""
    table = pd.DataFrame(list(records), columns=["sample_id", "name", "group", "label"])
    return table.assign(picture=[record["images"][0] for record in records])


def scores_table(rows: pd.DataFrame, raw: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The rows with ``<system>.<number>``: log-probabilities [n, C] of each system's classes."""
    columns = {f"{name}.{c}": values[:, c] for name, values in raw.items() for c in range(values.shape[1])}
    return pd.concat([rows[KEYS].reset_index(drop=True), pd.DataFrame(columns)], axis=1)


def told_apart(
    records: Sequence[Mapping[str, Any]], log_probs: np.ndarray, is_high: np.ndarray
) -> list[dict[str, Any]]:
    """Some conversations of each outcome of a second model, with ``outcome``: found, missed or false alarm.

    Args:
        log_probs: [n, 2] of no and yes.
        is_high: bool [n], the truth.
    """
    named = log_probs[:, 1] > log_probs[:, 0]
    outcomes = {"found": is_high & named, "missed": is_high & ~named, "false alarm": ~is_high & named}
    return [
        {**records[number], "outcome": outcome}
        for outcome, rows in outcomes.items()
        for number in np.flatnonzero(rows)[:SHOWN]
    ]


def pooled(log_probs: Sequence[np.ndarray]) -> np.ndarray:
    """The logarithmic opinion pool of equal weights (Genest and Zidek 1986, section 3): log-probabilities [n, C] of each."""
    mean = np.mean(log_probs, axis=0)
    return np.asarray(mean - logsumexp(mean, axis=1, keepdims=True))


def with_pool(raw: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The scores, and those of all second models together, where there are several, as one more."""
    seconds = [values for name, values in raw.items() if name.startswith(SECOND)]
    return {**raw, **({f"{SECOND}{POOL}": pooled(seconds)} if len(seconds) > 1 else {})}


def raw_scores(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """What `scores_table` wrote: system -> log-probabilities [n, C]."""
    columns: dict[str, list[str]] = {}
    for column in table.columns.difference(KEYS, sort=False):
        columns.setdefault(column.rpartition(".")[0], []).append(column)
    return {name: table[parts].to_numpy() for name, parts in columns.items()}
