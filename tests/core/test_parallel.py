"""Many items in several processes: order, bounds and errors."""

import math
import operator
import os
from collections.abc import Iterator
from functools import partial

import pytest

from assay.core.parallel import ordered_map


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("count", [0, 25])
def test_results_come_in_order(workers: int, count: int) -> None:
    uneven = [5000 * (number % 2) for number in range(count)]
    assert list(ordered_map(math.factorial, uneven, workers=workers)) == list(map(math.factorial, uneven))


@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_taken_only_as_results_are_used(workers: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for i in range(1000):
            taken += 1
            yield i

    results = ordered_map(operator.neg, items(), workers=workers)
    for used in range(1, 6):
        next(results)
        assert taken <= used + 2 * workers
    results.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_reaches_the_caller(workers: int) -> None:
    results = ordered_map(partial(operator.floordiv, 6), [1, 2, 0, 3], workers=workers)
    assert [next(results), next(results)] == [6, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_one_worker_stays_in_this_process_and_two_do_not() -> None:
    assert set(ordered_map(_pid, [0, 1], workers=1)) == {os.getpid()}
    others = set(ordered_map(operator.methodcaller("__call__"), [os.getpid, os.getpid], workers=2))
    assert os.getpid() not in others


def _pid(_: int) -> int:
    return os.getpid()
