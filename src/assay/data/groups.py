"""Groups that must be one, since what they hold belongs together."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def components(left: np.ndarray, right: np.ndarray, *, count: int) -> np.ndarray:
    """Component number of each of ``count`` nodes joined by the edges left[i] - right[i]."""
    edges = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(count, count))
    return connected_components(edges, directed=False)[1]


def join_groups(groups: list[str], clusters: np.ndarray) -> list[str]:
    """Merge declared groups that share a cluster, say of near-duplicates; they take the first name by sort order."""
    names, codes = np.unique(np.asarray(groups, dtype=object), return_inverse=True)
    nodes = len(names) + np.asarray(clusters, dtype=np.int64)
    component = components(codes, nodes, count=int(nodes.max(initial=-1)) + 1)[: len(names)]
    # names are sorted, so the first node of a component carries its first name
    _, first, member = np.unique(component, return_index=True, return_inverse=True)
    return [str(name) for name in names[first[member]][codes]]
