"""What leaves at which pair of thresholds: the ground for a two-sided cascade."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from assay.metrics.intervals import clopper_pearson


def exit_table(
    probs: np.ndarray, labels: np.ndarray, *, exit_real: Sequence[float], exit_forged: Sequence[float]
) -> pd.DataFrame:
    """One row per pair of thresholds with ``exit_real < exit_forged``.

    An image leaves as real at probability <= exit_real and as forged at >= exit_forged; the rest is deferred.

    Args:
        probs: calibrated probability of forged [n].
        labels: 0 real, 1 forged [n].

    Returns:
        Columns exit_real, exit_forged, n; share_real, share_forged, share_deferred (of all); leak_forged (share of the
        forged that leave as real) and leak_real (share of the real that leave as forged), each with its one-sided 95 %
        Clopper-Pearson bound ``_upper``; error (share wrong among those that left), NaN where none left.
    """
    forged = labels == 1
    rows = []
    for low, high in product(sorted(exit_real), sorted(exit_forged)):
        if low >= high:
            continue
        as_real, as_forged = probs <= low, probs >= high
        missed, alarmed = int((as_real & forged).sum()), int((as_forged & ~forged).sum())
        left = int(as_real.sum() + as_forged.sum())
        rows.append(
            {
                "exit_real": low,
                "exit_forged": high,
                "n": len(probs),
                "share_real": float(as_real.mean()),
                "share_forged": float(as_forged.mean()),
                "share_deferred": 1 - left / len(probs),
                "leak_forged": missed / int(forged.sum()),
                "leak_forged_upper": clopper_pearson(missed, int(forged.sum()), side="upper")[1],
                "leak_real": alarmed / int((~forged).sum()),
                "leak_real_upper": clopper_pearson(alarmed, int((~forged).sum()), side="upper")[1],
                "error": (missed + alarmed) / left if left else float("nan"),
            }
        )
    return pd.DataFrame(rows)
