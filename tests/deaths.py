"""Run by test_half_written.py: every writer of what users ask for, ended at each of its steps, on a full disk, and so on.

    python deaths.py FOLDER PROJECT

Each attempt is a process of its own, forked when all is imported; what it left of the file is printed as a line of JSON.
"""

import ctypes
import io
import json
import os
import resource
import signal
import sqlite3
import struct
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from assay.cli import ended_in_order
from assay.data import image_inputs, tables
from assay.params.use import use_params
from assay.report.marks import write_results
from assay.report.page import write_report
from assay_tools.gates import fix_lock
from assay_tools.repro.graph import order_lock

COLUMNS = ["path", "status", "reason"]
BUSY = 40


@dataclass(frozen=True)
class Writer:
    """How a file is written, where, and in which folder that has to happen."""

    write: Callable[[], object]
    target: Path
    project: Path = Path()


def image_rows(letter: str = "a") -> Iterator[dict[str, str | None]]:
    """More than one batch of parquet."""
    for number in range(5000):
        if number == 4500:
            sys.audit("middle")
        yield {"path": f"{letter * 40}-{number}", "status": "ok", "reason": None}


def put_images(target: Path, letter: str = "a") -> None:
    image_inputs.write_rows(image_rows(letter), target, columns=COLUMNS, numbers=())


def writers(folder: Path, project: Path) -> dict[str, Writer]:
    frame = pd.DataFrame({"text": ["a" * 40] * 3000, "p_a": 0.5, "status": "ok", "reason": None})
    found = {}
    for suffix in ("csv", "jsonl", "parquet"):
        target = folder / f"images_{suffix}.{suffix}"
        found[f"images, {suffix}"] = Writer(partial(put_images, target), target)
        target = folder / f"texts_{suffix}.{suffix}"
        found[f"texts, {suffix}"] = Writer(partial(tables.write_rows, frame, target), target)
    page = folder / "report.html"
    return found | {
        "report": Writer(partial(write_report, page, root=project), page),
        "results": Writer(write_results, project / "docs/results.md", project),
        "params": Writer(partial(use_params, Path("params/tiny.yaml")), project / "params.yaml", project),
        "check --fix": Writer(fix_lock, project / "small/dvc.lock", project / "small"),
        "order of dvc.lock": Writer(
            partial(order_lock, Path(), ["two", "one"]), project / "small/dvc.lock", project / "small"
        ),
    }


def steps(writer: Writer, *, last: int | None, number: int | None) -> list[str]:
    """Note what happens around the target, in order; at step ``last`` a signal comes."""
    seen: list[str] = []

    def hook(event: str, arguments: tuple) -> None:
        if event == "middle":
            what = event
        elif event == "open" and isinstance(arguments[0], str | os.PathLike):
            path, _, flags = arguments
            if not flags & (os.O_WRONLY | os.O_RDWR) or writer.target.stem not in Path(path).name:
                return
            what = f"open {'again' if 'open' in seen else ''}"
        elif event == "os.rename" and Path(arguments[1]).name == writer.target.name:
            what = event
        else:
            return
        if last == len(seen) and number is not None:
            seen.append(what)
            os.kill(os.getpid(), number)
        seen.append(what)

    sys.addaudithook(hook)
    return seen


def attempt(
    writer: Writer, *, before: Callable[[], object] = lambda: None, last: int | None = None, number: int | None = None
) -> tuple[int, str]:
    """Write in a process of its own: its exit status, and the steps (where it came to its end) or what was wrong."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status, said = 1, ""
        try:
            os.chdir(writer.project)
            sys.stdout = sys.stderr = io.StringIO()
            before()
            seen = steps(writer, last=last, number=number)
            with ended_in_order():
                writer.write()
            status, said = 0, str(len(seen))
        except SystemExit as end:
            status = int(str(end.code))
        except (OSError, ValueError, sqlite3.Error) as error:  # those that the command line makes a sentence of
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing, said.encode()[:4000])
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as stream:
        said = stream.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def limited(size: int) -> None:
    """As a full disk: no file may grow beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def without_rights(folder: Path) -> None:
    """The folder can be read alone; root would not mind, so its capabilities are given up (capset, version 3, none)."""
    folder.chmod(0o555)
    if os.getuid() == 0:
        assert ctypes.CDLL(None).capset(struct.pack("Ii", 0x20080522, 0), bytes(24)) == 0


def tell(writer: Writer, old: bytes, new: bytes, there: Collection[Path], **what: object) -> None:
    """What an attempt left beside what was ``there`` before, and all back as it was."""
    writer.target.parent.chmod(0o755)
    found = writer.target.read_bytes() if writer.target.exists() else b"gone"
    which = "old" if found == old else "new" if found == new else "broken"
    left = [path for path in writer.target.parent.glob(f"*{writer.target.stem}*") if path not in there]
    shown = [path.name.replace(writer.target.stem, "*") for path in left]
    print(json.dumps({**what, "which": which, "left": shown}), flush=True)
    for path in left:
        path.unlink()
    writer.target.write_bytes(old)


def try_all(name: str, writer: Writer) -> None:
    if not writer.target.exists():
        writer.target.write_bytes(b"of last week")
    old, there = writer.target.read_bytes(), set(writer.target.parent.iterdir())
    status, said = attempt(writer)
    assert (status, said.isdecimal()) == (0, True), (name, status, said)
    new = writer.target.read_bytes()
    assert new != old, name
    writer.target.write_bytes(old)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for last in range(int(said)):
            status, _ = attempt(writer, last=last, number=number)
            tell(writer, old, new, there, name=name, how=number.name, step=last, status=status)
    status, words = attempt(writer, before=partial(limited, len(new) // 2))
    tell(writer, old, new, there, name=name, how="full", status=status, said=words)
    status, words = attempt(writer, before=partial(without_rights, writer.target.parent))
    tell(writer, old, new, there, name=name, how="read-only", status=status, said=words)


def two_at_once(target: Path) -> None:
    """Two runs write one file again and again; all that is ever seen is the one's or the other's whole file."""
    texts = {}
    for letter in "ab":
        put_images(target, letter)
        texts[target.read_bytes()] = letter
    children = []
    for letter in "ab":
        children.append(os.fork())
        if children[-1] == 0:
            sys.stderr = io.StringIO()
            for _ in range(BUSY):
                put_images(target, letter)
            os._exit(0)
    seen = []
    while children:
        seen.append(texts.get(target.read_bytes(), "broken"))
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            assert status == 0
            children.remove(child)
        time.sleep(0.001)
    left = sorted(path.name for path in target.parent.iterdir() if path != target)
    print(json.dumps({"name": "two at once", "seen": sorted(set(seen)), "left": left}), flush=True)


if __name__ == "__main__":
    place, root = Path(sys.argv[1]), Path(sys.argv[2])
    for title, one in writers(place, root).items():
        try_all(title, one)
    (place / "two").mkdir()
    two_at_once(place / "two/rows.csv")
