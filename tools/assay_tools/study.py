"""``assay study``: the pipeline run several times, by a plan, each run in a clone of its own with the same DVC cache.

DVC's own queue was tried (3.67.1). It takes sweeps of lists (``dvc exp run --queue -S 'forge.unseen=[recon],[blend]'``). But
the experiment of a worker that was killed stays ``Running`` for good, and no later worker takes it up; the stages of an
experiment run one after another; and its temporary folder, with the checkpoints of a training in it, is not found again.
Here what is begun goes on in its clone, by ``assay repro``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from assay.core.io import atomic_path, read_json, sha256_bytes, sha256_file, write_json
from assay.core.params import PARAMS_FILE, read_yaml, validate
from assay.data.fetch.weights import DOWNLOADS
from assay.params.schema import overlaid_text, validate_file
from assay.params.study import Plan
from assay.report.marks import filled, write_pages
from assay.report.results import NAMES
from assay.report.study import HELD_OUT, RECORDS, SEED, figures
from assay_tools.gates import PIPELINE, committed_clone
from assay_tools.own_data import carried_by_nothing, lay_out
from assay_tools.repro.children import Children, child_environment, last_lines
from assay_tools.repro.session import ended_by_signals, only_run
from assay_tools.repro.table import duration
from assay_tools.site_cache import close_site_cache
from assay_tools.workspace import LOCK, git, git_files

PAGE, WORK = Path("docs/study.md"), Path(".assay/study")
# Of a clone that is whole; it holds the state of code and parameters.
READY = "assay-study"
# Stages that a run with a family held out needs.
IMAGES = ("evaluate", "evaluate_cascade")
DONE, BEHIND, BEGUN, WAITING = "done", "done by other code or parameters", "begun", "waiting"


@dataclass(frozen=True)
class Run:
    """One run: its name, the values that it sets, the stages that it needs (none: all), and the params.yaml that it has."""

    name: str
    values: dict[str, Any]
    targets: tuple[str, ...]
    params: str

    def record(self, root: Path) -> Path:
        """Where what it measured is kept."""
        return root / RECORDS / f"{self.name}.json"

    def folder(self, root: Path) -> Path:
        """Of its clone."""
        return root / WORK / self.name


def planned(path: Path, *, root: Path) -> tuple[Plan, list[Run]]:
    """The runs of a plan, in its order, each with parameters that are checked.

    Raises:
        ValueError: the plan or a run's parameters can't be used.
    """
    plan = validate(Plan, read_yaml(root / path), path=path)
    base = validate_file(root / plan.params, base=root / PARAMS_FILE)
    wanted: list[tuple[str, dict[str, Any], tuple[str, ...]]]
    wanted = [(f"seed-{seed}", {SEED: seed}, ()) for seed in plan.seeds]
    for seed in plan.family_seeds:
        for family in base["forge"]["families"]:
            wanted.append((f"family-{family}-seed-{seed}", {SEED: seed, HELD_OUT: [family]}, IMAGES))
    texts = {name: params_text(root, plan.params, values) for name, values, _ in wanted}
    return plan, [Run(name, values, targets, texts[name]) for name, values, targets in wanted]


def put(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def params_text(root: Path, params: str, values: dict[str, Any]) -> str:
    """What a run has as params.yaml: the embedded default, ``params`` over it, and ``values`` by dotted keys over both."""
    content = read_yaml(root / params)
    for key, value in values.items():
        section, _, name = key.partition(".")
        content.setdefault(section, {})[name] = value
    buffer = StringIO()
    YAML().dump(content, buffer)
    path = root / WORK / "params.yaml"
    put(path, buffer.getvalue())
    validate_file(path, base=root / PARAMS_FILE)
    return overlaid_text(path, base=root / PARAMS_FILE)


def state_of_code(root: Path, params: str) -> str:
    """What runs must have in common to be compared: the code, the pipeline, and parameters but for what a run sets."""
    parts = [git(root, "rev-parse", f"HEAD:./{PIPELINE}"), params_text(root, params, {})]
    # Digests of code, kept by the stage `code`.
    parts += [git(root, "ls-tree", "HEAD", "code")]
    return sha256_bytes("\n".join(parts).encode())


def chosen(runs: Sequence[Run], patterns: Sequence[str]) -> list[Run]:
    """The runs whose names match one of the patterns (all without patterns); ValueError where a pattern matches none."""
    for pattern in patterns:
        if not any(fnmatchcase(run.name, pattern) for run in runs):
            raise ValueError(f"--only {pattern} is no run; there are {', '.join(run.name for run in runs)}")
    return [run for run in runs if not patterns or any(fnmatchcase(run.name, pattern) for pattern in patterns)]


def state_of(run: Run, root: Path, state: str) -> str:
    """Whether a run is done, done by other code or parameters, begun, or waits."""
    path = run.record(root)
    if path.is_file():
        found = read_json(path)
        if found.get("state") == state and found.get("values") == run.values:
            return DONE
        return BEHIND
    return BEGUN if begun(run, root, state) else WAITING


def begun(run: Run, root: Path, state: str) -> bool:
    """Whether the run has a clone to go on in."""
    ready = run.folder(root) / ".git" / READY
    return ready.is_file() and ready.read_text(encoding="utf-8") == state


def check_committed(root: Path) -> None:
    """ValueError if a tracked file differs from the last commit, by which a run is named; records and page may."""
    told = git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", f":!{RECORDS}", f":!{PAGE}")
    if names := [line[3:] for line in told.splitlines()]:
        raise ValueError(f"a study runs what is committed, and {', '.join(names)} is not: git commit, or git restore")


def prepared(run: Run, root: Path, state: str) -> Path:
    """The project in the run's clone, which is made if it is not there or is of other code or parameters.

    It has the project's DVC cache, downloads and own data, and none of its metrics: those are of other parameters.
    """
    from dvc.repo import Repo

    folder = run.folder(root)
    project = folder / git(root, "rev-parse", "--show-prefix").strip()
    if begun(run, root, state):
        return project
    shutil.rmtree(folder, ignore_errors=True)
    committed_clone(root, folder)
    close_site_cache(project)
    with Repo(str(root)) as repo:
        command = ["config", "--local", "cache.dir", repo.cache.local_cache_dir]
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=project, check=True, env=child_environment())
        for line in carried_by_nothing(repo, git_files(root, "--", "data/own")) + lay_out(repo, project):
            print(f"warning: {line}", file=sys.stderr)
    (root / DOWNLOADS).mkdir(parents=True, exist_ok=True)
    (project / DOWNLOADS).parent.mkdir(parents=True, exist_ok=True)
    (project / DOWNLOADS).symlink_to((root / DOWNLOADS).resolve())
    for path in (project / "metrics").glob("*.json"):
        path.unlink()
    put(project / PARAMS_FILE, run.params)
    put(folder / ".git" / READY, state)
    return project


def environment(project: Path) -> dict[str, str]:
    """Of a run: what it imports is what its clone holds."""
    given = os.environ.get("PYTHONPATH")
    paths = [str(project / "src"), str(project / "tools"), *([given] if given else [])]
    return child_environment(PYTHONPATH=os.pathsep.join(paths))


def kept(run: Run, plan: Plan, project: Path, *, state: str) -> dict[str, Any]:
    """The record of a run that has ended well.

    Raises:
        ValueError: it measured nothing.
    """
    paths = {name: project / "metrics" / f"{name}.json" for name in NAMES}
    found = figures({name: read_json(path) for name, path in paths.items() if path.is_file()})
    if not found:
        raise ValueError(f"{run.name} has left no metrics in {project / 'metrics'}")
    named = {"run": run.name, "params": plan.params, "values": run.values, "state": state}
    named |= {"commit": git(project, "rev-parse", "HEAD").strip()}
    return named | {"lock": sha256_file(project / LOCK), "figures": found}


def carry_out(run: Run, plan: Plan, root: Path, *, state: str, jobs: int, lock: int) -> str | None:
    """One run to its end, and its record; why it failed, or None."""
    log = root / WORK / f"{run.name}.log"
    project = prepared(run, root, state)
    command = [sys.executable, "-m", "assay.cli", "repro", "--jobs", str(jobs), *run.targets]
    with ended_by_signals(children := Children(project.resolve(), lock=lock), next_time="assay study"):
        status = children.run(command, log.resolve(), environment(project.resolve()))
    if status:
        return "\n".join([*(f"  {line}" for line in last_lines(log)), f"  (all of it: {log})"])
    # The outputs are in the cache: with this file and the commit, dvc checkout brings them back.
    put(root / WORK / f"{run.name}.lock", (project / LOCK).read_text(encoding="utf-8"))
    write_json(run.record(root), kept(run, plan, project, state=state))
    shutil.rmtree(run.folder(root))
    return None


def write_page(root: Path = Path()) -> list[Path]:
    """Write the tables of docs/study.md from the records; the paths that changed."""
    return write_pages({root / PAGE: filled((root / PAGE).read_text(encoding="utf-8"), root)})


def list_runs(plan_path: Path, *, only: Sequence[str], root: Path = Path()) -> list[str]:
    """A line per run: its state, its name, what it sets."""
    plan, runs = planned(plan_path, root=root)
    state = state_of_code(root, plan.params)
    return [
        f"{state_of(run, root, state)}: {run.name} ({'; '.join(f'{key} {value}' for key, value in run.values.items())})"
        for run in chosen(runs, only)
    ]


def study(plan_path: Path, *, only: Sequence[str], jobs: int, root: Path = Path()) -> int:
    """Carry out the runs that are not done, one after another; 1 if one failed, which stops none of the others.

    Raises:
        ValueError: the plan can't be used, something is not committed, or a study is at work here.
    """
    (root / WORK).mkdir(parents=True, exist_ok=True)
    with only_run(root / WORK, what="assay study") as lock:
        plan, runs = planned(plan_path, root=root)
        check_committed(root)
        state, runs = state_of_code(root, plan.params), chosen(runs, only)
        failed = []
        for number, run in enumerate(runs, start=1):
            head, since = f"[{number}/{len(runs)}] {run.name}", time.monotonic()
            if state_of(run, root, state) == DONE:
                # Of a study that was killed before it could remove it.
                shutil.rmtree(run.folder(root), ignore_errors=True)
                print(f"{head}: done already", flush=True)
                continue
            print(f"{head}: {state_of(run, root, state)}, log in {WORK / run.name}.log", flush=True)
            why = carry_out(run, plan, root, state=state, jobs=jobs, lock=lock)
            took = duration(time.monotonic() - since)
            if why is not None:
                failed.append(run.name)
            print(f"{head}: done in {took}" if why is None else f"{head}: failed after {took}\n{why}", flush=True)
            write_page(root)
    if failed:
        print(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}; assay study goes on from there")
    return 1 if failed else 0
