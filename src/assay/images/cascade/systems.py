"""Cost against error on the same images: every single model, the ensemble, the cascade, and what it is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from assay.calibration.temperature import apply_temperature
from assay.images.cascade.cost import cascade_cost
from assay.images.cascade.decision import deferred_mask
from assay.images.cascade.measure import Measured
from assay.images.cascade.rivals import gain_over_random, learned_deferral, mixed_metrics
from assay.images.cascade.thresholds import fit_thresholds


def balanced_error(guesses: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the two classes' error rates; guesses bool [n]."""
    return float(np.mean([np.mean(guesses[labels == label] != bool(label)) for label in (0, 1)]))


def frontier(
    tune: Measured,
    test: Measured,
    *,
    temperatures: Mapping[str, float],
    refit: str,
    costs: Mapping[str, int],
    budgets: Sequence[float],
) -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    """Cost against balanced error on the seen families of test: the cascade at many budgets, and what it competes with.

    Thresholds are fitted on tune at each budget, the same for both kinds of leak. Random and learned deferral have the
    cascade's cost; random deferral's error is the expected one.

    Args:
        temperatures: of the ensemble and of the refit network, by name.
        refit: the expert whose refit network stands behind the same exits.
        costs: multiply-accumulates of one image: stage1, ensemble, and each expert.

    Returns:
        Columns system, budget, share_deferred, cost, balanced_error; and ``frontier.<budget>`` -> the cascade's gain over
        random deferral.
    """
    seen = test.slices["test"]
    labels, stage1 = test.labels[seen], test.stage1
    ensemble = apply_temperature(test.ensemble_logits, temperatures["ensemble"])
    one = apply_temperature(test.expert_logits[refit], temperatures[refit])
    rows, gains = [], {}
    for budget in budgets:
        found = fit_thresholds(
            tune.stage1,
            tune.labels,
            tune.keys["group_id"].to_numpy(),
            budget_forged=budget,
            budget_real=budget,
            certify=False,
        )
        deferred = deferred_mask(stage1, **found.exits)
        share = float(deferred[seen].mean())
        learned = learned_deferral(tune, test, temperature=temperatures["ensemble"], deferred=deferred)
        cost, cheap = (cascade_cost(costs["stage1"], costs[name], share) for name in ("ensemble", refit))
        probs = np.where(deferred, ensemble, stage1)
        gains[f"frontier.{budget}"] = gain_over_random(test, probs, ensemble, share=share)
        expected = mixed_metrics(labels, np.column_stack([stage1, ensemble])[seen], shares=(1 - share, share))
        routed = {
            "cascade": (cost, balanced_error(probs[seen] >= 0.5, labels)),
            "refit behind the same exits": (
                cheap,
                balanced_error(np.where(deferred, one, stage1)[seen] >= 0.5, labels),
            ),
            "random deferral": (cost, 1.0 - float(expected["balanced_accuracy"][0])),
            "learned deferral": (cost, balanced_error(np.where(learned, ensemble, stage1)[seen] >= 0.5, labels)),
        }
        rows += [(name, budget, share, *point) for name, point in routed.items()]
    singles = {"stage1": stage1 >= 0.5}
    singles |= {name: logits > 0 for name, logits in test.expert_logits.items()}
    singles["ensemble"] = ensemble >= 0.5
    # The ensemble takes stage 1's logit, too.
    alone = {**costs, "ensemble": cascade_cost(costs["stage1"], costs["ensemble"], 1.0)}
    for name, guess in singles.items():
        system = f"{name} (refit)" if name in test.expert_logits else name
        rows.append((system, np.nan, np.nan, alone[name], balanced_error(guess[seen], labels)))
    columns = ["system", "budget", "share_deferred", "cost", "balanced_error"]
    return pd.DataFrame(rows, columns=columns), gains
