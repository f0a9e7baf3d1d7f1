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


def fit(
    probs: np.ndarray,
    labels: np.ndarray,
    budget: float,
    *,
    groups: np.ndarray | None = None,
    certify: bool = False,
    correlation: float | None = None,
) -> Thresholds:
    """Both budgets alike; without groups each row is a scene of its own."""
    groups = np.arange(len(probs)) if groups is None else groups
    budgets = {"budget_forged": budget, "budget_real": budget}
    return fit_thresholds(probs, labels, groups, **budgets, certify=certify, correlation=correlation)


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


@pytest.mark.parametrize(("budget", "scenes"), [(0.05, 59), (0.01, 299), (0.001, 2995)])
@pytest.mark.parametrize("rows", [1, 20])
def test_scenes_without_a_leak_that_certify_a_budget(budget: float, scenes: int, rows: int) -> None:
    """However many images a scene has: 58 scenes certify 5 % neither with 58 images nor with 1,160."""
    for number, certified in ((scenes, True), (scenes - 1, False)):
        probs = np.concatenate([np.full(number * rows, 0.9), [0.1]])
        labels = np.concatenate([np.ones(number * rows, dtype=int), [0]])
        groups = np.r_[np.repeat(np.arange(number), rows), 0]
        plain = fit(probs, labels, budget, groups=groups).exit_real
        assert (plain.threshold, plain.leaked, plain.n, plain.n_groups) == (0.1, 0, number * rows, number)
        assert plain.scenes_needed == scenes
        assert plain.certified is certified
        strict = fit(probs, labels, budget, groups=groups, certify=True).exit_real
        assert strict.threshold == (0.1 if certified else NEVER_REAL)
        for side in (plain, strict):
            text = certification_text(side, name="forged that leave as real")
            assert f"0 of {number * rows} in {number} scenes" in text
            assert ("certified <= " in text) is ("observed" not in text) is certified
            assert (f"takes {scenes} scenes" in text) is not certified
        assert ("as none may leave here" in text) is not certified


def test_a_budget_is_kept_by_the_mean_over_scenes_and_not_by_rows() -> None:
    """One scene of 90 images that never leaks does not pay for nine small ones."""
    probs = np.r_[np.full(90, 0.9), np.tile([0.2, 0.9], 9), 0.3]
    labels, groups = np.r_[np.ones(108, dtype=int), 0], np.r_[np.zeros(90), np.repeat(np.arange(1, 10), 2), 0]
    for budget, threshold in ((0.44, NEVER_REAL), (0.45, 0.3)):
        side = fit(probs, labels, budget, groups=groups).exit_real
        assert side.threshold == threshold, "9 of 108 images leak at 0.3, but half of the images of nine scenes in ten"
    assert (side.leaked, side.n, side.leak) == (9, 108, pytest.approx(0.45))


def test_an_assumed_correlation_certifies_more_and_only_where_it_is_what_is_seen() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 50)
    calm = np.r_[np.where(rng.random(600) < 0.03, 0.1, 0.9), np.full(600, 0.2)]
    labels, scenes = np.repeat([1, 0], 600), np.r_[groups, groups]
    alone, assumed = (fit(calm, labels, 0.1, groups=scenes, correlation=value).exit_real for value in (None, 0.05))
    assert alone.leak == assumed.leak < assumed.leak_upper < 0.1 < alone.leak_upper
    assert (alone.certified, assumed.certified) == (False, True)
    assert assumed.scenes_needed < alone.scenes_needed == 29
    assert "if images of one scene correlate by at most 0.05" in certification_text(assumed, name="forged")
    # As many leaks, all of them in one scene.
    uneven = np.r_[np.where(np.arange(600) < (calm[:600] < 0.5).sum(), 0.1, 0.9), np.full(600, 0.2)]
    found = fit(uneven, labels, 0.1, groups=scenes, correlation=0.05).exit_real
    assert found.leak_upper == pytest.approx(assumed.leak_upper)
    assert found.correlation > 0.05
    assert not found.certified
    assert "but they do by" in certification_text(found, name="forged")


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_an_error(label: int) -> None:
    with pytest.raises(ValueError, match=f"need both classes on the tune role, got {5 * label} forged of 5"):
        fit(np.linspace(0, 1, 5), np.full(5, label), 0.1)
