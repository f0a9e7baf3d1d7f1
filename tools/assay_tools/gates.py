"""What must hold of the pipeline's files, checked in seconds without running a stage (docs/gates.md)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from assay.closure import LOCK as LOCK_FILE
from assay.closure import OUTPUT, STAGES, code_text, stage_names
from assay.core.io import atomic_path
from assay.core.params import ParamsError
from assay.core.stage import OWN_DATA
from assay.params.schema import validate_file
from assay_tools.links import broken_links
from assay_tools.own_data import carried_by_nothing, lay_out
from assay_tools.site_cache import close_site_cache
from assay_tools.workspace import LOCK, Output, declared_outputs, git, git_files, in_git, lock_lines, stage_name

PIPELINE = Path("dvc.yaml")
# Folders whose files git keeps for ``dvc metrics diff`` and ``dvc plots diff``.
RESULTS = ("metrics", "plots")


def stage_bodies(pipeline: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Stage name and body, looking through ``foreach`` and ``matrix``."""
    for name, entry in pipeline["stages"].items():
        yield name, entry.get("do", entry)


def stage_module(body: dict[str, Any]) -> str | None:
    """The module that a stage's command runs by ``python -m``, or None."""
    match = re.search(r"-m (assay[\w.]+)", str(body.get("cmd", "")))
    return match.group(1) if match else None


def wrong_code_deps(pipeline: dict[str, Any]) -> list[str]:
    """One line per stage that does not depend on the one file of digests of its module, or on a source file beside it."""
    problems = []
    for name, body in stage_bodies(pipeline):
        module = stage_module(body)
        if module is None or not module.startswith(f"{STAGES}."):
            continue
        deps = {next(iter(dep)) if isinstance(dep, dict) else dep for dep in body.get("deps", [])}
        wanted = f"{OUTPUT}/{module.removeprefix(f'{STAGES}.')}.json"
        if wanted not in deps:
            problems.append(f"{PIPELINE}: stage {name} lacks the dep {wanted}, which names the code that it runs")
        problems += [
            f"{PIPELINE}: stage {name} has the dep {dep}, an edit of which {wanted} tells already: remove it"
            for dep in sorted(deps)
            if dep.endswith(".py")
        ]
    return problems


def stale_code(root: Path) -> list[str]:
    """One line that names the files of ``code/`` which are not what the source and the lock file say now."""
    try:
        wanted = {f"{name}.json": code_text(name, root=root) for name in stage_names(root)}
    except (ValueError, SyntaxError) as error:
        return [f"{OUTPUT}: {error}"]
    found = {path.name: path.read_text(encoding="utf-8") for path in (root / OUTPUT).glob("*.json")}
    stale = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    return [f"{OUTPUT}: {', '.join(stale)} behind the source or {LOCK_FILE}: dvc repro code"] if stale else []


def undescribed(pipeline: dict[str, Any]) -> list[str]:
    """One line per stage without a description."""
    return [f"{PIPELINE}: stage {name} has no desc" for name, body in stage_bodies(pipeline) if not body.get("desc")]


def bad_params(root: Path) -> list[str]:
    """Errors of params.yaml and of every file under params/."""
    problems = []
    for path in [root / "params.yaml", *sorted((root / "params").glob("*.yaml"))]:
        try:
            validate_file(path, base=root / "params.yaml")
        except ParamsError as error:
            problems.append(str(error))
    return problems


def read_pipeline(path: Path = PIPELINE) -> dict[str, Any]:
    """dvc.yaml as plain dicts."""
    if not path.is_file():
        raise ValueError(f"no {path} here: run from the root of the project")
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def overlapping(outputs: Collection[Output]) -> list[str]:
    """One line per output that is, or lies inside, another output: DVC would delete the one when it makes the other."""
    problems = []
    owner: Output | None = None
    # In this order a folder stands before what lies in it, and nothing foreign stands between.
    for row in sorted(outputs, key=lambda output: Path(output.path).parts):
        if owner is None or not Path(row.path).is_relative_to(owner.path):
            owner = row
        else:
            how = "is also" if row.path == owner.path else "lies inside"
            problems.append(
                f"{PIPELINE}: {row.kind} {row.path} of stage {row.stage} {how} {owner.kind} {owner.path} of stage "
                f"{owner.stage}: give it a path of its own"
            )
    return problems


def _top_level_plots(pipeline: dict[str, Any]) -> set[str]:
    """Files that the ``plots`` section beside ``stages`` draws."""
    found = set()
    for entry in pipeline.get("plots") or []:
        for name, how in (entry if isinstance(entry, dict) else {entry: None}).items():
            sources = [(how or {}).get("y"), (how or {}).get("x")]
            files = {path for source in sources if isinstance(source, dict) for path in source}
            # An entry without files of its own is named after its file.
            found |= files or {name}
    return found


def undeclared(outputs: Collection[Output], *, tracked: Collection[str], plots: Collection[str] = ()) -> list[str]:
    """Files under metrics/ and plots/ that no stage makes, and declared ones that git does not have.

    Args:
        outputs: of every stage, resolved.
        tracked: files that git tracks.
        plots: files of the pipeline's own ``plots`` section.
    """
    declared = {output.path for output in outputs} | set(plots)
    problems = []
    for name in sorted(tracked):
        path = Path(name)
        if path.parts[0] in RESULTS and not any(part.as_posix() in declared for part in (path, *path.parents)):
            problems.append(
                f"{name}: in git, but no stage of {PIPELINE} declares it: declare it under the stage that writes it, or "
                f"git rm {name}"
            )
    folders = {parent.as_posix() for name in tracked for parent in Path(name).parents}
    for output in outputs:
        if output.kind != "out" and not output.cached and output.path not in tracked and output.path not in folders:
            problems.append(
                f"{PIPELINE}: {output.kind} {output.path} of stage {output.stage} is not in git: dvc repro "
                f"{output.stage}, then git add {output.path}"
            )
    return problems


def resolved_stages(root: Path) -> set[str]:
    """Names of all stages, ``foreach`` and ``matrix`` expanded.

    Raises:
        dvc.exceptions.DvcException: dvc refuses dvc.yaml.
    """
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        return {stage_name(stage) for stage in repo.index.stages}


def stale_lock(root: Path, stages: Collection[str]) -> list[str]:
    """One line per entry of dvc.lock whose stage dvc.yaml no longer has; ``stages`` are the resolved names."""
    return [
        f"{LOCK}: lines {first}-{last} are of stage {name}, which {PIPELINE} no longer has: assay check --fix removes "
        "them; commit the result"
        for name, (first, last) in lock_lines(root / LOCK).items()
        if name not in stages
    ]


def fix_lock(root: Path = Path()) -> list[str]:
    """Remove stale entries from dvc.lock, every other byte as it was; the names removed.

    Raises:
        ValueError: dvc refuses dvc.yaml.
    """
    from dvc.exceptions import DvcException

    try:
        stages = resolved_stages(root)
    except DvcException as error:
        raise ValueError(str(error)) from error
    entries = lock_lines(root / LOCK)
    stale = {name: span for name, span in entries.items() if name not in stages}
    if not stale:
        return []
    if len(stale) == len(entries):
        (root / LOCK).unlink()
        return sorted(stale)
    gone = {line for first, last in stale.values() for line in range(first, last + 1)}
    lines = (root / LOCK).read_text(encoding="utf-8").splitlines(keepends=True)
    kept = "".join(line for number, line in enumerate(lines, start=1) if number not in gone)
    with atomic_path(root / LOCK) as temporary:
        temporary.write_text(kept, encoding="utf-8")
    return sorted(stale)


def bad_pipeline(root: Path, pipeline: dict[str, Any]) -> list[str]:
    """What is wrong with the resolved stages: overlaps, results that are not declared, stale entries of dvc.lock."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            outputs = declared_outputs(repo)
            stages = {stage_name(stage) for stage in repo.index.stages}
            found = overlapping(outputs)
            if not found:
                # DVC's own checks (cycles, stages inside outputs); it would stop at the first overlap.
                _ = repo.index.graph
    except DvcException as error:
        return [f"dvc refuses the pipeline: {' '.join(str(error).split())}"]
    if in_git(root):
        results = git_files(root, "--", *RESULTS)
        found += undeclared(outputs, tracked=results, plots=_top_level_plots(pipeline))
    return found + stale_lock(root, stages)


def _outside_of_hooks() -> dict[str, str]:
    """The environment without what git tells its hooks, which would lead git in the clone back to this repository."""
    names = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True).stdout
    return {name: value for name, value in os.environ.items() if name not in names.split()}


def committed_clone(root: Path, folder: Path) -> Path:
    """The project as it is in a fresh clone, made in ``folder``.

    Raises:
        ValueError: no git checkout, or git can't clone it.
    """
    if not in_git(root):
        raise ValueError("no git here, so nothing is committed of which a clone could be made: git init, or dvc status")
    # The project may lie in a folder of a larger repository.
    top, prefix = git(root, "rev-parse", "--show-toplevel").rstrip("\n"), git(root, "rev-parse", "--show-prefix")
    command = ["git", "clone", "--quiet", "--no-hardlinks", top, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_outside_of_hooks())
    if done.returncode:
        raise ValueError(f"a clone of {top} can't be made: {done.stderr.strip()}")
    project = folder / prefix.rstrip("\n")
    if not (project / PIPELINE).is_file():
        raise ValueError(f"a fresh clone has no {PIPELINE}: git add and commit it first")
    close_site_cache(project)
    return project


def green_clone(root: Path = Path()) -> list[str]:
    """Stages that ``dvc repro`` would run in a fresh clone of what is committed, and stale entries of its dvc.lock.

    The clone has the own data that DVC keeps and no other; ``--allow-missing`` lets dvc.lock speak for the rest. With dvc
    3.67 a changed stage whose deps are missing is not "run" but fails; ``--keep-going`` names every such stage, and those
    behind it as skipped.

    Raises:
        ValueError: no git checkout, git can't clone it, or DVC refuses what is committed.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    environment = _outside_of_hooks() | {"DVC_NO_ANALYTICS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        clone = committed_clone(root, Path(folder) / "clone")
        try:
            with Repo(str(root)) as repo:
                lacking = carried_by_nothing(repo, git_files(root, "--", str(OWN_DATA))) + lay_out(repo, clone)
            stale = stale_lock(clone, resolved_stages(clone))
        except DvcException as error:
            raise ValueError(f"dvc refuses what is committed: {' '.join(str(error).split())}") from error
        command = [sys.executable, "-m", "dvc", "repro", "--allow-missing", "--dry", "--keep-going"]
        done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False, env=environment)
    text = done.stdout + done.stderr
    telling = re.findall(r"^.*(?:Running stage|failed to reproduce|will be skipped).*$", text, re.MULTILINE)
    names = sorted({name for line in telling for name in re.findall(r"'(.+?)'", line)})
    if done.returncode != 0 and not names:
        return [f"dvc repro --allow-missing --dry failed in a fresh clone: {(done.stderr or done.stdout).strip()}"]
    found = [f"a fresh clone: {line}" for line in stale]
    if names:
        advice = "commit dvc.lock, metrics and plots of a finished dvc repro; assay why STAGE says what changed"
        found.append(f"a fresh clone would run {len(names)} stage(s), {', '.join(names)}: {advice}")
        found += lacking
    return found


def problems(root: Path = Path()) -> list[str]:
    """Every problem found; empty when all is well.

    Raises:
        ValueError: no dvc.yaml in ``root``.
    """
    pipeline = read_pipeline(root / PIPELINE)
    found = bad_params(root) + wrong_code_deps(pipeline) + stale_code(root) + undescribed(pipeline)
    return found + bad_pipeline(root, pipeline) + (broken_links(root) if in_git(root) else [])
