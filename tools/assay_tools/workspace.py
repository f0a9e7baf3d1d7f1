"""What git and DVC know of this folder, and the warnings of ``assay check``: states that lose work without an error.

Facts about DVC are of 3.67, each seen by doing it (tests/test_workspace.py does it again): a running ``dvc exp run``
detaches HEAD and holds refs/exps/exec/EXEC_BASELINE and EXEC_MERGE; its end puts HEAD back and removes both; a SIGKILL
leaves all of it, and the stage's own process goes on alone. EXEC_HEAD stays behind every experiment, so it tells nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from ruamel.yaml import YAML

from assay.core.stage import OWN_DATA
from assay_tools.own_data import carried_by_nothing, unseen_by_dvc

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

LOCK = Path("dvc.lock")
EXECUTOR_REFS = ("refs/exps/exec/EXEC_BASELINE", "refs/exps/exec/EXEC_MERGE")
EXECUTOR_FOLDER = Path(".dvc/tmp/exps/run/workspace")
# Of paths that stages read and write, and of refs that experiments read and write.
RWLOCKS = (Path(".dvc/tmp/rwlock"), Path(".dvc/tmp/exps/rwlock"))
REAPERS = ("systemd", "init", "tini", "dumb-init")


@dataclass(frozen=True)
class Output:
    """One resolved output of a stage; ``path`` is relative to the project, ``kind`` is out, metric or plot."""

    stage: str
    path: str
    kind: str
    cached: bool


@dataclass(frozen=True)
class DvcRun:
    """A ``dvc repro`` or ``dvc exp run`` at work in this folder."""

    pid: int
    command: str

    @property
    def is_experiment(self) -> bool:
        """Whether it moves HEAD and params.yaml of the folder."""
        return re.search(r" exp(eriments)? run\b", self.command) is not None


def git(root: Path, *arguments: str) -> str:
    """What git prints.

    Raises:
        ValueError: git refused; its own words.
    """
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(f"git {' '.join(arguments)} in {root}: {done.stderr.strip()}")
    return done.stdout


def in_git(root: Path) -> bool:
    """Whether git knows the folder; ``dvc init --no-scm`` works without."""
    if shutil.which("git") is None:
        return False
    command = ["git", "rev-parse", "--is-inside-work-tree"]
    return subprocess.run(command, cwd=root, capture_output=True, check=False).returncode == 0


def git_files(root: Path, *options: str) -> set[str]:
    """Tracked files (or what ``options`` of ``git ls-files`` ask for) that exist, relative to ``root``."""
    names = git(root, "ls-files", "-z", *options).split("\0")
    return {name for name in names if name and (root / name).is_file()}


def stage_name(stage: Stage) -> str:
    """The name that users type; unlike ``stage.addressing`` the same in every current directory."""
    name = getattr(stage, "name", None)
    if name and stage.path_in_repo == "dvc.yaml":
        return str(name)
    return f"{stage.path_in_repo}:{name}" if name else str(stage.path_in_repo)


def declared_outputs(repo: Repo) -> list[Output]:
    """Every output of every stage, ``foreach`` and ``matrix`` expanded."""
    root = Path(repo.root_dir)
    rows = []
    for stage in repo.index.stages:
        for out in stage.outs:
            path = Path(out.fs_path)
            name = path.relative_to(root) if path.is_relative_to(root) else path
            kind = "metric" if out.is_metric else "plot" if out.is_plot else "out"
            rows.append(Output(stage_name(stage), name.as_posix(), kind, bool(out.use_cache)))
    return rows


def lock_lines(path: Path) -> dict[str, tuple[int, int]]:
    """First and last line, counted from 1, of every stage's entry in a dvc.lock; none if there is no file."""
    if not path.is_file():
        return {}
    content = path.read_text(encoding="utf-8")
    top = YAML(typ="safe").compose(content)
    sections = {key.value: value for key, value in top.value} if top else {}
    if "stages" not in sections or not isinstance(sections["stages"].value, list):
        return {}
    starts = [(key.value, key.start_mark.line + 1) for key, _ in sections["stages"].value]
    # Sections after the stages end the last entry; DVC writes none today.
    later = [key.start_mark.line + 1 for key, _ in top.value if starts and key.start_mark.line + 1 > starts[-1][1]]
    ends = [line - 1 for _, line in starts[1:]] + [min(later) - 1 if later else len(content.splitlines())]
    return {name: (start, end) for (name, start), end in zip(starts, ends, strict=True)}


def locked_stages(root: Path) -> dict[str, Any]:
    """The entries of dvc.lock; none if there is no file."""
    path = root / LOCK
    content = YAML(typ="safe").load(path.read_text(encoding="utf-8")) if path.is_file() else None
    return dict((content or {}).get("stages") or {})


def size_text(size: int | None) -> str:
    """12.3 MB; a question mark for None."""
    if size is None:
        return "?"
    amount, units = float(size), ["B", "kB", "MB", "GB"]
    while amount >= 1000 and len(units) > 1:
        amount /= 1000
        units.pop(0)
    return f"{amount:.0f} B" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def dvc_command(arguments: list[str]) -> str | None:
    """``dvc repro ...`` or ``dvc exp run ...`` if a process with these arguments is one that works in its own folder."""
    # timeout, sh -c and the like hold dvc's words too, and are no dvc.
    words = list(arguments)
    if words and re.fullmatch(r"python[\d.]*", os.path.basename(words[0])):
        words = words[1:]
    while words and words[0].startswith("-") and words[0] != "-c":
        words = words[1:]
    if not words or os.path.basename(words[0]) != "dvc":
        return None
    command = " ".join(["dvc", *words[1:]])
    match = re.match(r"dvc (?:--cd \S+ |-\S+ )*(repro|exp run|experiments run)(?: |$)", command)
    # Experiments with these options work in a folder or a process of their own.
    apart = match and match[1] != "repro" and {"--temp", "--queue"} & set(words)
    return command if match and not apart else None


def project_of(folder: Path) -> Path | None:
    """The DVC project that ``folder`` belongs to: the nearest folder above it with a ``.dvc``."""
    return next((path for path in (folder, *folder.parents) if (path / ".dvc").is_dir()), None)


def _processes(root: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["cmdline", "cwd", "ppid"]):
        folder = process.info["cwd"]
        if folder and project_of(Path(folder)) == root:
            yield process


def runs_at_work(root: Path) -> list[DvcRun]:
    """Every ``dvc repro`` and ``dvc exp run`` that now works in this folder, by process number."""
    found = []
    for process in _processes(root.resolve()):
        command = dvc_command(process.info["cmdline"] or [])
        if command:
            found.append(DvcRun(process.pid, command))
    return sorted(found, key=lambda run: run.pid)


def other_experiments(root: Path) -> list[DvcRun]:
    """Experiments at work in git's other worktrees of this repository: all of them share the refs of experiments."""
    here, prefix = git(root, "rev-parse", "--show-toplevel", "--show-prefix").split("\n")[:2]
    names = re.findall(r"^worktree (.+)$", git(root, "worktree", "list", "--porcelain"), re.MULTILINE)
    trees = [Path(name) / prefix for name in names if name != here]
    return [run for tree in trees for run in runs_at_work(tree) if run.is_experiment]


def two_experiments(runs: list[DvcRun]) -> list[str]:
    """Runs that spoil each other: two or more, one of them an experiment. Plain repros wait for each other."""
    if len(runs) < 2 or not any(run.is_experiment for run in runs):
        return []
    names = "; ".join(f"{run.command} (process {run.pid})" for run in runs)
    return [
        f"{len(runs)} runs in one workspace or its worktrees, experiments among them: {names}. Each moves HEAD and "
        "params.yaml under the other, and the first to end removes what the other needs to be saved: stop all but one; "
        "dvc exp run --temp and dvc queue start work in folders of their own"
    ]


def shallow_clone(root: Path) -> list[str]:
    """A clone without its history."""
    if git(root, "rev-parse", "--is-shallow-repository").strip() != "true":
        return []
    return [
        "this clone is shallow: dvc exp run --temp exits 0 here and its experiment is lost, and dvc metrics diff does "
        "not see older commits: git fetch --unshallow"
    ]


def former_branch(root: Path) -> str | None:
    """The branch that HEAD was on before it was detached, by git's own log of it."""
    branches = set(git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads").split())
    moves = re.findall(r"^checkout: moving from (\S+) to ", git(root, "reflog", "--format=%gs", "HEAD"), re.MULTILINE)
    return next((name for name in moves if name in branches), None)


def killed_experiment(root: Path, runs: list[DvcRun]) -> list[str]:
    """What a killed ``dvc exp run`` leaves behind; nothing while one is at work, which needs the same things."""
    if any(run.is_experiment for run in runs):
        return []
    refs = git(root, "for-each-ref", "--format=%(refname)", "refs/exps/exec").split()
    left = [ref for ref in EXECUTOR_REFS if ref in refs]
    # On a detached HEAD alone (a build server's clone, a bisection) there is nothing to say.
    detached = bool(refs) and git(root, "rev-parse", "--abbrev-ref", "HEAD").strip() == "HEAD"
    folder = (root / EXECUTOR_FOLDER).is_dir()
    if not (left or detached or folder):
        return []
    facts, steps = [], []
    if detached:
        facts.append("HEAD is detached, so that commits belong to no branch")
        steps.append(f"git switch {former_branch(root) or 'BRANCH'}")
    if left or folder:
        facts.append("params.yaml may still hold the experiment's values")
        steps.append("git diff, and git restore what is not yours")
        steps += [f"git update-ref -d {ref}" for ref in left]
        steps += [f"rm -r {EXECUTOR_FOLDER}"] if folder else []
    return [f"a dvc exp run was killed here: {'; '.join(facts)}: {'; '.join(steps)}"]


def stages_without_dvc(root: Path) -> list[str]:
    """Processes of stages whose dvc is gone: they go on writing outputs that nobody records."""
    root, found = root.resolve(), []
    for process in _processes(root):
        try:
            environment = process.environ()
            parent = process.parent()
            alone = parent is None or parent.pid == 1 or parent.name() in REAPERS
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue  # another user's, or gone in between: neither is a stage that writes here
        if alone and environment.get("DVC_ROOT") == str(root) and environment.get("DVC_STAGE"):
            found.append((process.pid, environment["DVC_STAGE"]))
    return [
        f"stage {stage} still runs as process {pid}, but the dvc that started it is gone: it writes outputs that nobody "
        f"records, into the next run too: kill {pid}"
        for pid, stage in sorted(found)
    ]


def _holders(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from content.get("write", {}).values()
    for readers in content.get("read", {}).values():
        yield from readers


def _is_dvc(pid: int) -> bool:
    try:
        return any("dvc" in word for word in psutil.Process(pid).cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    except psutil.AccessDenied:
        return True  # another user's process: not ours to judge


def _lock_content(path: Path) -> Any:
    """What a lock file of DVC holds: {} where there is none, None where it is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        return None


def cut_locks(root: Path) -> list[Path]:
    """Lock files of DVC that end in the middle, relative to the root: it was killed as it wrote."""
    return [name for name in RWLOCKS if _lock_content(root / name) is None]


def dead_locks(root: Path) -> list[str]:
    """Entries of DVC's lock files whose process is gone, or is another program that got the number since."""
    found = [
        f"{name} is no JSON, and every dvc command stops at it: rm {name}, when no dvc runs" for name in cut_locks(root)
    ]
    for name in RWLOCKS:
        content = _lock_content(root / name) or {}
        holders = {int(holder["pid"]) for holder in _holders(content)}
        dead = sorted(pid for pid in holders if not _is_dvc(pid))
        if dead:
            found.append(
                f"{name} holds entries of dvc process(es) that are gone: {', '.join(map(str, dead))}. Should another "
                f"program get such a number, dvc says that the path is busy: rm {name}, when no dvc runs"
            )
    return found


def _bytes(path: Path) -> int:
    files: Iterable[Path] = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())


def stale_outputs(root: Path, *, stages: Collection[str], outputs: Collection[str]) -> list[str]:
    """Files in the workspace that dvc.lock ascribes to stages that are gone.

    Args:
        root: the project.
        stages: names of the stages of dvc.yaml, resolved.
        outputs: paths of their outputs; these are somebody's still.
    """
    found = []
    for name, entry in locked_stages(root).items():
        for out in entry.get("outs", []) if name not in stages else []:
            path = root / out["path"]
            if path.exists() and out["path"] not in outputs:
                found.append(
                    f"{out['path']} ({size_text(_bytes(path))}) is of stage {name}, which dvc.yaml no longer has: "
                    f"nothing keeps it up to date, and a reader takes it for a result: rm -r {out['path']}"
                )
    return found


def git_warnings(root: Path, runs: list[DvcRun]) -> list[str]:
    """What can go wrong between git and DVC; ``runs`` are at work in this folder."""
    if not in_git(root):
        return [
            "no git here: what git keeps, links and experiments are not checked, and dvc exp and metrics diff need git"
        ]
    others = other_experiments(root)
    # A plain repro here does not mind what another worktree does.
    spoiling = runs + others if any(run.is_experiment for run in runs) else runs
    found = shallow_clone(root) + two_experiments(spoiling) + killed_experiment(root, runs + others)
    if not str(root.resolve()).isascii():
        found.append(
            "the project's path is not ASCII alone, as which DVC writes its settings: dvc exp run --temp and --queue end "
            "with 'ascii' codec can't encode: use dvc exp run without them, or move the project"
        )
    return found


def warnings(root: Path = Path()) -> list[str]:
    """What can lose work or mislead in this folder; empty when all is well. One line each: what, why, what to do."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    runs = runs_at_work(root)
    found = git_warnings(root, runs) + stages_without_dvc(root) + dead_locks(root)
    try:
        with Repo(str(root)) as repo:
            stages = {stage_name(stage) for stage in repo.index.stages}
            outputs = {output.path for output in declared_outputs(repo)}
            found += unseen_by_dvc(repo)
            if in_git(root):
                found += carried_by_nothing(repo, git_files(root, "--", str(OWN_DATA)))
    except DvcException:
        return found  # assay_tools.gates.problems reports a pipeline that dvc refuses
    return found + stale_outputs(root, stages=stages, outputs=outputs)
