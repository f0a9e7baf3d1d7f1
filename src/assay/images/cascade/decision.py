"""The cascade's decision as a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.images.cascade.cost import ENSEMBLE, STAGE1

REAL, FORGED, UNSURE = "real", "forged", "unsure"
UNLIKE = "unlike_all_seen"


@dataclass(frozen=True)
class Decisions:
    """One entry per image: probability of forged [n], whether it was deferred [n], verdict [n].

    ``names``: of the first network and the second. ``unlike`` [n], where it was asked: whether the image is unlike all
    that stage 1 learned from.
    """

    probs: np.ndarray
    deferred: np.ndarray
    verdicts: np.ndarray
    names: tuple[str, str] = (STAGE1, ENSEMBLE)
    unlike: np.ndarray | None = None

    @property
    def decided_by(self) -> np.ndarray:
        """The name of the network that decided [n]."""
        return np.where(self.deferred, self.names[1], self.names[0])

    @property
    def warnings(self) -> list[str | None]:
        """``unlike_all_seen`` or None, per image."""
        unlike = np.zeros(len(self.probs), dtype=bool) if self.unlike is None else self.unlike
        return [UNLIKE if value else None for value in unlike]


def deferred_mask(probs: np.ndarray, *, exit_real: float, exit_forged: float) -> np.ndarray:
    """True where the first network is not sure on either side: bool [n]."""
    return (probs > exit_real) & (probs < exit_forged)


def decide_alone(probs: np.ndarray, *, name: str) -> Decisions:
    """What one network says of every image, from calibrated probabilities [n]: nothing is deferred or unsure."""
    verdicts = np.where(probs >= 0.5, FORGED, REAL)
    return Decisions(probs, np.zeros(len(probs), dtype=bool), verdicts, (name, name))


def decide(
    first: np.ndarray,
    second: np.ndarray,
    *,
    exit_real: float,
    exit_forged: float,
    names: tuple[str, str] = (STAGE1, ENSEMBLE),
    unsure: Sequence[float] | None = None,
) -> Decisions:
    """Combine both levels.

    Args:
        first: calibrated probability of forged [n].
        second: calibrated probability of forged [n]; looked at only where deferred (may be NaN elsewhere).
        names: of both networks.
        unsure: verdict ``unsure`` for deferred images whose probability lies strictly between these two.

    Raises:
        ValueError: thresholds in the wrong order, or a probability that is needed and is NaN.
    """
    if exit_real >= exit_forged:
        raise ValueError(f"exit_real {exit_real} must lie below exit_forged {exit_forged}")
    deferred = deferred_mask(first, exit_real=exit_real, exit_forged=exit_forged)
    probs = np.where(deferred, second, first)
    if np.isnan(probs).any():
        raise ValueError(
            f"{int(np.isnan(probs).sum())} of {len(probs)} probabilities are NaN, which no exit would notice"
        )
    forged = np.where(deferred, probs >= 0.5, first >= exit_forged)
    verdicts = np.where(forged, FORGED, REAL)
    if unsure is not None:
        low, high = unsure
        verdicts = np.where(deferred & (probs > low) & (probs < high), UNSURE, verdicts)
    return Decisions(probs, deferred, verdicts, names)
