"""The file that a command writes its rows to."""

from __future__ import annotations

import os
from pathlib import Path

OUTPUTS = (".csv", ".jsonl", ".parquet")


def check_output(output: Path | None) -> None:
    """Raise a ValueError, before any work, for an output that could not be written after it."""
    if output is None:
        return
    if output.suffix.lower() not in OUTPUTS:
        raise ValueError(f"--output {output}: suffix {output.suffix!r} is not known; use {', '.join(OUTPUTS)}")
    if output.is_dir():
        raise ValueError(f"--output {output} is a folder; name a file")
    output.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(output.parent, os.W_OK):
        raise ValueError(f"--output {output}: no permission to write into {output.parent}")
