"""The cascade's decision as a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

REAL, FORGED, UNSURE = "real", "forged", "unsure"
STAGE1, ENSEMBLE = "stage1", "ensemble"
UNLIKE = "unlike_all_seen"


@dataclass(frozen=True)
class Decisions:
    """One entry per image: probability of forged [n], whether it was deferred [n], verdict [n].

    ``unlike`` [n], where it was asked: whether the image is unlike all that stage 1 learned from.
    """

    probs: np.ndarray
    deferred: np.ndarray
    verdicts: np.ndarray
    unlike: np.ndarray | None = None

    @property
    def decided_by(self) -> np.ndarray:
        """``stage1`` or ``ensemble`` [n]."""
        return np.where(self.deferred, ENSEMBLE, STAGE1)

    @property
    def warnings(self) -> list[str | None]:
        """``unlike_all_seen`` or None, per image."""
        unlike = np.zeros(len(self.probs), dtype=bool) if self.unlike is None else self.unlike
        return [UNLIKE if value else None for value in unlike]


def deferred_mask(stage1_probs: np.ndarray, *, exit_real: float, exit_forged: float) -> np.ndarray:
    """True where stage 1 is not sure on either side: bool [n]."""
    return (stage1_probs > exit_real) & (stage1_probs < exit_forged)


def decide(
    stage1_probs: np.ndarray,
    ensemble_probs: np.ndarray,
    *,
    exit_real: float,
    exit_forged: float,
    unsure: Sequence[float] | None = None,
) -> Decisions:
    """Combine both levels.

    Args:
        stage1_probs: calibrated probability of forged [n].
        ensemble_probs: calibrated probability of forged [n]; looked at only where deferred (may be NaN elsewhere).
        unsure: verdict ``unsure`` for deferred images whose probability lies strictly between these two.

    Raises:
        ValueError: thresholds in the wrong order, or a probability that is needed and is NaN.
    """
    if exit_real >= exit_forged:
        raise ValueError(f"exit_real {exit_real} must lie below exit_forged {exit_forged}")
    deferred = deferred_mask(stage1_probs, exit_real=exit_real, exit_forged=exit_forged)
    probs = np.where(deferred, ensemble_probs, stage1_probs)
    if np.isnan(probs).any():
        raise ValueError(
            f"{int(np.isnan(probs).sum())} of {len(probs)} probabilities are NaN, which no exit would notice"
        )
    forged = np.where(deferred, probs >= 0.5, stage1_probs >= exit_forged)
    verdicts = np.where(forged, FORGED, REAL)
    if unsure is not None:
        low, high = unsure
        verdicts = np.where(deferred & (probs > low) & (probs < high), UNSURE, verdicts)
    return Decisions(probs, deferred, verdicts)
