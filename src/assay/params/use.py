"""Putting another parameter file in the place of params.yaml.

DVC reads params.yaml and nothing else. ``params/full.yaml`` and the like hold only what differs from the embedded default;
using one writes the default with these values as params.yaml. git shows the difference and brings the old file back.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from assay.core.params import PARAMS_FILE, ParamsError
from assay.params.schema import MADE_BY, overlaid_text, validate_file


def use_params(path: Path, *, target: Path = PARAMS_FILE) -> str:
    """Check ``path`` over the embedded default and write both as ``target``; returns a line that says what was done.

    Raises:
        ParamsError: ``path`` can't be used, or ``target`` has edits that git does not hold yet.
    """
    validate_file(path, base=target)
    if path.resolve() == target.resolve():
        return f"{target} is valid"
    head = f"{MADE_BY} {path.as_posix()} (git restore {target} brings the one before back)"
    text = f"{head}\n{overlaid_text(path, base=target)}"
    present = target.read_text(encoding="utf-8")
    if present == text:
        return f"{target} holds {path} already"
    # What a use has made can be made again; anything else must be in git before it is written over.
    status = subprocess.run(
        ["git", "status", "--porcelain", "--", str(target)], capture_output=True, text=True, check=False
    )
    others = (
        other for other in sorted(path.parent.glob("*.yaml")) if present.startswith(f"{MADE_BY} {other.as_posix()}")
    )
    untouched = any(present.partition("\n")[2] == overlaid_text(other, base=target) for other in others)
    if (status.returncode != 0 or status.stdout.strip()) and not untouched:
        raise ParamsError(f"{target} has edits that are not committed; commit or discard them before using {path}")
    target.write_text(text, encoding="utf-8")
    return f"{target} now holds {path} over the embedded default (git restore {target} brings the old one back)"
