"""Thresholds of the two-sided exit, under a leakage budget.

Stage 1 lets an image leave as real at probability <= ``exit_real`` and as forged at >= ``exit_forged``. What leaves on the
wrong side leaks: nothing downstream can bring it back. The budget bounds both kinds of leak. Each threshold is the most
generous one whose leak on the tune role keeps within it, and a one-sided Clopper-Pearson bound (1934) says what that
certifies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from assay.metrics.intervals import clopper_pearson, rows_to_certify

# Thresholds that no probability reaches: nothing leaves on that side.
NEVER_REAL, NEVER_FORGED = -1.0, 2.0


@dataclass(frozen=True)
class Side:
    """One exit: its threshold, what leaked on tune, and what that certifies at 95 %.

    ``rows_needed``: rows of the leaking class that certify the budget if none of them leaks.
    """

    threshold: float
    leaked: int
    n: int
    leak: float
    leak_upper: float
    budget: float
    certified: bool
    rows_needed: int


@dataclass(frozen=True)
class Thresholds:
    """Both exits; ``exit_real.threshold < exit_forged.threshold``."""

    exit_real: Side
    exit_forged: Side

    @property
    def exits(self) -> dict[str, float]:
        """The two thresholds by name."""
        return {"exit_real": self.exit_real.threshold, "exit_forged": self.exit_forged.threshold}


def _most_generous(against: np.ndarray, candidates: np.ndarray, budget: float, *, certify: bool, never: float) -> Side:
    """The exit at the largest candidate t such that the share of ``against`` <= t keeps the budget.

    ``against``: scores of the class that must not leave here. ``never``: the threshold where nothing may leave.
    """
    ordered, n = np.sort(against), len(against)
    best, leaks = never, 0
    for threshold in np.unique(candidates):
        leaked = int(np.searchsorted(ordered, threshold, side="right"))
        rate = clopper_pearson(leaked, n, side="upper")[1] if certify else leaked / n
        if rate > budget:
            break
        best, leaks = float(threshold), leaked
    upper = clopper_pearson(leaks, n, side="upper")[1]
    return Side(best, leaks, n, leaks / n, upper, budget, upper <= budget, rows_to_certify(budget))


def fit_thresholds(
    probs: np.ndarray, labels: np.ndarray, *, budget_forged: float, budget_real: float, certify: bool
) -> Thresholds:
    """Thresholds from the tune role.

    No image leaves against stage 1's own opinion: ``exit_real`` lies below 0.5 and ``exit_forged`` at or above it.

    Args:
        probs: calibrated probability of forged [n]; labels [n].
        budget_forged: largest share of the forged that may leave as real.
        budget_real: largest share of the real that may leave as forged.
        certify: hold the one-sided 95 % bound to the budget instead of the observed share.

    Raises:
        ValueError: one class only.
    """
    forged = labels == 1
    if forged.all() or not forged.any():
        raise ValueError(
            f"thresholds need both classes on the tune role, got {int(forged.sum())} forged of {len(forged)}"
        )
    low = _most_generous(probs[forged], probs[probs < 0.5], budget_forged, certify=certify, never=NEVER_REAL)
    high = _most_generous(-probs[~forged], -probs[probs >= 0.5], budget_real, certify=certify, never=-NEVER_FORGED)
    return Thresholds(low, replace(high, threshold=-high.threshold))


def certification_text(side: Side, *, name: str) -> str:
    """What the tune role can and can't certify for one exit, in a sentence."""
    if side.certified:
        return f"{name}: {side.leaked} of {side.n} leaked, certified <= {side.leak_upper:.4f} at 95 % (budget {side.budget})"
    return (
        f"{name}: {side.leaked} of {side.n} leaked ({side.leak:.4f}), within the budget {side.budget} as observed, but this "
        f"sample certifies <= {side.leak_upper:.4f} only; the budget takes {side.rows_needed} rows without a leak"
    )
