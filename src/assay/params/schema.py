"""The whole parameter file: every line of work, and no section that belongs to none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from assay.core.params import PARAMS_FILE, ParamsError, read_yaml, validate
from assay.params.counts import Counts
from assay.params.stacking import Stacking
from assay.params.text import Text
from assay.params.vlm import Vlm

LINES: tuple[type[BaseModel], ...] = (Stacking, Counts, Text, Vlm)


def validate_file(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Check every section of ``path``; returns its plain content.

    Raises:
        ParamsError: a bad value in any line, or a top-level section that no line reads.
    """
    content = read_yaml(path)
    known = {name for line in LINES for name in line.model_fields}
    unknown = sorted(set(content) - known, key=str)
    if unknown:
        raise ParamsError(f"{path}: unknown section(s) {unknown}; known: {sorted(known)}")
    errors = []
    for line in LINES:
        try:
            validate(line, content, path=path)
        except ParamsError as error:
            errors.append(str(error))
    if errors:
        # A section that several lines read is wrong in each of them, and said once.
        raise ParamsError("\n".join(dict.fromkeys(line for text in errors for line in text.splitlines())))
    return content
