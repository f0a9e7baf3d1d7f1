"""Cost against error on the same images: every single model, the ensemble, the cascade, and random deferral."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from assay.calibration.temperature import apply_temperature
from assay.images.cascade.cost import cascade_cost
from assay.images.cascade.decision import FORGED, decide
from assay.images.cascade.measure import Measured
from assay.images.cascade.thresholds import fit_thresholds

# How often random deferral is drawn.
NUM_DRAWS = 50


def balanced_error(guesses: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the two classes' error rates; guesses bool [n]."""
    return float(np.mean([np.mean(guesses[labels == label] != bool(label)) for label in (0, 1)]))


def random_deferral(
    stage1: np.ndarray, ensemble: np.ndarray, labels: np.ndarray, share: float, *, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Balanced error when a random ``share`` of the images goes to the ensemble: mean, 2.5th and 97.5th percentile.

    ``stage1``, ``ensemble``: calibrated probabilities of forged [n].
    """
    errors = []
    for _ in range(NUM_DRAWS):
        deferred = rng.random(len(labels)) < share
        errors.append(balanced_error(np.where(deferred, ensemble, stage1) >= 0.5, labels))
    return float(np.mean(errors)), float(np.quantile(errors, 0.025)), float(np.quantile(errors, 0.975))


def frontier_table(
    tune: Measured,
    test: Measured,
    *,
    temperature: float,
    costs: Mapping[str, int],
    budgets: Sequence[float],
    seed: int,
) -> pd.DataFrame:
    """Cost against balanced error on the seen families of test: the cascade at many budgets, and what it competes with.

    Thresholds are fitted on tune at each budget, the same for both kinds of leak. Random deferral has the cascade's cost.

    Args:
        temperature: of the ensemble.
        costs: multiply-accumulates of one image: stage1, ensemble, and each expert.

    Returns:
        Columns system, budget, share_deferred, cost, balanced_error, low, high (the last two of random deferral only).
    """
    seen = test.slices["test"]
    labels, stage1 = test.labels[seen], test.stage1[seen]
    ensemble = apply_temperature(test.ensemble_logits, temperature)[seen]
    rng = np.random.default_rng(seed)
    rows = []
    for budget in budgets:
        found = fit_thresholds(
            tune.stage1,
            tune.labels,
            tune.keys["group_id"].to_numpy(),
            budget_forged=budget,
            budget_real=budget,
            certify=False,
        )
        decisions = decide(stage1, ensemble, **found.exits, unsure=None)
        share = float(decisions.deferred.mean())
        cost = cascade_cost(costs["stage1"], costs["ensemble"], share)
        error = balanced_error(decisions.verdicts == FORGED, labels)
        rows.append(("cascade", budget, share, cost, error, np.nan, np.nan))
        chance = random_deferral(stage1, ensemble, labels, share, rng=rng)
        rows.append(("random deferral", budget, share, cost, *chance))
    guesses = {"stage1": stage1 >= 0.5}
    guesses |= {name: (logits > 0)[seen] for name, logits in test.expert_logits.items()}
    guesses["ensemble"] = ensemble >= 0.5
    for name, guess in guesses.items():
        system = f"{name} (refit)" if name in test.expert_logits else name
        rows.append((system, np.nan, np.nan, costs[name], balanced_error(guess, labels), np.nan, np.nan))
    columns = ["system", "budget", "share_deferred", "cost", "balanced_error", "low", "high"]
    return pd.DataFrame(rows, columns=columns)
