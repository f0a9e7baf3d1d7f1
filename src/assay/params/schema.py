"""The whole parameter file: every line of work, and no section that belongs to none."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML

from assay.core.params import PARAMS_FILE, ParamsError, read_yaml, validate
from assay.params.counts import Counts
from assay.params.stacking import Stacking
from assay.params.text import Text
from assay.params.vlm import Vlm

# How a params.yaml begins that a use of another file has written.
MADE_BY = "# Made by assay params --use"
LINES: tuple[type[BaseModel], ...] = (Stacking, Counts, Text, Vlm)


def embedded_default(base: Path = PARAMS_FILE) -> str:
    """Text of the parameters that a file under params/ builds on: params.yaml, or where a use has written over it, the
    newest version of it in git that no use has made.

    Raises:
        ParamsError: no such file, or git has no such version.
    """
    if not base.is_file():
        raise ParamsError(f"no parameter file at {base}: run from the folder of dvc.yaml")
    text = base.read_text(encoding="utf-8")
    if not text.startswith(MADE_BY):
        return text
    for earlier in committed_versions(base):
        if not earlier.startswith(MADE_BY):
            return earlier
    raise ParamsError(
        f"{base} was made from a file under params/, and git has no earlier version: restore one, or git fetch --unshallow"
    )


def committed_versions(path: Path) -> Iterator[str]:
    """The file's versions in git, the newest first; none where git does not know it."""
    log = ["git", "log", "--format=%H", "--", path.name]
    commits = subprocess.run(log, cwd=path.parent, capture_output=True, text=True, check=False).stdout.split()
    for commit in commits:
        show = ["git", "show", f"{commit}:./{path.name}"]
        shown = subprocess.run(show, cwd=path.parent, capture_output=True, text=True, encoding="utf-8", check=False)
        if shown.returncode == 0:
            yield shown.stdout


def _put_over(values: Any, changes: dict[str, Any]) -> None:
    """Set the leaves of ``changes`` in ``values``; lists are leaves."""
    for key, value in changes.items():
        if isinstance(value, dict) and value and isinstance(values.get(key), dict):
            _put_over(values[key], value)
        else:
            values[key] = value


def overlaid_text(path: Path, *, base: Path = PARAMS_FILE) -> str:
    """The embedded default with the values of ``path``, its comments and order kept (OmegaConf would lose both)."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    try:
        values = yaml.load(embedded_default(base))
    except RecursionError:
        raise ParamsError(f"{base} nests values without end") from None
    _put_over(values, read_yaml(path))
    stream = StringIO()
    yaml.dump(values, stream)
    return stream.getvalue()


def validate_file(path: Path = PARAMS_FILE, *, base: Path = PARAMS_FILE) -> dict[str, Any]:
    """Check every section of ``path``, for another file than ``base`` over the embedded default; returns plain content.

    Raises:
        ParamsError: a bad value in any line, or a top-level section that no line reads.
    """
    content = read_yaml(path)
    if path.resolve() != base.resolve():
        content = YAML(typ="safe", pure=True).load(overlaid_text(path, base=base))
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
