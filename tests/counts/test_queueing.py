"""Waits of a queue: exact means against formulas and against the simulated queue, and what a simulation must keep."""

import numpy as np
import pytest

from assay.counts.queueing import (
    FIRST_COME,
    ORACLE,
    mean_waits,
    measure_waits,
    percent,
    simulate,
    simulate_systems,
    with_limits,
)
from assay.params.counts import Queue

RNG = np.random.default_rng(4)
SERVICE = np.round(RNG.lognormal(2.5, 0.8, 300)) + 1
GROUPS = np.repeat(np.arange(30), 10)
PREDICTED = SERVICE * np.exp(RNG.normal(0, 0.5, 300))
LOADS = (0.5, 0.9)
SETTINGS = Queue(loads=list(LOADS), ageing=0.01, jobs=60_000, jobs_left_out=4_000)


def wait(keys: np.ndarray, load: float = 0.9, **options: np.ndarray) -> float:
    return float(mean_waits(SERVICE, keys, loads=(load,), **options)[f"wait_{percent(load)}"][0])


def stream(load: float, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the jobs, and when they come."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(SERVICE.size, size=count)
    return rows, np.cumsum(rng.exponential(SERVICE.mean() / load, count))


def test_constant_keys_wait_as_pollaczek_and_khinchine_say():
    rate = 0.7 / SERVICE.mean()
    expected = rate * np.mean(SERVICE**2) / 2 / (1 - 0.7)
    assert wait(np.ones(300), 0.7) == pytest.approx(expected)


def test_two_classes_wait_as_cobham_says():
    """W1 = W0 / (1 - r1) and W2 = W0 / ((1 - r1) (1 - r))."""
    first = SERVICE < 10
    rate = 0.8 / SERVICE.mean()
    residual, load = rate * np.mean(SERVICE**2) / 2, rate * SERVICE[first].sum() / 300
    share = first.mean()
    expected = residual / (1 - load) * (share + (1 - share) / (1 - 0.8))
    assert wait(np.where(first, 1.0, 2.0), 0.8) == pytest.approx(expected)


def test_the_true_counts_are_the_best_keys_and_only_their_order_counts():
    best = wait(SERVICE)
    assert best < wait(PREDICTED) < wait(np.ones(300)) < wait(-SERVICE)
    assert wait(np.log(SERVICE)) == best
    for seed in range(20):
        assert wait(np.random.default_rng(seed).permutation(SERVICE)) > best


def test_weights_are_rows_said_more_than_once():
    times = np.random.default_rng(5).integers(0, 4, 300)
    often = np.repeat(np.arange(300), times)
    found = mean_waits(SERVICE, PREDICTED, weights=times[None, :].astype(float), loads=LOADS)
    written = mean_waits(SERVICE[often], PREDICTED[often], loads=LOADS)
    for name, values in written.items():
        assert found[name][0] == pytest.approx(values[0])


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("keys", [np.ones(300), PREDICTED, SERVICE], ids=["first come", "predicted", "true"])
def test_the_simulated_queue_waits_as_the_formula_says(keys, load):
    runs = []
    for seed in range(20):
        rows, arrivals = stream(load, 10_000, seed)
        runs.append(simulate(SERVICE[rows], keys[rows], arrivals).mean())
    # Each run begins with an empty queue, hence the small share below.
    assert wait(keys, load) == pytest.approx(np.mean(runs), abs=4 * np.std(runs) / np.sqrt(20) + 0.02 * np.mean(runs))


def slow(service: np.ndarray, keys: np.ndarray, arrivals: np.ndarray) -> np.ndarray:
    """The same queue, looked at job by job."""
    left, now, waits = set(range(len(service))), 0.0, np.empty(len(service))
    while left:
        there = [job for job in left if arrivals[job] <= now] or [min(left, key=lambda job: arrivals[job])]
        job = min(there, key=lambda one: (keys[one], one))
        now = max(now, arrivals[job])
        waits[job], now = now - arrivals[job], now + service[job]
        left.remove(job)
    return waits


@pytest.mark.parametrize("seed", range(6))
def test_the_simulation_is_the_queue_written_out(seed):
    rows, arrivals = stream(0.95, 120, seed)
    for keys in (PREDICTED[rows], np.round(PREDICTED[rows] / 10), np.zeros(120)):
        found = simulate(SERVICE[rows], keys, arrivals)
        assert np.allclose(found, slow(SERVICE[rows], keys, arrivals))
        # Whoever goes first, the server is busy as long and idle as long.
        assert np.max(found + arrivals + SERVICE[rows]) == pytest.approx(
            np.max(simulate(SERVICE[rows], -keys, arrivals) + arrivals + SERVICE[rows])
        )


def test_ageing_lies_between_the_shortest_first_and_first_come():
    rows, arrivals = stream(0.9, 40_000)
    waits = [simulate(SERVICE[rows], PREDICTED[rows] + age * arrivals, arrivals) for age in (0.0, 0.02, 1e6)]
    assert np.array_equal(waits[2], simulate(SERVICE[rows], np.zeros(rows.size), arrivals))
    means, longest = [item.mean() for item in waits], [item.max() for item in waits]
    assert means[0] < means[1] < means[2]
    assert longest[0] > longest[1] > longest[2]


def test_shares_of_what_the_oracle_saves_have_intervals_over_groups():
    keys = {"good": PREDICTED, "constant": np.full(300, 7.0), "wrong": -SERVICE}
    found = measure_waits(SERVICE, keys, GROUPS, loads=LOADS)
    assert set(found) == {*keys, FIRST_COME, ORACLE}
    for load in ("50", "90"):
        share = f"oracle_share_{load}"
        assert found[ORACLE].point[share] == 1
        assert found[FIRST_COME].point[share] == found["constant"].point[share] == 0
        assert 0.5 < found["good"].point[share] < 1
        assert found["wrong"].point[share] < 0
        report = with_limits(found["good"])
        assert report[f"{share}_low"] < report[share] < report[f"{share}_high"]
        assert 0 < report[f"wait_{load}_low"] < report[f"wait_{load}"] < report[f"wait_{load}_high"]
    # Without a group is without its rows.
    rest = GROUPS != 3
    alone = mean_waits(SERVICE[rest], PREDICTED[rest], loads=LOADS)
    assert found["good"].left_out["wait_90"][3] == pytest.approx(alone["wait_90"][0])


def test_simulated_systems_meet_the_same_jobs_every_time():
    keys = {"good": PREDICTED, "constant": np.full(300, 7.0)}
    found, again = (simulate_systems(SERVICE, keys, GROUPS, SETTINGS, resampled=["good"], seed=7) for _ in range(2))
    assert {name: item.point for name, item in found.items()} == {name: item.point for name, item in again.items()}
    assert found["constant"].point == found[FIRST_COME].point
    assert found["good"].n_groups == 30
    for name, count in (("good", 30), ("constant", 0), (FIRST_COME, 30), (ORACLE, 30)):
        assert found[name].left_out["aged_wait_90"].shape == (count,)
    first, best = found[FIRST_COME].point["aged_wait_90"], found[ORACLE].point["aged_wait_90"]
    assert best < found["good"].point["aged_wait_90"] < first == pytest.approx(wait(np.ones(300)), rel=0.15)
    for item in found.values():
        assert item.point["aged_p99_90"] > item.point["aged_wait_90"]
    few = simulate_systems(SERVICE[:30], {}, GROUPS[:30], SETTINGS, resampled=[], seed=7)
    assert few[ORACLE].left_out["aged_wait_90"].size == 0
    assert np.isnan(with_limits(few[ORACLE])["aged_wait_90_low"])


@pytest.mark.parametrize(("change", "word"), [({"loads": [1.0]}, "loads"), ({"jobs": 200}, "jobs_left_out 4000")])
def test_a_queue_that_never_empties_is_refused(change, word):
    with pytest.raises(ValueError, match=word):
        Queue(**SETTINGS.model_dump() | change)
