"""What really leaks: both exits on the test role, by family and by scene."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from assay.images.cascade.decision import Decisions
from assay.images.cascade.measure import Measured
from assay.images.cascade.thresholds import Thresholds
from assay.metrics.binary import summarise
from assay.metrics.bounds import SceneLeaks
from assay.metrics.discrimination import FloatArray

# Scenes that are listed; of more, those that leak most. Data sets of single pictures have thousands.
MAX_SCENES = 30


def scene_share(
    events: npt.ArrayLike, row_shares: npt.ArrayLike, /, *, weights: npt.ArrayLike | None = None
) -> dict[str, FloatArray]:
    """Mean over scenes of the share of a scene's rows with an event, as ``share`` [B].

    ``events``: 0 or 1 [n]; ``row_shares`` [n]: one over the number of rows in the scene of each; ``weights`` [B, n] or
    None.
    """
    happened, parts = np.asarray(events, dtype=np.float64), np.asarray(row_shares, dtype=np.float64)
    counts = np.ones((1, len(happened))) if weights is None else np.asarray(weights, dtype=np.float64)
    return {"share": counts @ (happened * parts) / (counts @ parts)}


def share_over_scenes(events: np.ndarray, groups: np.ndarray, *, name: str) -> dict[str, float]:
    """``name`` with its interval, ``n`` and ``n_groups``: the mean over scenes of the share of rows with an event [n]."""
    _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    report = summarise(events.astype(np.int64), 1.0 / sizes[codes], groups, metrics=scene_share)
    return {key.replace("share", name): value for key, value in report.items()}


def realised_leaks(test: Measured, decisions: Decisions, thresholds: Thresholds) -> dict[str, dict[str, float]]:
    """Leaks of both exits on test, beside what tune promised.

    Returns:
        ``leaks.<exit>.<slice>`` -> ``leak``, ``leak_low``, ``leak_high`` (mean over scenes, interval), ``leaked``,
        ``n``, ``n_groups``, and ``tune_upper``, the bound that tune gave. Slices of
        ``exit_real``: ``test`` (forged of seen families), ``unseen`` and ``family.<name>``; of ``exit_forged``, by
        which only real images leak: ``test``. And ``leaks.<exit>.scene.<group>`` -> ``leak``, ``leaked`` and ``n``
        over all families, for at most `MAX_SCENES`, the worst.
    """
    reports: dict[str, dict[str, float]] = {}
    labels, groups = test.labels, test.keys["group_id"].to_numpy()
    for exit_name, label in (("exit_real", 1), ("exit_forged", 0)):
        side = getattr(thresholds, exit_name)
        leaks = ~decisions.deferred & ((decisions.verdicts == "forged") != bool(label))
        for part, mask in test.slices.items():
            rows = mask & (labels == label)
            if not rows.any() or (label == 0 and part != "test"):
                continue
            found = share_over_scenes(leaks[rows], groups[rows], name="leak")
            counted = {"leaked": int(leaks[rows].sum()), "tune_upper": side.leak_upper}
            reports[f"leaks.{exit_name}.{part}"] = found | counted
        rows = labels == label
        names = np.unique(groups[rows])
        scenes = SceneLeaks.of(leaks[rows], groups[rows])
        rates = scenes.leaked / scenes.sizes
        for number in sorted(np.argsort(-rates, kind="stable")[:MAX_SCENES]):
            counted = {"leak": rates[number], "leaked": scenes.leaked[number], "n": scenes.sizes[number]}
            reports[f"leaks.{exit_name}.scene.{names[number]}"] = {key: value.item() for key, value in counted.items()}
    return reports


def leak_texts(reports: dict[str, dict[str, float]], *, exit_name: str) -> list[str]:
    """A line for each slice of one exit: what leaks on test."""
    lines = []
    for key, report in reports.items():
        part = key.removeprefix(f"leaks.{exit_name}.")
        if part == key or part.startswith("scene."):
            continue
        name = {"test": "families that training saw", "unseen": "unseen families"}.get(part, part.replace(".", " "))
        if exit_name == "exit_forged":
            name = "real images"
        low, high = report["leak_low"], report["leak_high"]
        interval = f" [{low:.1%}, {high:.1%}]" if math.isfinite(low + high) else ""
        counted = f"{report['leaked']} of {report['n']} in {report['n_groups']} scenes"
        lines.append(f"  on test, {name}: {report['leak']:.1%}{interval} ({counted})")
    return lines
