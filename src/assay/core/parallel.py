"""One function over many items in processes that can be ended: in order, in bounded memory, each item within limits.

A native parser that crashes or does not come back costs its item and not the run: its process ends, another takes its
place.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from multiprocessing import Pipe
from typing import Any, Generic, NamedTuple, Self, TypeVar

from assay.core.worker import PATIENCE, Failed, Large, Wanted

Item = TypeVar("Item")
Result = TypeVar("Result")

BOOT = "import sys; from assay.core.worker import serve; serve(*map(int, sys.argv[1:]))"


class Why(StrEnum):
    """Why a process ended before its item was done."""

    TIME = "time"
    SIGNAL = "signal"  # it crashed, or the system ended it


class Ended(NamedTuple):
    """In the place of a result: the process ended over this item. ``detail`` is for people."""

    why: Why
    detail: str


@dataclass(frozen=True)
class Limits:
    """What an item may take: ``seconds`` of processor time (on the clock `PATIENCE` times as much), and ``memory``, the
    bytes of its process, beyond which the function sees a MemoryError.

    Of all items together at most ``at_once`` may be used of what functions `reserve`.
    """

    seconds: float
    memory: int
    at_once: int


@dataclass
class _Budget:
    """So much of something that all processes together may use at a time."""

    free: int
    total: int = field(init=False)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.total = self.free

    def take(self, amount: int) -> int:
        """Wait for ``amount``, or for all there is; returns what was taken."""
        amount = min(amount, self.total)
        with self.changed:
            self.changed.wait_for(lambda: self.free >= amount)
            self.free -= amount
        return amount

    def give(self, amount: int) -> None:
        with self.changed:
            self.free += amount
            self.changed.notify_all()


class _Worker:
    """One process and the connection to it."""

    def __init__(self, task: tuple[str, str, float, int], budget: _Budget) -> None:
        self._budget, self._seconds = budget, task[2]
        self._file = os.memfd_create("assay") if hasattr(os, "memfd_create") else _unnamed()
        self._connection, theirs = Pipe()
        with theirs:
            handles = (theirs.fileno(), self._file)
            # Ctrl-C goes to all processes of a terminal: it is this one's to end the others.
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", BOOT, *map(str, handles)],
                    pass_fds=handles,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=_variables(),
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        with suppress(OSError):  # one that could not start is told of when it is asked
            self._connection.send(task)

    def ask(self, items: Sequence[Any], options: Mapping[str, Any]) -> Iterator[Any]:
        """Results of the items, in turn; EOFError or OSError if the process ends on the way."""
        self._connection.send((items, options))
        for _ in items:
            taken = 0
            try:
                while isinstance(answer := self._connection.recv(), Wanted):
                    taken += self._budget.take(answer.amount)
                    self._connection.send(None)
                yield self._unpacked(answer)
            finally:
                self._budget.give(taken)

    def _unpacked(self, answer: Any) -> Any:
        if not isinstance(answer, Large):
            return answer
        import numpy as np

        array = np.empty(answer.shape, answer.dtype)
        view = array.reshape(-1).data.cast("B")
        done = 0
        while done < len(view) and (count := os.preadv(self._file, [view[done : done + 2**30]], done)):
            done += count
        os.ftruncate(self._file, 0)
        self._connection.send(None)
        return array

    def ended(self) -> Ended:
        """Why the process ended by itself.

        Raises:
            RuntimeError: it did so without being killed, which is a fault of the program and not of an item.
        """
        status = self._process.wait()
        self.close()
        if status >= 0:
            raise RuntimeError(f"a working process ended with status {status}; what it said stands above")
        name = signal.Signals(-status).name
        if name in ("SIGPROF", "SIGALRM"):
            seconds, clock = self._seconds, "of processor time"
            if name == "SIGALRM":
                seconds, clock = PATIENCE * seconds, "on the clock"
            return Ended(Why.TIME, f"more than {seconds:g} s {clock}")
        return Ended(Why.SIGNAL, f"ended by {name}")

    def kill(self) -> None:
        """End the process, whatever it does; a thread that waits for it sees the end of the connection."""
        self._process.kill()

    def close(self) -> None:
        """Wait for the end of a process that was killed, and give everything back."""
        self._process.wait()
        self._connection.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _unnamed() -> int:
    """A file that nobody can open, for systems without files in memory; as a handle of its own."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _variables() -> dict[str, str]:
    """The environment of a working process: it finds the same modules, and uses one processor."""
    folders = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    return {**os.environ, "PYTHONPATH": folders, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Workers(Generic[Result]):
    """``count`` processes at most that call ``function(item, **options)``, as a context manager.

    The function is one of a module, known by its name there; items, options and results can be pickled, and are, between
    these processes alone. Processes start as they are needed, or by `start`.
    """

    def __init__(self, function: Callable[..., Result], *, count: int, limits: Limits) -> None:
        assert function.__module__ != "__main__", "a working process could not import it"
        self._task = (function.__module__, function.__qualname__, limits.seconds, limits.memory)
        self._budget = _Budget(limits.at_once)
        self._count = count
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._closed = False

    def start(self) -> None:
        """Start one process now: it imports what it needs while this one does other things."""
        self._give_back(self._taken())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, at once."""
        with self._lock:
            self._closed = True
            workers, idle = list(self._all), list(self._idle)
            self._idle.clear()
        for worker in workers:
            worker.kill()
        for worker in idle:  # a thread closes the one that it waits for
            worker.close()
            self._all.discard(worker)

    def map(
        self, items: Iterable[Item], *, ahead: int | None = None, chunk: int = 1, **options: Any
    ) -> Iterator[tuple[Item, Result | Ended]]:
        """(item, result) in the order of ``items``; ``Ended`` for one that crashed its process or took too long.

        Items go to a process ``chunk`` at a time, and ``ahead`` chunks at most (twice the processes) are under way or
        wait for the caller. What the function raises is raised here; the processes end with the last item or when the
        iterator is closed.
        """
        remaining = iter(items)
        waiting: deque[tuple[list[Item], Future[list[Any]]]] = deque()
        pool = ThreadPoolExecutor(max_workers=self._count)
        try:
            for _ in range(ahead or 2 * self._count):
                self._submit(pool, remaining, waiting, chunk, options)
            while waiting:
                part, future = waiting.popleft()
                for item, result in zip(part, future.result(), strict=True):
                    if isinstance(result, Failed):
                        raise result.error
                    yield item, result
                self._submit(pool, remaining, waiting, chunk, options)
        finally:
            self.close()
            pool.shutdown(cancel_futures=True)

    def call(self, item: Item, **options: Any) -> Result | Ended:
        """The result of one item, from a process that may serve again."""
        (result,) = self._results([item], options)
        if isinstance(result, Failed):
            raise result.error
        return result

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        remaining: Iterator[Item],
        waiting: deque[tuple[list[Item], Future[list[Any]]]],
        chunk: int,
        options: Mapping[str, Any],
    ) -> None:
        if part := list(islice(remaining, chunk)):
            waiting.append((part, pool.submit(self._results, part, options)))

    def _results(self, items: list[Item], options: Mapping[str, Any]) -> list[Any]:
        """Results of the items from one process, or from the next one where that ends."""
        found: list[Any] = []
        while len(found) < len(items):
            worker = self._taken()
            try:
                for result in worker.ask(items[len(found) :], options):
                    found.append(result)
            except (EOFError, OSError):
                with self._lock:
                    self._all.discard(worker)
                if self._closed:
                    worker.close()
                    raise CancelledError from None
                found.append(worker.ended())
            else:
                self._give_back(worker)
        return found

    def _taken(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise CancelledError
            if self._idle:
                return self._idle.pop()
            worker = _Worker(self._task, self._budget)
            self._all.add(worker)
            return worker

    def _give_back(self, worker: _Worker) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(worker)
                return
            self._all.discard(worker)
        worker.kill()
        worker.close()
