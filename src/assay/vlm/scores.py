"""Log-probabilities of every fine-tuned model as a table per role: written by score_vlm, read by vlm_predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

KEYS = ["sample_id", "name", "group", "label", "picture"]


def as_rows(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Columns sample_id, name, picture, group, label of conversations, in their order."""
    table = pd.DataFrame(list(records), columns=["sample_id", "name", "group", "label"])
    return table.assign(picture=[record["images"][0] for record in records])


def scores_table(rows: pd.DataFrame, raw: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The rows with ``<system>.<number>``: log-probabilities [n, C] of each system's classes."""
    columns = {f"{name}.{c}": values[:, c] for name, values in raw.items() for c in range(values.shape[1])}
    return pd.concat([rows[KEYS].reset_index(drop=True), pd.DataFrame(columns)], axis=1)


def raw_scores(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """What `scores_table` wrote: system -> log-probabilities [n, C]."""
    columns: dict[str, list[str]] = {}
    for column in table.columns.difference(KEYS, sort=False):
        columns.setdefault(column.rpartition(".")[0], []).append(column)
    return {name: table[parts].to_numpy() for name, parts in columns.items()}
