"""Boosted trees as plain arrays, read within their bounds: LightGBM's model without LightGBM.

LightGBM's reader of its own text format trusts the numbers in it: a child or feature number that is out of range ends the
process. Here the numbers are checked once, when they are read: every child lies behind its parent, so that a walk from a
root ends, and every number names something that is there. What comes out equals LightGBM's ``predict`` bit for bit: the same
comparisons in float64, leaves added tree by tree, the C library's exponential.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

# Bits of LightGBM's decision_type: a split by categories, and what stands for a missing value (0: nothing does). X_meta has
# neither categories nor missing values.
CATEGORICAL, MISSING = 1, 12
# What lies between is 0 to LightGBM (its kZeroThreshold, a float32).
ZERO = float(np.float32(1e-35))
NODE_ARRAYS = ("feature", "threshold", "left", "right")


@dataclass(frozen=True)
class Trees:
    """Trees for one binary output. A child or root that is negative is the leaf ``-1 - number``.

    Attributes:
        num_features: columns of what is judged.
        roots: of each tree, int64 [num_trees].
        feature: column that a node looks at, int64 [num_nodes].
        threshold: float64 [num_nodes]; a value that is not above it goes left.
        left, right: int64 [num_nodes].
        leaf: float64 [num_leaves], what a tree adds to the log-odds.
    """

    num_features: int
    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    leaf: np.ndarray

    def __post_init__(self) -> None:
        """Raise ValueError, naming the array, where a walk could leave the trees or go on for ever."""
        nodes, leaves = len(self.feature), len(self.leaf)
        for name in (*NODE_ARRAYS, "roots", "leaf"):
            values, kind = getattr(self, name), np.float64 if name in ("threshold", "leaf") else np.int64
            wanted = nodes if name in NODE_ARRAYS else None
            if values.dtype != kind or values.ndim != 1 or wanted not in (None, len(values)):
                raise ValueError(f"trees: {name} is {values.dtype} {values.shape}; run dvc repro train_meta")
            if not np.isfinite(values).all():
                raise ValueError(f"trees: {name} is not finite; run dvc repro train_meta")
        behind = np.arange(1, nodes + 1)
        places = {"roots": (self.roots, 0), "left": (self.left, behind), "right": (self.right, behind)}
        for name, (values, first) in places.items():
            if not (((values >= first) & (values < nodes)) | ((values < 0) & (values >= -leaves))).all():
                raise ValueError(f"trees: {name} names no node or leaf that can follow; run dvc repro train_meta")
        if not ((self.feature >= 0) & (self.feature < self.num_features)).all():
            raise ValueError(f"trees: feature is not one of {self.num_features}; run dvc repro train_meta")

    def probs(self, features: np.ndarray) -> np.ndarray:
        """Probability float64 [n] of rows [n, num_features]."""
        if features.ndim != 2 or features.shape[1] != self.num_features:
            raise ValueError(f"features {features.shape}: the trees read {self.num_features} columns")
        values = features.astype(np.float64)
        # A missing value is 0 as well where training had none.
        values[np.isnan(values) | (np.abs(values) <= ZERO)] = 0.0
        rows = np.arange(len(values))[:, None]
        place = np.tile(self.roots, (len(values), 1))
        while (inner := place >= 0).any():
            node = np.where(inner, place, 0)
            below = np.where(
                values[rows, self.feature[node]] <= self.threshold[node], self.left[node], self.right[node]
            )
            place = np.where(inner, below, place)
        # A running sum adds one tree after the other, as LightGBM does; a sum may add in pairs. From 0.0 on.
        said = np.hstack([np.zeros((len(values), 1)), self.leaf[-1 - place]])
        # NumPy's own exponential differs from the C library's in the last bit.
        return np.array([1.0 / (1.0 + _exp(-score)) for score in np.cumsum(said, axis=1)[:, -1].tolist()])

    def tensors(self) -> dict[str, np.ndarray]:
        """As named arrays, which `trees_of_tensors` reads back."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return arrays | {"num_features": np.array([self.num_features])}


def _exp(value: float) -> float:
    """The C library's exponential; infinite beyond what float64 holds."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def trees_of_tensors(tensors: Mapping[str, np.ndarray]) -> Trees:
    """The trees of `Trees.tensors`.

    Raises:
        ValueError: an array is missing, or names what is not there.
    """
    names = {field.name for field in fields(Trees)}
    if tensors.keys() != names or tensors["num_features"].shape != (1,):
        raise ValueError(f"trees: arrays {', '.join(sorted(names))} are wanted; run dvc repro train_meta")
    arrays = {name: tensors[name] for name in names - {"num_features"}}
    return Trees(num_features=int(tensors["num_features"][0]), **arrays)


def trees_of_text(text: str) -> Trees:
    """The trees of a model of LightGBM that was trained here, from its text (docs of LightGBM: ``Booster.save_model``).

    Only for text that comes straight from the booster: a stranger's goes through `trees_of_tensors`.
    """
    head, *blocks = text.split("\nend of trees")[0].split("\nTree=")
    assert "\nobjective=binary sigmoid:1\n" in f"{head}\n", "one output, through the plain logistic function"
    width = re.search(r"^max_feature_idx=(\d+)$", head, flags=re.MULTILINE)
    assert width is not None
    found: dict[str, list[np.ndarray]] = {
        name: [] for name in ("roots", "feature", "threshold", "left", "right", "leaf")
    }
    nodes = leaves = 0
    for block in blocks:
        lines = dict(line.split("=", 1) for line in block.splitlines()[1:] if "=" in line)

        def numbers(name: str, kind: type, lines: Mapping[str, str] = lines) -> np.ndarray:
            return np.array([kind(value) for value in lines.get(name, "").split()], dtype=kind)

        assert lines["num_cat"] == "0"
        assert not any(numbers("decision_type", int) & (CATEGORICAL | MISSING))
        one = {"feature": numbers("split_feature", int), "threshold": numbers("threshold", float)}
        one["leaf"] = numbers("leaf_value", float)
        for side in ("left", "right"):
            child = numbers(f"{side}_child", int)
            one[side] = np.where(child >= 0, child + nodes, child - leaves)
        one["roots"] = np.array([nodes if len(one["feature"]) else -1 - leaves])
        for name, values in one.items():
            found[name].append(values)
        nodes, leaves = nodes + len(one["feature"]), leaves + len(one["leaf"])
    # Without a tree at all (nothing to split) the empty lists would be of floats.
    kinds = {name: np.float64 if name in ("threshold", "leaf") else np.int64 for name in found}
    arrays = {name: np.concatenate([np.empty(0, kinds[name]), *parts]) for name, parts in found.items()}
    return Trees(num_features=int(width[1]) + 1, **{name: array.astype(kinds[name]) for name, array in arrays.items()})
