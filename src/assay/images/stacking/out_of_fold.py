"""The out-of-fold table: every training row embedded by networks that never saw it.

A network that trained on a row has fitted that row's label; its embedding of the row says more than an embedding of a
new image can, and a meta-model fitted on such rows trusts it too much (Wolpert, "Stacked Generalization", 1992). So
fold k's networks are trained without fold k and embed fold k only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

HELD_OUT, ANCHOR = "held_out", "anchor"
KEYS = ["sample_id", "label", "group_id", "base_fold", "part"]


def embedding_columns(expert: str, dim: int) -> list[str]:
    """Column names of one expert's embedding: ``<expert>_e000`` and on."""
    return [f"{expert}_e{number:03d}" for number in range(dim)]


def logit_column(expert: str) -> str:
    """Column name of one expert's logit."""
    return f"{expert}_logit"


def expert_frame(expert: str, embeddings: np.ndarray, logits: np.ndarray) -> pd.DataFrame:
    """Embeddings [n, d] and logits [n] of one expert as float32 columns."""
    frame = pd.DataFrame(embeddings.astype(np.float32), columns=embedding_columns(expert, embeddings.shape[1]))
    frame[logit_column(expert)] = logits.astype(np.float32)
    return frame


@dataclass(frozen=True)
class Stacked:
    """Rows of one part of all folds, in a fixed order.

    Attributes:
        keys: sample_id, label, group_id, base_fold; one row per entry.
        embeddings: expert -> float32 [n, d].
        logits: expert -> float32 [n].
    """

    keys: pd.DataFrame
    embeddings: dict[str, np.ndarray]
    logits: dict[str, np.ndarray]


def _stack(frame: pd.DataFrame, experts: Sequence[str], dim: int) -> Stacked:
    return Stacked(
        frame[KEYS[:-1]].reset_index(drop=True),
        {name: frame[embedding_columns(name, dim)].to_numpy(dtype=np.float32) for name in experts},
        {name: frame[logit_column(name)].to_numpy(dtype=np.float32) for name in experts},
    )


def join_folds(tables: Sequence[pd.DataFrame], folds: pd.DataFrame, *, experts: Sequence[str], dim: int) -> Stacked:
    """The held-out rows of all folds as one table, checked against the fold table and ordered by sample_id.

    Args:
        tables: one per fold, as ``kfold`` writes them.
        folds: columns sample_id and fold: the fold table of ``prepare``.

    Raises:
        ValueError: naming the rows that are missing, doubled, in the wrong fold, or not finite.
    """
    rows = pd.concat([table[table["part"] == HELD_OUT] for table in tables], ignore_index=True)
    doubled = sorted(set(rows.loc[rows["sample_id"].duplicated(), "sample_id"]))
    if doubled:
        raise ValueError(f"{len(doubled)} sample(s) stand in more than one fold's table: {doubled[:5]}")
    wanted = folds.set_index("sample_id")["fold"]
    missing = sorted(set(wanted.index) - set(rows["sample_id"]))
    extra = sorted(set(rows["sample_id"]) - set(wanted.index))
    if missing or extra:
        raise ValueError(
            f"out-of-fold tables and fold table disagree: {len(missing)} sample(s) missing {missing[:5]}, "
            f"{len(extra)} unknown {extra[:5]}; run dvc repro on the kfold stages"
        )
    rows = rows.sort_values("sample_id", ignore_index=True)
    strayed = rows.loc[rows["base_fold"].to_numpy() != wanted.loc[rows["sample_id"]].to_numpy(), "sample_id"]
    if len(strayed):
        raise ValueError(
            f"{len(strayed)} sample(s) were embedded by networks of another fold, which saw them: {list(strayed[:5])}"
        )
    check_finite(rows, experts, dim)
    return _stack(rows, experts, dim)


def check_finite(rows: pd.DataFrame, experts: Sequence[str], dim: int) -> None:
    """Raise a ValueError that names the expert and the samples with NaN or infinite values."""
    for expert in experts:
        columns = [*embedding_columns(expert, dim), logit_column(expert)]
        absent = [name for name in columns if name not in rows]
        if absent:
            raise ValueError(f"the out-of-fold tables lack {len(absent)} column(s) of expert {expert}: {absent[:3]}")
        bad = rows.loc[~np.isfinite(rows[columns].to_numpy(dtype=np.float64)).all(axis=1), "sample_id"]
        if len(bad):
            raise ValueError(f"expert {expert} gave NaN or infinite values for {len(bad)} sample(s): {list(bad[:5])}")


def join_anchors(tables: Sequence[pd.DataFrame], *, experts: Sequence[str], dim: int) -> list[Stacked]:
    """Each fold's embeddings of the common anchors, in one order for all folds.

    Raises:
        ValueError: folds that embedded different anchors.
    """
    stacks = []
    for table in tables:
        rows = table[table["part"] == ANCHOR].sort_values("sample_id", ignore_index=True)
        check_finite(rows, experts, dim)
        stacks.append(_stack(rows, experts, dim))
    first = stacks[0].keys["sample_id"]
    for number, stack in enumerate(stacks):
        if not first.equals(stack.keys["sample_id"]):
            odd = sorted(set(first) ^ set(stack.keys["sample_id"]))
            raise ValueError(f"folds 0 and {number} embedded different anchors, among them {odd[:5]}")
    return stacks


def feature_names(experts: Sequence[str], dim: int) -> list[str]:
    """Column names of X_meta: the experts' embeddings one after the other, then their logits."""
    return [name for expert in experts for name in embedding_columns(expert, dim)] + [logit_column(e) for e in experts]


def feature_matrix(embeddings: dict[str, np.ndarray], logits: dict[str, np.ndarray]) -> np.ndarray:
    """X_meta float32 [n, sum(d) + number of experts], in the order of ``feature_names``."""
    parts = [*embeddings.values(), np.stack(list(logits.values()), axis=1)]
    return np.ascontiguousarray(np.concatenate(parts, axis=1), dtype=np.float32)
