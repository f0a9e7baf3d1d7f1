"""What must hold of the pipeline's files, checked in a second or two without running a stage."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from assay.closure import import_closure
from assay.params.base import ParamsError
from assay.params.schema import validate_file

PIPELINE = Path("dvc.yaml")
# The package's own __init__ holds a version string; an edit to it changes no result.
IGNORED = {Path("src/assay/__init__.py")}


def stage_bodies(pipeline: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Stage name and body, looking through ``foreach`` and ``matrix``."""
    for name, entry in pipeline["stages"].items():
        yield name, entry.get("do", entry)


def stage_module(body: dict[str, Any]) -> str | None:
    """The module that a stage's command runs by ``python -m``, or None."""
    match = re.search(r"-m (assay[\w.]+)", str(body.get("cmd", "")))
    return match.group(1) if match else None


def code_deps(body: dict[str, Any]) -> set[Path]:
    """The stage's deps that are files of the package."""
    paths = {Path(next(iter(dep)) if isinstance(dep, dict) else dep) for dep in body.get("deps", [])}
    return {path for path in paths if path.parts[:1] == ("src",) and path.suffix == ".py"}


def wanted_deps(body: dict[str, Any]) -> set[Path]:
    """The files of the package that must stand in the stage's deps."""
    module = stage_module(body)
    return set() if module is None else import_closure(module) - IGNORED


def missing_deps(pipeline: dict[str, Any]) -> list[str]:
    """One line per stage whose deps differ from its import closure."""
    problems = []
    for name, body in stage_bodies(pipeline):
        wanted, listed = wanted_deps(body), code_deps(body)
        if wanted - listed:
            problems.append(f"{PIPELINE}: stage {name} runs files that its deps lack: {_names(wanted - listed)}")
        if listed - wanted:
            problems.append(f"{PIPELINE}: stage {name} has deps that it does not import: {_names(listed - wanted)}")
    return problems


def _names(paths: set[Path]) -> str:
    return ", ".join(sorted(path.as_posix() for path in paths))


def undescribed(pipeline: dict[str, Any]) -> list[str]:
    """One line per stage without a description."""
    return [f"{PIPELINE}: stage {name} has no desc" for name, body in stage_bodies(pipeline) if not body.get("desc")]


def bad_params(root: Path) -> list[str]:
    """Errors of params.yaml and of every file under params/."""
    problems = []
    for path in [root / "params.yaml", *sorted((root / "params").glob("*.yaml"))]:
        try:
            validate_file(path)
        except ParamsError as error:
            problems.append(str(error))
    return problems


def read_pipeline(path: Path = PIPELINE) -> dict[str, Any]:
    """dvc.yaml as plain dicts."""
    if not path.is_file():
        raise ValueError(f"no {path} here: run from the root of the project")
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def fix_deps(path: Path = PIPELINE) -> bool:
    """Rewrite every stage's code deps to its import closure, keeping comments and order; whether anything changed."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(path.read_text(encoding="utf-8"))
    changed = False
    for _, body in stage_bodies(content):
        wanted = sorted(dep.as_posix() for dep in wanted_deps(body))
        listed = [dep.as_posix() for dep in sorted(code_deps(body))]
        if wanted != listed:
            changed = True
            others = [dep for dep in body.get("deps", []) if dep not in listed]
            body["deps"] = wanted + others
    if changed:
        with path.open("w", encoding="utf-8") as stream:
            yaml.dump(content, stream)
    return changed


def green_clone(root: Path = Path()) -> list[str]:
    """Stages that ``dvc repro`` would run in a fresh clone of what is committed: none, if all is consistent.

    The clone has no data; ``--allow-missing`` lets dvc.lock speak for it.
    """
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(root.resolve()), str(clone)], check=True)
        command = [sys.executable, "-m", "dvc", "repro", "--allow-missing", "--dry"]
        done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return [f"dvc repro --allow-missing --dry failed in a fresh clone: {(done.stderr or done.stdout).strip()}"]
    stages = re.findall(r"Running stage '(.+?)'", done.stdout + done.stderr)
    return [
        f"a fresh clone would run {stage}: commit dvc.lock, metrics and plots of a finished dvc repro"
        for stage in stages
    ]


def problems(root: Path = Path()) -> list[str]:
    """Every problem found; empty when all is well."""
    pipeline = read_pipeline(root / PIPELINE)
    return bad_params(root) + missing_deps(pipeline) + undescribed(pipeline)
