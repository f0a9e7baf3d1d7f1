"""What a system says of every row, in the same units for all, and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from assay.counts.bins import Bins


@dataclass(frozen=True)
class Answers:
    """What one system says of every row.

    Attributes:
        counts: expected count [n].
        quantile: quantile bin [n].
        width: equal-width bin [n].
    """

    counts: np.ndarray
    quantile: np.ndarray
    width: np.ndarray


def answers(counts: np.ndarray, bins: Mapping[str, Bins], **own: np.ndarray) -> Answers:
    """Counts as answers in every unit; ``quantile`` or ``width`` replace what would follow from the counts."""
    quantile, width = bins["quantile"].assign(counts), bins["equal_width"].assign(counts)
    return Answers(counts, own.get("quantile", quantile), own.get("width", width))


def answers_table(said: Mapping[str, Answers]) -> pd.DataFrame:
    """Columns ``<system>.counts``, ``<system>.quantile`` and ``<system>.width``, in the order of the systems."""
    columns = {f"{name}.{unit}": values for name, item in said.items() for unit, values in asdict(item).items()}
    return pd.DataFrame(columns)


def answers_of(table: pd.DataFrame) -> dict[str, Answers]:
    """What `answers_table` wrote, other columns apart: system -> answers."""
    names = dict.fromkeys(column.rpartition(".")[0] for column in table.columns if "." in column)
    units = Answers.__annotations__
    return {name: Answers(**{unit: table[f"{name}.{unit}"].to_numpy() for unit in units}) for name in names}
