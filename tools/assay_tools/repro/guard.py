"""Run a command that must not outlive whoever asked for it, and nothing that it started either.

    python -m assay_tools.repro.guard COMMAND...

The asker holds the other end of standard input. When that end closes, since the asker wants an end or since it died, however
it died, a keeper ends the command (DVC) and all below it: no stage trains on for nobody. Linux gives the keeper every orphan
below it, so what a stage starts in a session of its own, or in the background, is found too. The keeper is a process of its
own because Ray, when it gives a worker up, kills the worker's children, this one among them, but not theirs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from select import select

# Seconds from the wish for an end: how long stages have to end by themselves, how long DVC has to put its locks away, and
# when the keeper gives up on what the system itself does not let go (a disk that hangs).
STAGES_S, DVC_S, LAST_S = 3.0, 6.0, 9.0
# linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def prctl(option: int, value: int) -> None:
    """Ask Linux for a property of this process; elsewhere there is none."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def reap(command: int) -> int | None:
    """Take leave of every child that has ended, orphans too; the exit status of the command if it is among them."""
    found = None
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if child == 0:
            return found
        if child == command:
            found = os.waitstatus_to_exitcode(status)


def end_all(command: int) -> None:
    """End everything below this process: first what the command runs, so that it ends in order, then what is left."""
    # Most commands come to their own end, and need none of it.
    import psutil

    since = time.monotonic()
    told: set[tuple[psutil.Process, int]] = set()
    while True:
        reap(command)
        left = psutil.Process().children(recursive=True)
        past = time.monotonic() - since
        if not left or past > LAST_S:
            return
        for process in left:
            if process.pid != command:
                number = signal.SIGTERM if past < STAGES_S else signal.SIGKILL
            elif past > DVC_S:
                number = signal.SIGKILL
            elif past > STAGES_S or len(left) == 1:
                # It runs nothing of which it could wait for the end: it reads a cache, or waits for a lock.
                number = signal.SIGINT
            else:
                continue
            if (process, number) not in told:
                told.add((process, number))
                try:
                    process.send_signal(number)
                except psutil.NoSuchProcess:  # it ended meanwhile
                    continue
        time.sleep(0.05)


def keep(command: list[str]) -> int:
    """Run the command to its end, or until standard input closes; its exit status, 128 and more for a signal."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        # Where there is a handler, whatever it does, Python writes the signal's number into the pipe.
        signal.signal(number, lambda *_: None)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # A script has its background jobs ignore Ctrl-C, and they hand that on; DVC must hear it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    asked = sys.stdin.fileno()
    while (status := reap(process.pid)) is None:
        ready, _, _ = select([asked, woken], [], [])
        if asked in ready or signal.SIGTERM in os.read(woken, 512):
            end_all(process.pid)
            return 128 + signal.SIGTERM
    process.returncode = status
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    keeper = os.fork()
    if keeper == 0:
        sys.exit(keep(sys.argv[1:]))
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(keeper, 0)[1]))
