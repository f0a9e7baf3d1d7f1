"""Thresholds under a leakage budget: examples by hand, and what must hold whatever the scores."""

import numpy as np
import pytest
from scipy.stats import beta

from assay.images.cascade.decision import deferred_mask
from assay.images.cascade.thresholds import (
    NEVER_FORGED,
    NEVER_REAL,
    Thresholds,
    certification_text,
    fit_thresholds,
)


def fit(probs: np.ndarray, labels: np.ndarray, budget: float, *, certify: bool = False) -> Thresholds:
    return fit_thresholds(probs, labels, budget_forged=budget, budget_real=budget, certify=certify)


def scores(num_rows: int, *, seed: int, spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=num_rows)
    logits = 2 * spread * (labels - 0.5) + rng.normal(size=num_rows)
    return np.round(1 / (1 + np.exp(-logits)), 2), labels


# Forged at 0.1, 0.3 and eight above; real at 0.05, 0.2, 0.35, 0.4, and six more with one at 0.9.
FORGED = [0.1, 0.3, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99]
REAL = [0.05, 0.2, 0.35, 0.4, 0.45, 0.48, 0.49, 0.55, 0.65, 0.9]


@pytest.mark.parametrize(
    ("budget", "exit_real", "leaked_forged", "exit_forged", "leaked_real"),
    [
        (0.09, 0.05, 0, 0.95, 0),
        (0.1, 0.2, 1, 0.7, 1),  # the real at 0.9 leaks, ties with a forged one; the next real stands at 0.65
        (0.2, 0.49, 2, 0.6, 2),
        (0.5, 0.49, 2, 0.55, 3),
    ],
)
def test_an_example_by_hand(budget, exit_real, leaked_forged, exit_forged, leaked_real):
    probs, labels = np.array(FORGED + REAL), np.repeat([1, 0], 10)
    found = fit(probs, labels, budget)
    assert found.exits == {"exit_real": exit_real, "exit_forged": exit_forged}
    for side, leaked in ((found.exit_real, leaked_forged), (found.exit_forged, leaked_real)):
        assert (side.leaked, side.leak) == (leaked, leaked / 10)
    order = np.random.default_rng(0).permutation(20)
    assert fit(probs[order], labels[order], budget) == found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("budget", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("certify", [False, True])
def test_the_budget_holds_on_tune_and_one_step_further_breaks_it(seed: int, budget: float, certify: bool) -> None:
    probs, labels = scores(400, seed=seed)
    found = fit(probs, labels, budget, certify=certify)
    low, high = found.exit_real.threshold, found.exit_forged.threshold
    assert low < 0.5 <= high
    forged, real = probs[labels == 1], probs[labels == 0]

    def rate(leaked: int, n: int) -> float:
        return float(beta.ppf(0.95, leaked + 1, n - leaked)) if certify else leaked / n

    for side, against, candidates, leaves in (
        (found.exit_real, forged, np.unique(probs[probs < 0.5]), lambda p, t: p <= t),
        (found.exit_forged, real, np.unique(probs[probs >= 0.5])[::-1], lambda p, t: p >= t),
    ):
        leaked = int(leaves(against, side.threshold).sum())
        assert (side.leaked, side.n) == (leaked, len(against))
        assert side.leak_upper == pytest.approx(beta.ppf(0.95, leaked + 1, len(against) - leaked))
        assert side.certified == (side.leak_upper <= budget)
        nothing = side.threshold in (NEVER_REAL, NEVER_FORGED)
        assert nothing or rate(leaked, len(against)) <= budget
        further = [t for t in candidates if not leaves(np.array([t]), side.threshold)[0]]
        if further:
            assert rate(int(leaves(against, further[0]).sum()), len(against)) > budget


def test_a_larger_budget_defers_no_more_and_certifying_no_less() -> None:
    probs, labels = scores(500, seed=0)
    shares = [deferred_mask(probs, **fit(probs, labels, budget).exits).mean() for budget in (0.001, 0.01, 0.1, 0.3)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]
    observed, certified = (fit(probs, labels, 0.05, certify=certify) for certify in (False, True))
    assert certified.exit_real.threshold <= observed.exit_real.threshold
    assert certified.exit_forged.threshold >= observed.exit_forged.threshold
    assert certified.exit_real.certified
    assert not observed.exit_real.certified


def test_nothing_leaves_where_nothing_may() -> None:
    # The most confident images on both sides are wrong ones.
    found = fit(np.array([0.01, 0.2, 0.8, 0.99] * 5), np.array([1, 0, 1, 0] * 5), 0.05)
    assert found.exits == {"exit_real": NEVER_REAL, "exit_forged": NEVER_FORGED}
    assert found.exit_real.leaked == found.exit_forged.leaked == 0
    assert deferred_mask(np.array([0.0, 1.0]), **found.exits).all()
    one_sided = fit(np.array([0.6, 0.7, 0.8, 0.9]), np.array([0, 0, 1, 1]), 0.1)
    assert one_sided.exits == {"exit_real": NEVER_REAL, "exit_forged": 0.8}


@pytest.mark.parametrize(("budget", "rows"), [(0.05, 59), (0.01, 299), (0.001, 2995)])
def test_rows_without_a_leak_that_certify_a_budget(budget: float, rows: int) -> None:
    for num_forged, certified in ((rows, True), (rows - 1, False)):
        probs = np.concatenate([np.full(num_forged, 0.9), [0.1]])
        labels = np.concatenate([np.ones(num_forged, dtype=int), [0]])
        plain = fit(probs, labels, budget).exit_real
        assert (plain.threshold, plain.leaked, plain.n, plain.rows_needed) == (0.1, 0, num_forged, rows)
        assert plain.certified is certified
        strict = fit(probs, labels, budget, certify=True).exit_real
        assert strict.threshold == (0.1 if certified else NEVER_REAL)
        text = certification_text(plain, name="forged that leave as real")
        assert f"0 of {num_forged} leaked" in text
        assert ("certified <= " in text) is certified
        assert (f"takes {rows} rows" in text) is not certified


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_an_error(label: int) -> None:
    with pytest.raises(ValueError, match=f"need both classes on the tune role, got {5 * label} forged of 5"):
        fit(np.linspace(0, 1, 5), np.full(5, label), 0.1)
