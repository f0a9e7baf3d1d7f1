"""What a prediction of counts is worth: how long jobs wait for one server that takes the shortest predicted one first.

A job's service takes as long as its count; jobs are drawn from the rows at random and come in a Poisson stream. Mean waits
without ageing are exact. With ageing, and for quantiles, the queue is simulated.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from assay.metrics.binary import Resampled, resample
from assay.metrics.discrimination import FloatArray, check_values, check_weights
from assay.metrics.intervals import MIN_GROUPS, Scale, blocks_of, degrees_of_freedom, jackknife_interval
from assay.params.counts import Queue

FIRST_COME, ORACLE = "first_come", "oracle"
TAIL = 0.99


def percent(load: float) -> str:
    """``90`` of 0.9, as it stands in names of metrics."""
    return f"{100 * load:g}".replace(".", "_")


def mean_waits(
    service: npt.ArrayLike, keys: npt.ArrayLike, *, weights: npt.ArrayLike | None = None, loads: Sequence[float]
) -> dict[str, FloatArray]:
    """``wait_<percent>``: mean wait [B] at each load, if the smallest key goes first, equal ones as they came.

    The server is not interrupted. With W0 = lambda E[S^2] / 2 and R(k) the load of all jobs with keys up to k, a job with
    key k waits W0 / ((1 - R(<k)) (1 - R(<=k))) on average (Cobham 1954, "Priority assignment in waiting line problems";
    Phipps 1956 for the shortest first). Constant keys give Pollaczek and Khinchine's wait of first come, first served.

    Args:
        service: times [n].
        keys: [n].
        weights: see `discrimination`.
        loads: share of the time that the server is busy, each below 1.
    """
    times = check_values(service, name="service")
    ranks = np.unique(check_values(keys, name="keys", size=times.size), return_inverse=True)[1]
    order = np.argsort(ranks, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(ranks[order]) != 0])
    table = check_weights(weights, size=times.size)[:, order]
    shares, times = table / table.sum(axis=1, keepdims=True), times[order]
    mean, square = shares @ times, shares @ times**2
    work = np.cumsum(np.add.reduceat(shares * times, starts, axis=1), axis=1) / mean[:, None]
    jobs = np.add.reduceat(shares, starts, axis=1)
    before = np.hstack([np.zeros((len(work), 1)), work[:, :-1]])
    found = {}
    for load in loads:
        behind = (jobs / ((1.0 - load * before) * (1.0 - load * work))).sum(axis=1)
        found[f"wait_{percent(load)}"] = load / mean * square / 2.0 * behind
    return found


def measure_waits(
    service: np.ndarray, keys: Mapping[str, np.ndarray], groups: np.ndarray, *, loads: Sequence[float]
) -> dict[str, Resampled]:
    """`mean_waits` by each system's keys, by first come and by the true times, with what intervals need.

    To each is added ``oracle_share_<percent>``: what it saves against first come, as a share of what the oracle saves, who
    knows the true times; undefined where even that is nothing.
    """
    every = {**keys, FIRST_COME: np.zeros(service.size), ORACLE: service}
    metrics = partial(mean_waits, loads=loads)
    found = {name: resample(service, values, groups, metrics=metrics) for name, values in every.items()}
    first, best = found[FIRST_COME], found[ORACLE]
    for name, item in found.items():
        point, left_out = dict(item.point), dict(item.left_out)
        for load in loads:
            wait, share = f"wait_{percent(load)}", f"oracle_share_{percent(load)}"
            point[share] = float(_share(first.point[wait], item.point[wait], best.point[wait]))
            left_out[share] = _share(first.left_out[wait], item.left_out[wait], best.left_out[wait])
        found[name] = replace(item, point=point, left_out=left_out)
    return found


def _share(first: npt.ArrayLike, ours: npt.ArrayLike, best: npt.ArrayLike) -> np.ndarray:
    first = np.asarray(first)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((first - ours) / (first - best))


def with_limits(measured: Resampled) -> dict[str, float]:
    """Each metric with ``_low`` and ``_high``: waits on a logarithmic scale, shares as they are: they may leave 0 to 1."""
    found: dict[str, float] = {}
    for name, value in measured.point.items():
        scale: Scale = "difference" if name.startswith("oracle_share") else "positive"
        low, high = jackknife_interval(value, measured.left_out[name], df=measured.df, scale=scale)
        found |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return found


def simulate(service: np.ndarray, keys: np.ndarray, arrivals: np.ndarray) -> np.ndarray:
    """Waits float64 [n] of jobs that come at ``arrivals`` (rising), if the smallest key goes first, equal ones as they came.

    The server takes ``service`` [n] for a job and is not interrupted. Ageing is in the keys: what a job gains on another by
    waiting is the same as a smaller key for who came first (Jackson 1960, "Some problems in queueing with dynamic
    priorities").
    """
    times, ranks, comes = service.tolist(), keys.tolist(), arrivals.tolist()
    waits, now, came = [0.0] * len(times), 0.0, 0
    waiting: list[tuple[float, int]] = []
    for _ in times:
        if not waiting:
            now = max(now, comes[came])
        while came < len(times) and comes[came] <= now:
            heapq.heappush(waiting, (ranks[came], came))
            came += 1
        job = heapq.heappop(waiting)[1]
        waits[job] = now - comes[job]
        now += times[job]
    return np.array(waits)


def simulate_systems(
    service: np.ndarray,
    keys: Mapping[str, np.ndarray],
    groups: np.ndarray,
    settings: Queue,
    *,
    resampled: Collection[str],
    seed: int,
) -> dict[str, Resampled]:
    """``aged_wait_<percent>`` and ``aged_p99_<percent>``: mean and 99th percentile of the waits with ageing.

    All systems meet the same jobs. Values come from ``settings.jobs`` jobs; for those without a block of groups the jobs of
    these are taken out of the first ``settings.jobs_left_out``, and the rest come as much faster as keeps the load. What
    chance is left in such a short stream widens the intervals. ``resampled`` names the systems that get one, beside first
    come and the oracle.
    """
    rng = np.random.default_rng(seed)
    rows, gaps = rng.integers(service.size, size=settings.jobs), rng.exponential(size=settings.jobs)
    blocks = blocks_of(groups)
    num_groups, short = len(np.unique(groups)), slice(settings.jobs_left_out)
    streams = [(rows, gaps)]
    if num_groups >= MIN_GROUPS:
        kept = [blocks[rows[short]] != number for number in range(int(blocks.max()) + 1)]
        streams += [(rows[short][keep], gaps[short][keep]) for keep in kept]
    every = {**keys, FIRST_COME: np.zeros(service.size), ORACLE: service}
    found = {}
    for name, system in every.items():
        used = streams if name in (*resampled, FIRST_COME, ORACLE) else streams[:1]
        values = _tails(service, system, used, settings)
        point = {metric: numbers[0] for metric, numbers in values.items()}
        left_out = {metric: np.array(numbers[1:]) for metric, numbers in values.items()}
        found[name] = Resampled(service.size, num_groups, degrees_of_freedom(blocks), point, left_out)
    return found


def _tails(
    service: np.ndarray, keys: np.ndarray, streams: Sequence[tuple[np.ndarray, np.ndarray]], settings: Queue
) -> dict[str, list[float]]:
    """The metrics of one system, a value for each stream of rows and gaps."""
    values: dict[str, list[float]] = {}
    for load in settings.loads:
        for rows, gaps in streams:
            times = service[rows]
            arrivals = np.cumsum(gaps) * times.mean() / load
            # First come, first served is ageing alone.
            ageing = settings.ageing if np.ptp(keys) > 0 else 1.0
            waits = simulate(times, keys[rows] + ageing * arrivals, arrivals)
            values.setdefault(f"aged_wait_{percent(load)}", []).append(float(waits.mean()))
            values.setdefault(f"aged_p99_{percent(load)}", []).append(float(np.quantile(waits, TAIL)))
    return values
