"""Bounds over scenes: known values, what they reduce to, and that they hold where rows of a scene resemble one another."""

import math

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from assay.metrics.bounds import SceneLeaks, log_evidence, scenes_to_certify
from assay.metrics.intervals import clopper_pearson


def alike(leaked: list[int], rows: int) -> SceneLeaks:
    return SceneLeaks(np.array(leaked), np.full(len(leaked), rows))


@pytest.mark.parametrize(("scenes", "bound"), [(1, 0.95), (5, 0.4507), (12, 0.2209), (40, 0.0722), (59, 0.0495)])
@pytest.mark.parametrize("rows", [2, 70])
def test_scenes_without_a_leak_certify_what_is_possible_and_no_less(scenes: int, bound: float, rows: int) -> None:
    none = alike([0] * scenes, rows)
    assert none.upper() == pytest.approx(1 - 0.05 ** (1 / scenes), abs=1e-9)
    assert none.upper() == pytest.approx(bound, abs=5e-5)
    assert none.keeps(bound + 1e-4)
    assert not none.keeps(bound - 1e-4)


@pytest.mark.parametrize(("rate", "scenes"), [(0.05, 59), (0.01, 299), (0.001, 2995), (0.95, 1), (0.1, 29)])
def test_scenes_to_certify_is_the_smallest_number(rate: float, scenes: int) -> None:
    assert scenes_to_certify(rate) == scenes_to_certify(rate, rows=70) == scenes
    assert scenes_to_certify(rate, correlation=0.0) == scenes, "a scene of one row, or rows without a correlation"
    for correlation in (0.0, 0.1, 0.5):
        needed = scenes_to_certify(rate, rows=4, correlation=correlation)
        assert needed <= scenes
        if scenes < 300:
            assert alike([0] * needed, 4).keeps(rate, correlation=correlation)
            assert needed == 1 or not alike([0] * (needed - 1), 4).keeps(rate, correlation=correlation)


@pytest.mark.parametrize(("leaked", "rows"), [([0] * 30 + [1] * 3, 1), ([0] * 8 + [1], 1), ([1] * 4, 1), ([0], 1)])
def test_scenes_of_one_row_have_the_exact_binomial_bound(leaked: list[int], rows: int) -> None:
    sample = alike(leaked, rows)
    assert sample.upper() == clopper_pearson(sum(leaked), len(leaked), side="upper")[1]
    assert sample.keeps(sample.upper())


@pytest.mark.parametrize("budget", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("high", [1.0, 0.95])
def test_the_evidence_is_worth_exactly_its_stake_where_the_rate_is_the_budget(budget: float, high: float) -> None:
    """The expectation over all outcomes is 1, so that 20 is reached in at most 5 %: the whole proof that the bound holds."""
    scenes = 7
    outcomes = np.arange(scenes + 1)
    chances = binom.pmf(outcomes, scenes, budget / high)
    values = [math.exp(log_evidence(np.r_[np.full(k, high), np.zeros(scenes - k)], budget)) for k in outcomes]
    assert float(chances @ values) == pytest.approx(1.0, abs=1e-9)
    assert chances[np.array(values) >= 20].sum() <= 0.05


def test_more_leaks_never_give_more_evidence_and_neither_order_nor_a_looser_budget_less() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rates = rng.random(9) * 0.3
        worse = np.minimum(1.0, rates + rng.random(9) * 0.2)
        assert log_evidence(worse, 0.4) <= log_evidence(rates, 0.4) + 1e-12
        assert log_evidence(rates, 0.3) <= log_evidence(rates, 0.4) + 1e-12
        assert log_evidence(rng.permutation(rates), 0.4) == pytest.approx(log_evidence(rates, 0.4))
    sample = alike([3, 0, 1, 2, 0, 0, 9], 20)
    bound = sample.upper()
    assert sample.rate < bound < alike([3, 0, 1, 2, 0, 0, 12], 20).upper() < 1
    assert sample.keeps(bound + 1e-6)
    assert not sample.keeps(bound - 1e-6)
    assert alike([5, 5], 5).upper() == 1.0


def test_the_rate_is_that_of_a_scene_and_not_of_a_row() -> None:
    sample = SceneLeaks.of(np.r_[np.ones(2), np.zeros(8), np.zeros(90)], np.r_[np.zeros(10), np.ones(90)])
    assert (sample.leaked.tolist(), sample.sizes.tolist(), sample.rate) == ([2, 0], [10, 90], 0.1)
    labels = np.array(["b", "a", "b"])
    assert SceneLeaks.of([True, False, False], labels).leaked.tolist() == [0, 1]


@pytest.mark.parametrize("scenes", [5, 40])
def test_it_holds_where_scenes_differ_in_size_and_the_small_ones_leak(scenes: int) -> None:
    """The mean over scenes is kept in 95 %; a binomial bound over rows misses it nearly always."""
    rng = np.random.default_rng(1)
    held, by_rows, runs = 0, 0, 400
    for _ in range(runs):
        small = rng.random(scenes) < 0.5
        sizes, rates = np.where(small, 10, 200), np.where(small, rng.beta(1, 4, scenes), 0.0)
        sample = SceneLeaks(rng.binomial(sizes, rates), sizes)
        held += not sample.keeps(0.1)
        by_rows += clopper_pearson(int(sample.leaked.sum()), int(sizes.sum()), side="upper")[1] >= 0.1
    assert held >= 0.95 * runs
    assert by_rows < 0.5 * runs


@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.6])
def test_the_assumed_model_is_the_sum_of_its_scenes(correlation: float) -> None:
    """Two scenes, every outcome: the tail is scipy's beta-binomial, convolved by hand."""
    sizes, rate = np.array([3, 5]), 0.3
    tails = []
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        strength = 1 / max(part * correlation, 1e-6) - 1
        one, two = (betabinom.pmf(np.arange(n + 1), n, rate * strength, (1 - rate) * strength) for n in sizes)
        tails.append(np.convolve(one, two).cumsum())
    tail = np.max(tails, axis=0)
    for total in range(8):
        sample = SceneLeaks(np.array([min(total, 3), max(total - 3, 0)]), sizes)
        assert sample.keeps(rate, correlation=correlation) == (tail[total] <= 0.05)


def test_an_assumed_correlation_lies_between_rows_and_scenes() -> None:
    sample = alike([0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 10)
    bounds = [sample.upper(correlation=value) for value in (0.0, 0.05, 0.3, 0.99999)]
    assert bounds == sorted(bounds)
    assert bounds[0] == pytest.approx(clopper_pearson(10, 120, side="upper")[1], abs=1e-6)
    assert clopper_pearson(1, 12, side="upper")[1] - 1e-3 < bounds[-1] < 1
    none = alike([0] * 12, 10)
    assert none.upper(correlation=0.99999) == pytest.approx(none.upper(), abs=1e-3)


def test_the_correlation_of_a_scenes_rows_is_estimated() -> None:
    assert alike([4, 0, 0, 4], 4).correlation == pytest.approx(1.0)
    # Mean squares by hand: between 4 (0.25^2 + 0.25^2) / 1, within (1 * 0.75 + 3 * 0.25) / 6.
    assert alike([1, 3], 4).correlation == pytest.approx((0.5 - 0.25) / (0.5 + 3 * 0.25))
    rng = np.random.default_rng(0)
    for true in (0.001, 0.2):
        rates = rng.beta(0.2 * (1 / true - 1), 0.8 * (1 / true - 1), 2000)
        found = SceneLeaks(rng.binomial(np.tile([10, 40], 1000), rates), np.tile([10, 40], 1000))
        assert found.correlation == pytest.approx(true, abs=0.02)
    for nothing in (alike([0, 0], 4), alike([4, 4], 4), alike([1, 0, 1], 1), alike([2], 4)):
        assert math.isnan(nothing.correlation)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SceneLeaks.of([True], ["a", "b"]), "leaks has 1 values for 2 rows"),
        (lambda: SceneLeaks.of([True, False], ["a", None]), "missing"),
        (lambda: alike([1, 0], 4).upper(correlation=1.0), "correlation must lie in 0..1"),
        (lambda: alike([1, 0], 4).keeps(0.2, correlation=-0.1), "correlation must lie in 0..1"),
        (lambda: scenes_to_certify(0.0), "rate"),
        (lambda: scenes_to_certify(1.0), "rate"),
    ],
)
def test_bad_input_is_named(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
