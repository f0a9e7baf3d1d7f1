"""Putting another parameter file in the place of params.yaml.

DVC reads params.yaml and nothing else, so ``params/full.yaml`` is used by copying it there; git shows the difference
and brings the old file back.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from assay.core.params import PARAMS_FILE, ParamsError
from assay.params.schema import validate_file


def use_params(path: Path, *, target: Path = PARAMS_FILE) -> str:
    """Check ``path`` and copy it over ``target`` if they differ; returns a line that says what was done.

    Raises:
        ParamsError: ``path`` can't be used, or ``target`` has edits that git does not hold yet.
    """
    validate_file(path)
    content = path.read_bytes()
    if target.is_file() and target.read_bytes() == content:
        return f"{target} is valid"
    if target.is_file():
        status = subprocess.run(
            ["git", "status", "--porcelain", "--", str(target)], capture_output=True, text=True, check=False
        )
        known = any(target.read_bytes() == other.read_bytes() for other in sorted(path.parent.glob("*.yaml")))
        if (status.returncode != 0 or status.stdout.strip()) and not known:
            raise ParamsError(f"{target} has edits that are not committed; commit or discard them before using {path}")
    target.write_bytes(content)
    return f"{target} now holds {path} (git checkout {target} brings the old one back)"
