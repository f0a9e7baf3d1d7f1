"""Systems compared on the same pictures: every single model, the ensemble, the cascade, and random deferral."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assay.images.cascade.cost import cascade_cost
from assay.images.cascade.decision import decide
from assay.images.cascade.thresholds import fit_thresholds


@dataclass(frozen=True)
class RoleProbs:
    """Calibrated probabilities of forged of both levels on one role, and the labels: each [n]."""

    stage1: np.ndarray
    ensemble: np.ndarray
    labels: np.ndarray


def balanced_error(guesses: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the two classes' error rates; guesses bool [n]."""
    return float(np.mean([np.mean(guesses[labels == label] != bool(label)) for label in (0, 1)]))


def random_deferral(
    role: RoleProbs, share: float, *, rng: np.random.Generator, num_draws: int = 50
) -> tuple[float, float, float]:
    """Balanced error when a random ``share`` of the pictures goes to the ensemble: mean, 2.5th and 97.5th percentile."""
    errors = []
    for _ in range(num_draws):
        deferred = rng.random(len(role.labels)) < share
        errors.append(balanced_error(np.where(deferred, role.ensemble, role.stage1) >= 0.5, role.labels))
    return float(np.mean(errors)), float(np.quantile(errors, 0.025)), float(np.quantile(errors, 0.975))


def frontier(
    tune: RoleProbs,
    test: RoleProbs,
    *,
    budgets: Sequence[float],
    cost_stage1: float,
    cost_ensemble: float,
    points: Mapping[str, tuple[float, np.ndarray]],
    seed: int,
) -> pd.DataFrame:
    """Cost against balanced error on test: the cascade at many budgets, random deferral at equal cost, single models.

    Thresholds are fitted on tune at each budget, the same for both kinds of leak. ``points``: name -> (cost, probs on
    test). Columns system, budget, share_deferred, cost (MACs a picture), balanced_error, low, high (random deferral only).
    """
    rng = np.random.default_rng(seed)
    rows = []
    for budget in budgets:
        found = fit_thresholds(tune.stage1, tune.labels, budget_forged=budget, budget_real=budget, certify=False)
        decisions = decide(
            test.stage1,
            test.ensemble,
            exit_real=found.exit_real.threshold,
            exit_forged=found.exit_forged.threshold,
        )
        share = float(decisions.deferred.mean())
        cost = cascade_cost(cost_stage1, cost_ensemble, share)
        error = balanced_error(decisions.verdicts == "forged", test.labels)
        rows.append(("cascade", budget, share, cost, error, np.nan, np.nan))
        rows.append(("random deferral", budget, share, cost, *random_deferral(test, share, rng=rng)))
    for name, (cost, probs) in points.items():
        rows.append((name, np.nan, np.nan, cost, balanced_error(probs >= 0.5, test.labels), np.nan, np.nan))
    columns = ["system", "budget", "share_deferred", "cost", "balanced_error", "low", "high"]
    return pd.DataFrame(rows, columns=columns)
