"""What the cascade is held against: stage 1 alone, one expert behind the same exits, other ways to choose what to defer.

Each rival behind exits costs as much as the cascade or less, so that a gain over it is one that the cascade's routing and
its second network have earned. All are compared on the same rows, those of the seen families of test, in AUC and balanced
accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from assay.images.cascade.decision import Decisions
from assay.images.cascade.measure import Measured
from assay.metrics.binary import Resampled, resample
from assay.metrics.discrimination import FloatArray, check_weights, ranking_metrics, threshold_metrics
from assay.metrics.paired import gains_together

METRICS = {"auc": "AUC", "balanced_accuracy": "balanced accuracy"}
RIVALS = {
    "stage1": "stage 1 alone",
    "refit": "one refit network behind the same exits",
    "random": "random deferral at equal cost",
    "learned": "learned deferral at equal cost",
}
# Powers of the first network's probability that learned deferral may weigh: enough for one hump anywhere, too few to follow
# noise.
DEGREE = 4


def mixed_metrics(
    labels: npt.ArrayLike,
    probs: npt.ArrayLike,
    *,
    weights: npt.ArrayLike | None = None,
    shares: tuple[float, ...] = (1.0,),
) -> dict[str, FloatArray]:
    """AUC and balanced accuracy that are expected where chance decides, row by row, whose word counts.

    A row's probability is that of system k with probability ``shares[k]``, whatever the other rows get. Both metrics are
    means over rows, or over pairs of two rows, so that their expectations are exact on a sample that holds each row once
    per system, weighted by the shares: no drawing.

    Args:
        labels: 0 or 1 [n].
        probs: of forged [n, k], a column per system; or [n] for one.
        weights: see `discrimination`.
        shares: k of them, of sum 1.
    """
    columns = np.asarray(probs, dtype=np.float64).reshape(len(np.asarray(labels)), -1)
    rows = check_weights(weights, size=len(columns))
    stacked = np.tile(np.asarray(labels), len(shares)), columns.T.ravel()
    counted = np.hstack([share * rows for share in shares])
    return {
        "auc": ranking_metrics(*stacked, weights=counted)["auc"],
        "balanced_accuracy": threshold_metrics(*stacked, weights=counted)["balanced_accuracy"],
    }


def learned_deferral(
    tune: tuple[np.ndarray, np.ndarray], labels: np.ndarray, first: np.ndarray, *, rows: np.ndarray, num: int
) -> np.ndarray:
    """Which rows to send on, by what that is expected to gain: bool [n].

    A ridge regression of the fall in squared error on powers of the first network's probability, fitted on tune (post-hoc
    deferral, Jitkrittum et al. 2023, "When does confidence-based cascade deferral suffice?", with what is known before the
    second network has run).

    Args:
        tune: probabilities of both networks on tune, with its labels.
        first: the first network's probabilities [n] of the rows to choose from.
        rows: bool [n], where a choice is wanted; ``num`` of them are chosen.
    """
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    worth = (tune[0] - labels) ** 2 - (tune[1] - labels) ** 2
    model = make_pipeline(PolynomialFeatures(DEGREE), Ridge()).fit(2 * tune[0][:, None] - 1, worth)
    order = np.argsort(-model.predict(2 * first[:, None] - 1), kind="stable")
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[order[rows[order]][:num]] = True
    return chosen


def compare(
    test: Measured,
    decisions: Decisions,
    *,
    stage1: np.ndarray,
    levels: tuple[np.ndarray, np.ndarray],
    refit: np.ndarray,
    learned: np.ndarray,
) -> dict[str, dict[str, float]]:
    """Metrics of each rival, and what the cascade gains over it, with paired intervals.

    Args:
        decisions: the cascade's, on test.
        stage1: its calibrated probabilities [n]; ``levels``: those of the cascade's two networks; ``refit``: those of one
            expert in the second's place.
        learned: what learned deferral sends on, bool [n].

    Returns:
        ``cascade`` with ``<metric>_gain_<rival>`` for each of `RIVALS`, all intervals together; ``random_deferral`` and
        ``learned_deferral`` with their AUC and balanced accuracy; and, where the deferred rows hold both classes,
        ``deferred.second`` with its gains over ``first`` and ``refit`` on them.
    """
    seen, (first, second) = test.slices["test"], levels
    share = float(decisions.deferred[seen].mean())
    systems = {
        "cascade": decisions.probs,
        "stage1": stage1,
        "refit": np.where(decisions.deferred, refit, first),
        "learned": np.where(learned, second, first),
    }
    found = {name: measure(test, values, seen) for name, values in systems.items()}
    found["random"] = measure(test, np.column_stack(levels), seen, shares=(1.0 - share, share))
    reports = {f"{name}_deferral": found[name].summary() for name in ("random", "learned")}
    reports["cascade"] = _gains(found["cascade"], {name: found[name] for name in RIVALS})
    hard = seen & decisions.deferred
    if len(set(test.labels[hard])) == 2:
        on_hard = {name: measure(test, values, hard) for name, values in (("first", first), ("refit", refit))}
        reports["deferred.second"] = _gains(measure(test, second, hard), on_hard)
    return reports


def measure(test: Measured, probs: np.ndarray, mask: np.ndarray, *, shares: tuple[float, ...] = (1.0,)) -> Resampled:
    """`mixed_metrics` of the rows in ``mask``, without each group in turn."""
    return resample(test.labels[mask], probs[mask], test.groups[mask], metrics=partial(mixed_metrics, shares=shares))


def _gains(ours: Resampled, rivals: Mapping[str, Resampled]) -> dict[str, float]:
    return gains_together(
        {f"{metric}_gain_{rival}": (ours, theirs, metric) for rival, theirs in rivals.items() for metric in METRICS}
    )
