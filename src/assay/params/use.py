"""Putting another parameter file in the place of params.yaml.

DVC reads params.yaml and nothing else. ``params/full.yaml`` and the like hold only what differs from the embedded default;
using one writes the default with these values as params.yaml.
"""

from __future__ import annotations

from pathlib import Path

from assay.core.io import atomic_path
from assay.core.params import PARAMS_FILE, ParamsError
from assay.params.schema import MADE_BY, committed_versions, embedded_default, overlaid_text, validate_file

DEFAULT, FOLDER = Path("default"), Path("params")


def use_params(path: Path, *, target: Path = PARAMS_FILE) -> str:
    """Check ``path`` over the embedded default and write both as ``target``; returns a line that says what was done.

    The path ``default`` stands for the embedded default alone: the way back from a use that was committed.

    Raises:
        ParamsError: ``path`` can't be used, or ``target`` has edits that git does not hold yet.
    """
    default = path == DEFAULT
    if not default:
        validate_file(path, base=target)
    if path.resolve() == target.resolve():
        return f"{target} is valid"
    head = f"{MADE_BY} {path.as_posix()} (assay params --use default brings the embedded default back)"
    text = embedded_default(target) if default else f"{head}\n{overlaid_text(path, base=target)}"
    present = target.read_text(encoding="utf-8")
    if present == text:
        return f"{target} holds {path} already"
    # What a use has made can be made again; anything else must be in git before it is written over.
    files = sorted(FOLDER.glob("*.yaml"))
    others = (other for other in files if present.startswith(f"{MADE_BY} {other.as_posix()}"))
    untouched = any(present.partition("\n")[2] == overlaid_text(other, base=target) for other in others)
    if not untouched and present not in committed_versions(target):
        raise ParamsError(f"{target} has edits that are not committed; commit or discard them before using {path}")
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    words = (
        "the embedded default" if default else f"{path} over the embedded default (assay params --use default: back)"
    )
    return f"{target} now holds {words}"
