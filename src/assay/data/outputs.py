"""The file that a command writes its rows to, and what may stand in it."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

OUTPUTS = (".csv", ".jsonl", ".parquet")
# How a cell begins that a spreadsheet may take for a formula (OWASP, "CSV Injection"); the full-width signs, too. The mark
# itself is among them, so that who takes one mark off every cell that has one gets every text back.
MARK = "'"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", MARK)


def check_output(output: Path | None, *, suffixes: Collection[str] = OUTPUTS) -> None:
    """Raise a ValueError, before any work, for an output that could not be written after it.

    ``suffixes``: one of them is asked for; any will do where there is none.
    """
    if output is None:
        return
    if suffixes and output.suffix.lower() not in suffixes:
        raise ValueError(f"--output {output}: suffix {output.suffix!r} is not known; use {', '.join(suffixes)}")
    if output.is_dir():
        raise ValueError(f"--output {output} is a folder; name a file")
    if output.exists() and not output.is_file():
        # A whole file takes the place of what has the name: of /dev/null, say, which others need.
        raise ValueError(f"--output {output} is a device, a pipe or a socket; name a file")
    output.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(output.parent, os.W_OK):
        raise ValueError(f"--output {output}: no permission to write into {output.parent}")


def plain_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: a text that begins as one has `MARK` before it; others as they are."""
    return MARK + value if isinstance(value, str) and value.startswith(FORMULA) else value
