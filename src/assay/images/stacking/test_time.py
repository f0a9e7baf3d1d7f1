"""Which networks the ensemble runs at test time: one for each expert, or those of every fold at as many times the cost."""

from __future__ import annotations

import numpy as np
import pandas as pd

from assay.images.stacking import FOLD_AVERAGE, REFIT
from assay.images.stacking.meta_model import MetaModel
from assay.metrics.binary import resample
from assay.metrics.claims import claim, outcome
from assay.metrics.discrimination import ranking_metrics
from assay.metrics.paired import gain

GAIN = "auc_gain_refit"


def view_logits(model: MetaModel, views: np.ndarray) -> dict[str, np.ndarray]:
    """Mode -> the meta-model's log-odds [n] of X_calib [folds + 1, n, f]: every fold's networks, then the refit's."""
    each = [model.logits(view) for view in views]
    return {REFIT: each[-1], FOLD_AVERAGE: np.mean(each[:-1], axis=0)}


def choose_mode(logits: dict[str, np.ndarray], keys: pd.DataFrame, *, mode: str) -> tuple[str, dict[str, float]]:
    """The test-time mode, and what the folds' average has over the refit on calib.

    Args:
        logits: of `view_logits`.
        keys: label and group_id [n].
        mode: ``auto``: the refit, unless the average's gain in AUC is above 0 beyond the interval; or one that is forced.

    Returns:
        The mode and ``auc_gain_refit`` with its limits, n and n_groups.
    """
    labels, groups = keys["label"].to_numpy(), keys["group_id"].to_numpy()
    found = {name: resample(labels, values, groups, metrics=ranking_metrics) for name, values in logits.items()}
    average = found[FOLD_AVERAGE]
    report = average.summary() | gain(average, found[REFIT], "auc", key=GAIN)
    if mode != "auto":
        return mode, report
    return (FOLD_AVERAGE if outcome(report, GAIN) == "better" else REFIT), report


def mode_words(report: dict[str, float], mode: str) -> str:
    """What `choose_mode` found, in a sentence."""
    ours, theirs = "The folds' networks averaged, on calib,", "one refit network for each expert"
    return f"{claim(report, GAIN, ours=ours, theirs=theirs, metric='AUC', one_training=True)} Ships: {mode}."
