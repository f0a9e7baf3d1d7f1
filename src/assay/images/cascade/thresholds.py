"""Thresholds of the two-sided exit, under a leakage budget.

Stage 1 lets an image leave as real at probability <= ``exit_real`` and as forged at >= ``exit_forged``. What leaves on
the wrong side leaks: nothing downstream can bring it back. The budget bounds both kinds of leak, each as the mean over
scenes of the share of a scene's images that leak. Each threshold is the most generous one whose leak on the tune role
keeps within it, and a bound over scenes says what that certifies (`assay.metrics.bounds`).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from assay.metrics.bounds import SceneLeaks, scenes_to_certify
from assay.metrics.intervals import check_groups

# Thresholds that no probability reaches: nothing leaves on that side.
NEVER_REAL, NEVER_FORGED = -1.0, 2.0


@dataclass(frozen=True)
class Side:
    """One exit: its threshold, what leaked on tune, and what that certifies at 95 %.

    Attributes:
        leaked: images of the class that must not leave here which do, of ``n``, in ``n_groups`` scenes.
        leak: mean over scenes of the share that leaks; ``leak_upper`` is its one-sided 95 % bound, of this threshold as
            if it had been fixed before.
        certified: the bound keeps the budget, which holds for a threshold that was chosen, too; otherwise the budget
            is kept as observed, and no more is known.
        scenes_needed: scenes that certify the budget if none of their images leaks.
        correlation: of the images of one scene in leaking, estimated; NaN where it can't be.
        assumed_correlation: the largest that ``leak_upper`` and ``scenes_needed`` rest on; None: they assume nothing.
    """

    threshold: float
    leaked: int
    n: int
    n_groups: int
    leak: float
    leak_upper: float
    budget: float
    certified: bool
    scenes_needed: int
    correlation: float
    assumed_correlation: float | None


@dataclass(frozen=True)
class Thresholds:
    """Both exits; ``exit_real.threshold < exit_forged.threshold``."""

    exit_real: Side
    exit_forged: Side

    @property
    def exits(self) -> dict[str, float]:
        """The two thresholds by name."""
        return {"exit_real": self.exit_real.threshold, "exit_forged": self.exit_forged.threshold}


def _most_generous(
    against: np.ndarray,
    groups: np.ndarray,
    candidates: np.ndarray,
    budget: float,
    *,
    certify: bool,
    correlation: float | None,
    never: float,
) -> Side:
    """The exit at the largest candidate t such that what leaks of ``against`` [n] at <= t keeps the budget.

    ``against``: scores of the class that must not leave here, ``groups`` [n] their scenes. ``never``: the threshold
    where nothing may leave.

    A more generous threshold leaks no less in any scene, so neither the share nor the evidence ever turns back: the
    first candidate that fails ends the sequence, and a bisection finds it. To certify, each candidate is tested at 5 %
    from the strictest on until one fails, which keeps 5 % for the sequence (fixed-sequence Learn-then-Test,
    Angelopoulos et al. 2021).
    """
    codes = check_groups(groups, size=len(against))
    sizes = np.bincount(codes)

    def leaks(threshold: float) -> SceneLeaks:
        return SceneLeaks(np.bincount(codes[against <= threshold], minlength=sizes.size), sizes)

    def fails(threshold: float) -> bool:
        found = leaks(threshold)
        if certify:
            return not found.keeps(budget, correlation=correlation)
        return found.rate > budget + 1e-12  # a share of exactly the budget keeps it, whatever the rounding

    ordered = np.unique(candidates)
    passed = bisect_left(ordered, True, key=fails)
    best = float(ordered[passed - 1]) if passed else never
    found = leaks(best)
    kept = found.keeps(budget, correlation=correlation)
    if correlation is not None and found.correlation > correlation:
        kept = False  # what was assumed is not what is seen
    return Side(
        threshold=best,
        leaked=int(found.leaked.sum()),
        n=len(against),
        n_groups=len(found.sizes),
        leak=found.rate,
        leak_upper=found.upper(correlation=correlation),
        budget=budget,
        certified=kept,
        scenes_needed=scenes_to_certify(budget, rows=int(np.median(found.sizes)), correlation=correlation),
        correlation=found.correlation,
        assumed_correlation=correlation,
    )


def fit_thresholds(
    probs: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    budget_forged: float,
    budget_real: float,
    certify: bool,
    correlation: float | None = None,
) -> Thresholds:
    """Thresholds from the tune role.

    No image leaves against stage 1's own opinion: ``exit_real`` lies below 0.5 and ``exit_forged`` at or above it.

    Args:
        probs: calibrated probability of forged [n]; labels [n]; groups [n], the scene of each.
        budget_forged: largest share of the forged that may leave as real, on average over scenes.
        budget_real: largest share of the real that may leave as forged.
        certify: hold the one-sided 95 % bound over scenes to the budget instead of the observed share.
        correlation: assume that images of one scene correlate in leaking by at most this; None assumes nothing.

    Raises:
        ValueError: one class only.
    """
    forged = labels == 1
    if forged.all() or not forged.any():
        raise ValueError(
            f"thresholds need both classes on the tune role, got {int(forged.sum())} forged of {len(forged)}"
        )
    how: dict[str, Any] = {"certify": certify, "correlation": correlation}
    low = _most_generous(probs[forged], groups[forged], probs[probs < 0.5], budget_forged, **how, never=NEVER_REAL)
    high = _most_generous(
        -probs[~forged], groups[~forged], -probs[probs >= 0.5], budget_real, **how, never=-NEVER_FORGED
    )
    return Thresholds(low, replace(high, threshold=-high.threshold))


def certification_text(side: Side, *, name: str) -> str:
    """What the tune role can and can't certify for one exit, in a sentence."""
    assumed = side.assumed_correlation
    counted = f"{side.leaked} of {side.n} in {side.n_groups} scenes"
    text = f"{name}, of a scene on average: {side.leak:.1%} on tune ({counted}), "
    if side.threshold in (NEVER_REAL, NEVER_FORGED):
        text += "as none may leave here: "
    if side.certified:
        text += f"certified <= {side.budget:.1%} at 95 %, the budget (bound over scenes {side.leak_upper:.1%})"
    else:
        text += f"observed within the budget of {side.budget:.1%}; the bound over scenes is {side.leak_upper:.1%}, "
        text += f"and the budget takes {side.scenes_needed} scenes without a leak"
    if assumed is None:
        return text
    text += f", if images of one scene correlate by at most {assumed:g}"
    return text + (f", but they do by {side.correlation:.2f}" if side.correlation > assumed else "")
