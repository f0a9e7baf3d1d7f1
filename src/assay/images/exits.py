"""What leaves at which pair of thresholds: the ground for a two-sided cascade."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from assay.metrics.bounds import SceneLeaks


def exit_table(
    probs: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    exit_real: Sequence[float],
    exit_forged: Sequence[float],
) -> pd.DataFrame:
    """One row per pair of thresholds with ``exit_real < exit_forged``.

    An image leaves as real at probability <= exit_real and as forged at >= exit_forged; the rest is deferred.

    Args:
        probs: calibrated probability of forged [n].
        labels: 0 real, 1 forged [n].
        groups: the scene of each [n].

    Returns:
        Columns exit_real, exit_forged, n, n_groups; share_real, share_forged, share_deferred (of all); leak_forged
        (share of the forged that leave as real) and leak_real (share of the real that leave as forged), means over
        scenes, each with its one-sided 95 % bound over scenes ``_upper``, which holds for a threshold that was not
        chosen by it (`assay.metrics.bounds`); error (share wrong among those that left), NaN where none left.
    """
    forged = labels == 1
    missed = {low: SceneLeaks.of(probs[forged] <= low, groups[forged]) for low in sorted(exit_real)}
    alarmed = {high: SceneLeaks.of(probs[~forged] >= high, groups[~forged]) for high in sorted(exit_forged)}
    rows = []
    for low, high in product(missed, alarmed):
        if low >= high:
            continue
        as_real, as_forged = probs <= low, probs >= high
        wrong = int(missed[low].leaked.sum() + alarmed[high].leaked.sum())
        left = int(as_real.sum() + as_forged.sum())
        rows.append(
            {
                "exit_real": low,
                "exit_forged": high,
                "n": len(probs),
                "n_groups": len(set(groups.tolist())),
                "share_real": float(as_real.mean()),
                "share_forged": float(as_forged.mean()),
                "share_deferred": 1 - left / len(probs),
                "leak_forged": missed[low].rate,
                "leak_forged_upper": missed[low].upper(),
                "leak_real": alarmed[high].rate,
                "leak_real_upper": alarmed[high].upper(),
                "error": wrong / left if left else float("nan"),
            }
        )
    return pd.DataFrame(rows)
