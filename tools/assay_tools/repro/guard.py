"""Run a command that must not outlive whoever asked for it.

    python -m assay_tools.repro.guard COMMAND...

The asker holds the other end of standard input. When it dies, however it dies, that end closes, and a watcher ends
the command with all its children: no stage trains on for nobody. The watcher is a process of its own because Ray, when it
gives a worker up, kills the worker's children too, this one among them, but not theirs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

if __name__ == "__main__":
    watcher = os.fork()
    if watcher == 0:
        os.read(sys.stdin.fileno(), 1)
        os.killpg(0, signal.SIGKILL)
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    status = command.wait()
    os.kill(watcher, signal.SIGKILL)
    sys.exit(status)
