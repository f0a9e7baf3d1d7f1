"""Damaged files by the thousand: a file changed at random, a door that reads it, and what came of it.

Every change follows from its number alone, so a finding is repeated by its number. The door is tried in a forked process, as
many files as it survives: a crash, an exception that leaves the door, more than ``SECONDS`` or ``MEMORY`` is a finding.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SECONDS = 10
MEMORY = 2 * 2**30
# What no number, size or word should be.
NUMBERS = (b"0", b"-1", b"1e999", b"NaN", b"4294967295", b"-9223372036854775808", b"99999999999999999999", b"0.5")
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3,
    2**31,
    2**70,
    1e308,
    "",
    "../../x",
    "x" * 10**6,
    [],
    [[]],
    {},
    {"a": {"b": 1}},
)


def changed(data: bytes, number: int) -> bytes:
    """The file with the change of this number: bits, bytes, numbers, blocks, its end, or a value where it is JSON."""
    rng = np.random.default_rng(number)
    if data[:1] in (b"{", b"[") and rng.random() < 0.5:
        # A file of JSON lines has one of them changed.
        lines = [data] if data[:2] in (b"{\n", b"[\n") else data.splitlines(keepends=True)
        one = int(rng.integers(len(lines)))
        return b"".join([*lines[:one], _changed_json(lines[one], rng), *lines[one + 1 :]])
    for _ in range(rng.integers(1, 4)):
        # Headers are short and decide most: half of the changes are among the first bytes.
        size = len(data) if rng.random() < 0.5 else min(len(data), 512)
        place, length = int(rng.integers(size + 1)), int(rng.integers(1, 64))
        kind = rng.integers(6)
        if kind == 0 and data:
            place = min(place, len(data) - 1)
            data = data[:place] + bytes([data[place] ^ (1 << rng.integers(8))]) + data[place + 1 :]
        elif kind == 1:
            data = data[:place] + rng.bytes(length) + data[place + length :]
        elif kind == 2:
            data = data[:place] + bytes([rng.choice([0, 255])]) * length + data[place + length :]
        elif kind == 3:
            data = data[:place] if rng.random() < 0.5 else data[:place] + data[place + length :]
        elif kind == 4:
            data = data[:place] + data[place : place + length] * int(rng.integers(2, 50)) + data[place + length :]
        elif found := list(re.finditer(rb"-?\d+", data[:100_000])):
            digits = found[rng.integers(len(found))]
            data = data[: digits.start()] + NUMBERS[rng.integers(len(NUMBERS))] + data[digits.end() :]
    return data


def _changed_json(data: bytes, rng: np.random.Generator) -> bytes:
    record = json.loads(data)
    places = list(_places(record))
    for _ in range(rng.integers(1, 4)):
        holder, key = places[rng.integers(len(places))]
        if rng.random() < 0.2 and isinstance(holder, dict):
            holder.pop(key, None)
        else:
            holder[key] = VALUES[rng.integers(len(VALUES))]
    return json.dumps(record).encode() + b"\n"


def _places(value: Any) -> Iterable[tuple[Any, Any]]:
    for key, item in list(value.items()) if isinstance(value, dict) else list(enumerate(value)):
        yield value, key
        if isinstance(item, dict | list) and len(item) < 1000:
            yield from _places(item)


@dataclass(frozen=True)
class Finding:
    """What a door did with the change of this number, and the last that was heard of it."""

    number: int
    what: str
    said: str


def attack(
    prepare: Callable[[int], None], door: Callable[[], object], numbers: Sequence[int], log: Path
) -> list[Finding]:
    """Try ``door`` after ``prepare(number)`` for each number; standard error goes to ``log``.

    The door does not return what is a finding: it raises, or asserts.
    """
    findings, waiting = [], list(numbers)
    while waiting:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _try(prepare, door, waiting, writer, log)
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as told:
            begun = [line.split() for line in told]
        _, status = os.waitpid(child, 0)
        said = " | ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])[-500:]
        grown = [(int(number), int(size)) for number, _, size in begun if int(size) > MEMORY // 1024]
        findings += [Finding(number, f"{size // 1024} MiB", said) for number, size in grown[:1]]
        done = len(begun) // 2
        if status:
            signalled = os.WIFSIGNALED(status)
            what = signal.Signals(os.WTERMSIG(status)).name if signalled else "exception"
            findings.append(Finding(waiting[done], what, said))
        # The one that ended the process is not tried again.
        waiting = waiting[done + 1 :] if status else []
    return findings


def few(number: int) -> int:
    """How many changes of a file to try: so many in the tests; as many as ``ASSAY_FUZZ`` says where that is set."""
    return int(os.environ.get("ASSAY_FUZZ", number))


def attack_models(folder: Path, arguments: Sequence[str], count: int, log: Path) -> list[Finding]:
    """Try ``assay`` with these arguments while one file after the other of a folder is changed, ``count`` times each.

    The command may answer or refuse; a traceback or another exit status is a finding.
    """
    from assay.cli import main

    names = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    spoiled: dict[Path, bytes] = {}

    def prepare(number: int) -> None:
        for path, content in spoiled.items():
            path.write_bytes(content)
        spoiled.clear()
        path = names[number % len(names)]
        spoiled[path] = path.read_bytes()
        path.write_bytes(changed(spoiled[path], number))

    def door() -> None:
        status = main(list(arguments))
        assert status in (0, 2, 3), status

    whole = {path: path.read_bytes() for path in names}
    try:
        return attack(prepare, door, range(count * len(names)), log)
    finally:
        for path, content in whole.items():
            path.write_bytes(content)


def _try(
    prepare: Callable[[int], None], door: Callable[[], object], numbers: Sequence[int], writer: int, log: Path
) -> None:
    """In the forked process: every number in turn, and out."""
    code = 1
    try:
        for stream, path in ((1, Path(os.devnull)), (2, log)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        # Ends the process: what a library does in its own language no exception interrupts.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        used = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
        resource.setrlimit(resource.RLIMIT_AS, (used + 3 * MEMORY, resource.RLIM_INFINITY))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in numbers:
            prepare(number)
            os.write(writer, f"{number} begun 0\n".encode())
            signal.alarm(SECONDS)
            door()
            signal.alarm(0)
            grown = max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
            os.write(writer, f"{number} done {grown}\n".encode())
        code = 0
    finally:
        if code:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)
