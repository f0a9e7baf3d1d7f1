"""Many items in processes that can be ended: order, bounds, errors, and what takes too much."""

import builtins
import math
import operator
import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from assay.core.parallel import Ended, Limits, Why, Workers, _Budget
from assay.core.worker import reserve

LIMITS = Limits(seconds=30, memory=2**30, at_once=100)


@pytest.mark.parametrize(("count", "chunk"), [(1, 1), (2, 1), (2, 7)])
@pytest.mark.parametrize("number", [0, 25])
def test_results_come_in_order(count: int, chunk: int, number: int) -> None:
    uneven = [5000 * (item % 2) for item in range(number)]
    found = list(Workers(math.factorial, count=count, limits=LIMITS).map(uneven, chunk=chunk))
    assert found == list(zip(uneven, map(math.factorial, uneven), strict=True))


@pytest.mark.parametrize("count", [1, 2])
def test_items_are_taken_only_as_results_are_used(count: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for i in range(1000):
            taken += 1
            yield i

    results = Workers(operator.neg, count=count, limits=LIMITS).map(items())
    for used in range(1, 6):
        next(results)
        assert taken <= used + 2 * count
    results.close()


def test_an_error_reaches_the_caller_as_it_was() -> None:
    results = Workers(math.sqrt, count=1, limits=LIMITS).map([4, 9, -1, 16], chunk=2)
    assert [next(results), next(results)] == [(4, 2.0), (9, 3.0)]
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        next(results)


def test_large_arrays_come_whole_and_one_does_not_overwrite_another() -> None:
    shapes = [(2**10, 2**11), (3,), (2**21,), (2, 2**20)]
    for count in (1, 2):
        for shape, found in Workers(np.ones, count=count, limits=LIMITS).map(shapes, chunk=4, dtype="int8"):
            np.testing.assert_array_equal(found, np.ones(shape, "int8"))


def test_what_takes_too_long_or_dies_costs_its_item_alone() -> None:
    limits = Limits(seconds=0.5, memory=2**30, at_once=1)
    with Workers(math.factorial, count=1, limits=limits) as workers:
        begin = time.monotonic()
        found = [result for _, result in workers.map([3, 10**7, 4], chunk=3)]
    assert (found[0], found[2]) == (6, 24)
    assert found[1].why == Why.TIME
    assert found[1].detail in ("more than 0.5 s of processor time", "more than 15 s on the clock")
    assert time.monotonic() - begin < 60
    limits = Limits(seconds=0.02, memory=2**30, at_once=1)
    with Workers(time.sleep, count=1, limits=limits) as workers:
        assert workers.call(60) == Ended(Why.TIME, "more than 0.6 s on the clock")
        assert workers.call(0) is None
    with Workers(os._exit, count=1, limits=LIMITS) as workers, pytest.raises(RuntimeError, match="status 3"):
        workers.call(3)


def test_a_crash_is_known_by_its_signal() -> None:
    with Workers(signal.raise_signal, count=1, limits=LIMITS) as workers:
        assert workers.call(signal.SIGSEGV) == Ended(Why.SIGNAL, "ended by SIGSEGV")
        assert workers.call(signal.SIGWINCH) is None


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memory is limited on Linux alone")
def test_memory_beyond_the_limit_is_an_error_of_the_item() -> None:
    with Workers(builtins.bytes, count=1, limits=Limits(seconds=30, memory=2**28, at_once=1)) as workers:
        with pytest.raises(MemoryError):
            workers.call(2**29)
        assert workers.call(3) == bytes(3)


def test_closing_ends_what_is_under_way() -> None:
    workers = Workers(time.sleep, count=2, limits=LIMITS)
    results = workers.map([0, 500, 500])
    assert next(results) == (0, None)
    begin = time.monotonic()
    results.close()
    assert time.monotonic() - begin < 5
    assert not workers._all


def test_processes_use_together_no_more_than_is_allowed_at_once() -> None:
    limits = Limits(seconds=30, memory=2**30, at_once=10)
    amounts = [10, 3, 25, 7, 10]
    assert [item for item, _ in Workers(reserve, count=3, limits=limits).map(amounts)] == amounts
    budget, most, used, lock = _Budget(10), [], [0], threading.Lock()

    def use(amount: int) -> None:
        taken = budget.take(amount)
        with lock:
            used[0] += taken
            most.append(used[0])
        time.sleep(0.001)
        with lock:
            used[0] -= taken
        budget.give(taken)

    threads = [threading.Thread(target=use, args=(amount,)) for amount in (4, 9, 2, 30, 6, 5) * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert (max(most), budget.free) == (10, 10)
    reserve(10**9)  # nobody counts in this process
