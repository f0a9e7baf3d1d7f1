"""One function over many items in several processes, in order and in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Iterator[Result]:
    """Yield ``function(item)`` in the order of ``items``; at most ``2 * workers`` results are held at a time.

    ``ProcessPoolExecutor.map`` would take in all items at once. With one worker everything runs in this process.
    """
    if workers == 1:
        yield from map(function, items)
        return
    remaining = iter(items)
    # spawn: this process may hold threads (OpenMP, faiss), which a fork would copy half-alive.
    with ProcessPoolExecutor(max_workers=workers, mp_context=get_context("spawn")) as pool:
        waiting: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(remaining, 2 * workers))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(remaining, 1))
