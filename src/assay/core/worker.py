"""The side of `assay.core.parallel` that works: a process that serves calls of one function, each within its time.

The processes import the module of the function, and nothing of the caller's.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import warnings
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

# Of the time on the clock, as a multiple of the processor time, for what waits without working; where others work, too,
# an honest item may be slow by the clock.
PATIENCE = 30
# Arrays from this many bytes on go through a file in memory, which copies them less often than a pipe.
LARGE = 2**20
# What a function may raise; it reaches the caller as it was.
ERRORS: tuple[type[Exception], ...] = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError),
    *(OSError, RuntimeError, TypeError, ValueError),
)


class Wanted(NamedTuple):
    """A function wants to use so much of `Limits.at_once`."""

    amount: int


class Large(NamedTuple):
    """An array that lies in the shared file, until it is said to be read."""

    shape: tuple[int, ...]
    dtype: str


class Failed(NamedTuple):
    """What the function raised."""

    error: BaseException


@dataclass
class _Server:
    """The working side: its connection, the file for large arrays, and the time an item may take."""

    connection: Connection
    file: int
    seconds: float = 0.0

    def clock(self, *, running: bool) -> None:
        """Start or stop the timers; the signals of both end the process, whatever native code it is in."""
        signal.setitimer(signal.ITIMER_PROF, self.seconds if running else 0)
        self.wall(running=running)

    def wall(self, *, running: bool) -> None:
        signal.setitimer(signal.ITIMER_REAL, PATIENCE * self.seconds if running else 0)


_server: _Server | None = None


def reserve(amount: int) -> None:
    """Wait until ``amount`` (say pixels) fits into `Limits.at_once` beside what other processes use now.

    It is given back with the item's result. In a process that nobody counts in, nothing happens.
    """
    if _server is not None:
        _server.wall(running=False)  # to wait for others is not to be slow
        _server.connection.send(Wanted(amount))
        _server.connection.recv()
        _server.wall(running=True)


def serve(handle: int, file: int) -> None:
    """The work of a process of `Workers`, until the other side closes the connection ``handle``."""
    global _server
    warnings.simplefilter("ignore")  # of libraries, about single files: the caller has the results
    connection = Connection(handle)
    _server = _Server(connection, file)
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    try:
        module, name, seconds, memory = connection.recv()
        function = getattr(import_module(module), name)
        _server.seconds = seconds
        if sys.platform == "linux":
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            resource.setrlimit(resource.RLIMIT_DATA, (memory if hard < 0 else min(memory, hard), hard))
        while True:
            items, options = connection.recv()
            for item in items:
                _server.clock(running=True)
                try:
                    result = function(item, **options)
                except ERRORS as error:
                    result = Failed(error)
                _server.clock(running=False)
                connection.send(packed := _packed(result, file))
                if isinstance(packed, Large):
                    connection.recv()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _packed(result: Any, file: int) -> Any:
    """A result as it goes through the pipe; a large array is written into the file."""
    # Not by its class, since most functions need no NumPy.
    if getattr(result, "nbytes", 0) < LARGE or not hasattr(result, "dtype"):
        return result
    view = memoryview(result.reshape(-1)).cast("B")
    done = 0
    while done < len(view):
        done += os.pwrite(file, view[done : done + 2**30], done)
    return Large(result.shape, str(result.dtype))
