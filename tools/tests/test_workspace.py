"""Warnings of ``assay check``: each situation is made for real, with the real dvc and git, in a small repository."""

import json
import os
import signal
import subprocess

import psutil
import pytest

from assay_tools.workspace import (
    DvcRun,
    dead_locks,
    dvc_command,
    killed_experiment,
    other_experiments,
    runs_at_work,
    stages_without_dvc,
    two_experiments,
    warnings,
)

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


@pytest.fixture(scope="module")
def finished(make_project):
    """A repository of two independent stages, run and committed, with an older commit."""
    project = make_project({})
    project.commit()
    project.write({"dvc.yaml": STAGES, "sleep.py": SLEEP, "params.yaml": "one: {seconds: 0}\ntwo: {seconds: 0}\n"})
    project.dvc("repro", "-q")
    project.commit()
    return project


@pytest.fixture
def start(project, until):
    """Starts an experiment with a long stage and waits for it; what still runs at the end is stopped, its stages too."""
    started = []

    def experiment(stage):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        arguments = ["exp", "run", "-S", f"{stage}.seconds=100", stage]
        started.append(project.start("dvc", *arguments, **quiet))
        until(lambda: stage_runs(project, stage))
        return started[-1]

    yield experiment
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it and its stages have ended
        process.wait()


def stage_runs(project, name):
    """Whether the stage's own process sleeps: by then dvc has set its refs."""
    words = ["python", "sleep.py", name]
    processes = psutil.process_iter(["cmdline", "cwd"])
    return any(p.info["cmdline"] == words and p.info["cwd"] == str(project) for p in processes)


def test_a_sound_workspace_has_no_warning(project, tmp_path, monkeypatch):
    assert warnings(project) == []
    # A build server's checkout is detached too, and nothing is wrong with it.
    project.git("checkout", "-q", "--detach")
    monkeypatch.chdir(project)
    assert warnings() == []
    (warning,) = warnings(tmp_path)
    assert "no git here" in warning


def test_a_shallow_clone_is_named_with_its_cure(finished, tmp_path):
    clone = finished.clone(tmp_path / "clone", "--depth", "1")
    (warning,) = warnings(clone)
    assert "shallow" in warning
    clone.git("fetch", "-q", "--unshallow")
    assert warnings(clone) == []


def test_two_experiments_at_once_are_named(project, start):
    first = start("one")
    assert [entry.pid for entry in runs_at_work(project)] == [first.pid]
    # One alone is how it should be, detached HEAD and all.
    assert warnings(project) == []
    second = start("two")
    (warning,) = warnings(project)
    assert f"process {first.pid}" in warning
    assert f"process {second.pid}" in warning
    assert "--temp" in warning


def test_a_killed_experiment_is_named_and_its_cure_cures(project, start, until):
    process = start("one")
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
    assert project.git("rev-parse", "--abbrev-ref", "HEAD") == "HEAD"
    # The steps as they are told, save the one for eyes.
    steps = [step for step in killed.split(": ", 2)[2].split("; ") if not step.startswith("git diff")]
    for step in [*steps, f"rm {locks.rsplit('rm ', 1)[1].split(',')[0]}"]:
        project.run("sh", "-c", step)
    assert warnings(project) == []
    project.git("restore", "params.yaml")
    project.dvc("exp", "run", "-S", "one.seconds=0.2")
    assert project.git("rev-parse", "--abbrev-ref", "HEAD") == "main"
    assert "0.2" in (project / "one.txt").read_text()
    assert warnings(project) == []


def test_head_stays_detached_when_the_next_experiment_cleans_the_rest(project, start):
    process = start("one")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    project.git("restore", "params.yaml")
    project.dvc("exp", "run", "-S", "two.seconds=0.1", "two")
    (warning,) = killed_experiment(project, [])
    assert "git switch main" in warning
    assert "update-ref" not in warning


def test_outputs_of_a_stage_that_is_gone_are_named(project):
    (project / "dvc.yaml").write_text("".join(STAGES.splitlines(keepends=True)[:-1]))
    (warning,) = warnings(project)
    assert warning.startswith("two.txt (1 B) is of stage two")
    (project / "two.txt").unlink()
    assert warnings(project) == []


def test_locks_of_another_program_are_dead_too(project):
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


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("python -m dvc exp run -S a=1", "dvc exp run -S a=1"),
        ("/x/.venv/bin/python3.11 /x/.venv/bin/dvc repro", "dvc repro"),
        ("dvc --wait-for-lock repro -s one", "dvc --wait-for-lock repro -s one"),
        ("dvc exp run --temp", None),
        ("dvc exp show", None),
        ("dvc push", None),
        ("timeout 60 dvc repro", None),
        ("python train.py dvc repro", None),
        ("", None),
    ],
)
def test_processes_of_dvc_are_known_by_their_words(words, wanted):
    assert dvc_command(words.split()) == wanted


def test_plain_repros_side_by_side_are_no_fault(project):
    repros = [DvcRun(1, "dvc --wait-for-lock repro -s one"), DvcRun(2, "dvc --wait-for-lock repro -s two")]
    assert two_experiments(repros) == []
    assert len(two_experiments([*repros, DvcRun(3, "dvc -v exp run")])) == 1


def test_an_experiment_of_another_worktree_is_known(project, start, tmp_path):
    """Git's worktrees share the refs of experiments: what one at work holds was left by none that was killed."""
    tree = tmp_path / "tree"
    project.git("worktree", "add", "-q", str(tree), "-b", "tree")
    assert other_experiments(tree) == []
    start("one")
    (run,) = other_experiments(tree)
    assert run.is_experiment
    assert warnings(tree) == []
    assert "worktrees, experiments among them" in two_experiments([run, DvcRun(1, "dvc exp run")])[0]
