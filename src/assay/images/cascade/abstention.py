"""When a verdict is ``unsure``: conformal sets for the images that stage 1 defers.

A deferred image gets the set of the classes that its probability does not speak against. A set of both is the verdict
``unsure``. Each class has its own limit, taken from the tune role so that a new image of that class, of a new scene,
has its class in its set with the wanted probability (class-conditional conformal prediction, Vovk 2012, over groups,
Lee, Barber and Willett 2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from assay.images.cascade.decision import FORGED, REAL, UNSURE, Decisions
from assay.images.cascade.leaks import share_over_scenes
from assay.images.cascade.measure import Measured
from assay.images.cascade.thresholds import NEVER_FORGED, NEVER_REAL

# Of a probability: no verdict is unsure for what a lower limit says and sure for what 0.5 says.
EVEN = 0.5


def group_quantile(scores: np.ndarray, groups: np.ndarray, *, coverage: float) -> float:
    """What a new row's score, of a new group, does not exceed with a probability of at least ``coverage``.

    With G groups of n_g rows, each row weighs 1 / ((G + 1) n_g) and infinity 1 / (G + 1): the weighted quantile (HCP
    of Lee, Barber and Willett 2023, "Distribution-free inference with hierarchical data", section 3). Groups must be
    exchangeable, rows within a group may depend on each other. Fewer groups than `scenes_to_cover` give infinity.

    Args:
        scores: float [n], larger where a row fits less; groups: [n].
    """
    if len(scores) == 0:
        return math.inf
    _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    weights = 1.0 / ((len(sizes) + 1) * sizes[codes[order]])
    enough = np.cumsum(weights) >= coverage - 1e-12
    return float(scores[order][np.argmax(enough)]) if enough.any() else math.inf


def scenes_to_cover(coverage: float) -> int:
    """Smallest number of groups for which `group_quantile` is finite: G / (G + 1) >= coverage."""
    return math.ceil(coverage / (1.0 - coverage) - 1e-9)


def unsure_range(probs: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, coverage: float) -> tuple[float, float]:
    """Verdict ``unsure`` strictly between these two probabilities covers each class, as `decide` takes them.

    ``forged`` is in an image's set from a probability on that ``coverage`` of the forged reach, ``real`` up to one
    that as many of the real do not exceed. Both limits are moved past 0.5 where they overlap the wrong way, so that no
    set is empty and the verdict of a single class is that of 0.5: that adds to sets, never takes from them. With too
    few scenes nothing speaks against a class: the limits are `NEVER_REAL` and `NEVER_FORGED`.

    Args:
        probs: calibrated probability of forged [n] of deferred images of the tune role, with labels and groups [n].
    """
    forged = labels == 1
    least_forged = -group_quantile(-probs[forged], groups[forged], coverage=coverage)
    most_real = group_quantile(probs[~forged], groups[~forged], coverage=coverage)
    low, high = max(min(least_forged, EVEN), NEVER_REAL), min(max(most_real, EVEN), NEVER_FORGED)
    # An image exactly at a limit has both classes in its set.
    return float(np.nextafter(low, -math.inf)), float(np.nextafter(high, math.inf))


def coverage_reports(test: Measured, decisions: Decisions) -> dict[str, dict[str, float]]:
    """How often a deferred image's own class, or ``unsure``, is its verdict: means over scenes of test, by class.

    Returns:
        ``unsure.<slice>.<class>`` -> ``coverage``, its interval, ``share_unsure``, ``n`` and ``n_groups``, for the
        slices ``test`` and ``unseen`` (forged only); a class without a deferred image is left out.
    """
    labels, groups = test.labels, test.keys["group_id"].to_numpy()
    unsure = decisions.verdicts == UNSURE
    reports = {}
    for part, label, name in (("test", 0, REAL), ("test", 1, FORGED), ("unseen", 1, FORGED)):
        rows = test.slices.get(part, np.zeros(len(labels), dtype=bool)) & (labels == label) & decisions.deferred
        if rows.any():
            covered = (unsure | (decisions.verdicts == name))[rows]
            found = share_over_scenes(covered, groups[rows], name="coverage")
            reports[f"unsure.{part}.{name}"] = found | {"share_unsure": float(unsure[rows].mean())}
    return reports


def unsure_text(reports: Mapping[str, Mapping[str, float]], limits: Mapping[str, float]) -> str:
    """How often a deferred image's class, or ``unsure``, was its verdict; ``limits`` as in the flat metrics."""
    text = "deferred images whose verdict is their class, or unsure"
    if "unsure.coverage" in limits:
        text += f", wanted in {limits['unsure.coverage']:.0%} of new ones of each class"
        low, high = limits["unsure.low"], limits["unsure.high"]
        if low < 0 or high > 1:
            text += (
                f" (too few scenes of tune: it takes {limits['unsure.scenes_needed']} with deferred images of a class)"
            )
    for part in ("test.real", "test.forged", "unseen.forged"):
        if report := reports.get(f"unsure.{part}"):
            name = part.replace("test.", "").replace("unseen.forged", "forged of unseen families")
            counted = f"{report['share_unsure']:.1%} unsure, {report['n_groups']} scenes of test"
            text += f"; {name} {report['coverage']:.1%} ({counted})"
    return text
