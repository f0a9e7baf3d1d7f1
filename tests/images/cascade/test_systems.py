"""Systems on the same pictures: random deferral between its two ends, and the frontier's table."""

from __future__ import annotations

import numpy as np
import pytest

from assay.images.cascade.cost import cascade_cost
from assay.images.cascade.decision import decide
from assay.images.cascade.systems import RoleProbs, balanced_error, frontier, random_deferral
from assay.images.cascade.thresholds import fit_thresholds


def role(seed: int, num_rows: int = 600) -> RoleProbs:
    """An ensemble that is better than stage 1."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=num_rows)
    first, second = (1 / (1 + np.exp(-(s * (2 * labels - 1) + rng.normal(size=num_rows)))) for s in (1.0, 2.5))
    return RoleProbs(first, second, labels)


def test_balanced_error_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    assert balanced_error(np.array([True, False, False, False, True, False]), labels) == (0.25 + 0.5) / 2
    assert balanced_error(labels == 1, labels) == 0
    assert balanced_error(labels == 0, labels) == 1


def test_random_deferral_ends_at_the_single_systems() -> None:
    data = role(0)
    for share, probs in ((0.0, data.stage1), (1.0, data.ensemble)):
        error = balanced_error(probs >= 0.5, data.labels)
        assert random_deferral(data, share, rng=np.random.default_rng(0)) == pytest.approx((error,) * 3, abs=1e-15)


def test_random_deferral_lies_on_the_chord_between_them() -> None:
    data = role(0)
    ends = [balanced_error(probs >= 0.5, data.labels) for probs in (data.stage1, data.ensemble)]
    mean, low, high = random_deferral(data, 0.5, rng=np.random.default_rng(0), num_draws=300)
    assert mean == pytest.approx(np.mean(ends), abs=0.005)
    assert low < mean < high
    assert random_deferral(data, 0.5, rng=np.random.default_rng(0), num_draws=300) == (mean, low, high)


def test_the_frontiers_rows_are_the_cascade_at_each_budget() -> None:
    tune, test = role(1), role(2)
    tune = RoleProbs(tune.stage1, np.full(len(tune.labels), np.nan), tune.labels)
    budgets, costs = [0.001, 0.03, 0.1], {"cost_stage1": 10.0, "cost_ensemble": 100.0}
    points = {"stage1": (10.0, test.stage1), "ensemble": (100.0, test.ensemble)}
    table = frontier(tune, test, budgets=budgets, **costs, points=points, seed=0)
    columns = ["system", "budget", "share_deferred", "cost", "balanced_error", "low", "high"]
    assert list(table.columns) == columns
    assert table["system"].tolist() == ["cascade", "random deferral"] * 3 + ["stage1", "ensemble"]
    ours, chance = (table[table["system"] == name].set_index("budget") for name in ("cascade", "random deferral"))
    assert ours["cost"].equals(chance["cost"])
    for budget in budgets:
        found = fit_thresholds(tune.stage1, tune.labels, budget_forged=budget, budget_real=budget, certify=False)
        exits = {"exit_real": found.exit_real.threshold, "exit_forged": found.exit_forged.threshold}
        decisions = decide(test.stage1, test.ensemble, **exits)
        row = ours.loc[budget]
        assert row["share_deferred"] == decisions.deferred.mean()
        assert row["cost"] == cascade_cost(10.0, 100.0, decisions.deferred.mean())
        assert row["balanced_error"] == balanced_error(decisions.probs >= 0.5, test.labels)
    assert (chance["low"] <= chance["balanced_error"]).all()
    assert (chance["balanced_error"] <= chance["high"]).all()
    assert ours[["low", "high"]].isna().all(axis=None)
    assert ours["cost"].is_monotonic_decreasing
    single = table.set_index("system").loc["ensemble"]
    assert (single["cost"], single["balanced_error"]) == (100.0, balanced_error(test.ensemble >= 0.5, test.labels))
    assert (ours["balanced_error"] < chance["balanced_error"]).iloc[1], "routing by confidence beats chance here"
    assert table.equals(frontier(tune, test, budgets=budgets, **costs, points=points, seed=0))
