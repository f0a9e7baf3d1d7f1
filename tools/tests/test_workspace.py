"""Warnings of ``assay check``: each situation is made for real, with the real dvc and git, in a small repository."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from assay_tools.workspace import (
    dead_locks,
    dvc_command,
    killed_experiment,
    lock_lines,
    locked_stages,
    runs_at_work,
    stages_without_dvc,
    two_experiments,
    warnings,
)

ENVIRONMENT = os.environ | {"DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull}
DVC = [sys.executable, "-m", "dvc"]
STAGES = """\
stages:
  one: {desc: one, cmd: python sleep.py one, params: [one.seconds], deps: [sleep.py], outs: [one.txt]}
  two: {desc: two, cmd: python sleep.py two, params: [two.seconds], deps: [sleep.py], outs: [two.txt]}
"""
SLEEP = """\
import sys, time
from ruamel.yaml import YAML
name = sys.argv[1]
seconds = YAML(typ="safe").load(open("params.yaml"))[name]["seconds"]
time.sleep(seconds)
open(f"{name}.txt", "w").write(str(seconds))
"""


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commit(folder: Path) -> None:
    run("git", "add", "-A", cwd=folder)
    run("git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit", "-qm", "state", cwd=folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of two independent stages, run and committed, with an older commit."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    folder.mkdir()
    run("git", "init", "-q", "-b", "main", cwd=folder)
    run("git", "config", "user.name", "t", cwd=folder)
    run("git", "config", "user.email", "t@example.invalid", cwd=folder)
    run(*DVC, "init", "-q", cwd=folder)
    commit(folder)
    (folder / "dvc.yaml").write_text(STAGES)
    (folder / "sleep.py").write_text(SLEEP)
    (folder / "params.yaml").write_text("one: {seconds: 0}\ntwo: {seconds: 0}\n")
    run(*DVC, "repro", "-q", cwd=folder)
    commit(folder)
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of it: every test makes its own mess."""
    return Path(shutil.copytree(finished, tmp_path / "project")).resolve()


@pytest.fixture
def start(project: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts dvc in the project; what still runs at the end of the test is stopped, its stages too."""
    started = []

    def popen(*arguments: str) -> subprocess.Popen:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        started.append(subprocess.Popen([*DVC, *arguments], cwd=project, env=ENVIRONMENT, **quiet))
        return started[-1]

    yield popen
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it and its stages have ended
        process.wait()


def until(condition: Callable[[], object], *, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def stage_runs(project: Path, name: str) -> bool:
    """Whether the stage's own process sleeps: by then dvc has set its refs."""
    words = ["python", "sleep.py", name]
    processes = psutil.process_iter(["cmdline", "cwd"])
    return any(p.info["cmdline"] == words and p.info["cwd"] == str(project) for p in processes)


def test_a_sound_workspace_has_no_warning(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert warnings(project) == []
    # A build server's checkout is detached too, and nothing is wrong with it.
    run("git", "checkout", "-q", "--detach", cwd=project)
    monkeypatch.chdir(project)
    assert warnings() == []


def test_a_shallow_clone_is_named_with_its_cure(finished: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run("git", "clone", "-q", "--depth", "1", finished.as_uri(), str(clone), cwd=tmp_path)
    (warning,) = warnings(clone)
    assert "shallow" in warning
    run("git", "fetch", "-q", "--unshallow", cwd=clone)
    assert warnings(clone) == []


def test_outside_of_git_the_reason_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a git repository"):
        warnings(tmp_path)


def test_two_experiments_at_once_are_named(project: Path, start: Callable[..., subprocess.Popen]) -> None:
    first = start("exp", "run", "-S", "one.seconds=100", "one")
    until(lambda: stage_runs(project, "one"))
    assert [entry.pid for entry in runs_at_work(project)] == [first.pid]
    # One alone is how it should be, detached HEAD and all.
    assert warnings(project) == []
    second = start("exp", "run", "-S", "two.seconds=100", "two")
    until(lambda: stage_runs(project, "two"))
    (warning,) = warnings(project)
    assert f"process {first.pid}" in warning
    assert f"process {second.pid}" in warning
    assert "--temp" in warning


def test_a_killed_experiment_is_named_and_its_cure_cures(project: Path, start: Callable[..., subprocess.Popen]) -> None:
    process = start("exp", "run", "-S", "one.seconds=100", "one")
    until(lambda: stage_runs(project, "one"))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    found = warnings(project)
    assert len(found) == 3, found
    killed, alone, locks = found
    assert "git switch main" in killed
    assert "stage one still runs" in alone
    assert f"gone: {process.pid}." in locks
    os.kill(int(alone.rsplit(" ", 1)[1]), signal.SIGKILL)
    until(lambda: not stages_without_dvc(project))
    assert run("git", "rev-parse", "--abbrev-ref", "HEAD", cwd=project).strip() == "HEAD"
    # The steps as they are told, save the one for eyes.
    steps = [step for step in killed.split(": ", 2)[2].split("; ") if not step.startswith("git diff")]
    for step in [*steps, f"rm {locks.rsplit('rm ', 1)[1].split(',')[0]}"]:
        run("sh", "-c", step, cwd=project)
    assert warnings(project) == []
    run("git", "restore", "params.yaml", cwd=project)
    run(*DVC, "exp", "run", "-S", "one.seconds=0.2", cwd=project)
    assert run("git", "rev-parse", "--abbrev-ref", "HEAD", cwd=project).strip() == "main"
    assert "0.2" in (project / "one.txt").read_text()
    assert warnings(project) == []


def test_head_stays_detached_when_the_next_experiment_cleans_the_rest(
    project: Path, start: Callable[..., subprocess.Popen]
) -> None:
    process = start("exp", "run", "-S", "one.seconds=100", "one")
    until(lambda: stage_runs(project, "one"))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run("git", "restore", "params.yaml", cwd=project)
    run(*DVC, "exp", "run", "-S", "two.seconds=0.1", "two", cwd=project)
    (warning,) = killed_experiment(project, [])
    assert "git switch main" in warning
    assert "update-ref" not in warning


def test_outputs_of_a_stage_that_is_gone_are_named(project: Path) -> None:
    (project / "dvc.yaml").write_text("".join(STAGES.splitlines(keepends=True)[:-1]))
    (warning,) = warnings(project)
    assert warning.startswith("two.txt (1 B) is of stage two")
    (project / "two.txt").unlink()
    assert warnings(project) == []


def test_locks_of_another_program_are_dead_too(project: Path) -> None:
    path = project / ".dvc/tmp/rwlock"
    path.parent.mkdir(exist_ok=True)
    # This test is a living process, but no dvc.
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        path.write_text(json.dumps({"write": {"/x": {"pid": sleeper.pid, "cmd": "dvc repro"}}, "read": {}}))
        (warning,) = dead_locks(project)
        assert str(sleeper.pid) in warning
    finally:
        sleeper.kill()
        sleeper.wait()
    path.write_text("{")
    assert "no JSON" in dead_locks(project)[0]


def test_lines_of_the_lock_hold_each_entry(project: Path) -> None:
    lines = (project / "dvc.lock").read_text().splitlines()
    spans = lock_lines(project / "dvc.lock")
    assert list(spans) == list(locked_stages(project)) == ["one", "two"]
    assert [lines[first - 1] for first, _ in spans.values()] == ["  one:", "  two:"]
    assert spans["one"][1] + 1 == spans["two"][0]
    assert spans["two"][1] == len(lines)
    assert lock_lines(project / "nothing.lock") == {}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("python -m dvc exp run -S a=1", "dvc exp run -S a=1"),
        ("/x/.venv/bin/python3.11 /x/.venv/bin/dvc repro", "dvc repro"),
        ("dvc --wait-for-lock repro -s one", "dvc --wait-for-lock repro -s one"),
        ("dvc --cd /x experiments run", "dvc --cd /x experiments run"),
        ("dvc exp run --temp", None),
        ("dvc exp show", None),
        ("dvc push", None),
        ("timeout 60 dvc repro", None),
        ("python train.py dvc repro", None),
        ("", None),
    ],
)
def test_processes_of_dvc_are_known_by_their_words(words: str, wanted: str | None) -> None:
    assert dvc_command(words.split()) == wanted


def test_plain_repros_side_by_side_are_no_fault(project: Path) -> None:
    from assay_tools.workspace import DvcRun

    repros = [DvcRun(1, "dvc --wait-for-lock repro -s one"), DvcRun(2, "dvc --wait-for-lock repro -s two")]
    assert two_experiments(repros) == []
    assert len(two_experiments([*repros, DvcRun(3, "dvc -v exp run")])) == 1
