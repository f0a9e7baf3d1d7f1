"""``assay repro --engine ray`` on a real cluster of several nodes on this machine, one of them killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from assay_tools.repro.ray_engine import bundle_of, check_commit, check_remote

Run = Callable[..., Any]
TRAININGS = ("train@a", "train@b", "train@c")


@pytest.fixture
def shared(project: Path, tmp_path: Path, dvc: Run, command: Run) -> Path:
    """The pipeline with a DVC remote in a folder, committed; all that this machine's own cache holds is gone."""
    remote = tmp_path / "remote"
    remote.mkdir()
    dvc("remote", "add", "--default", "shared", str(remote), cwd=project)
    command("git", "commit", "--quiet", "--all", "--message", "remote", cwd=project)
    return project


@pytest.fixture
def cluster(notes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that runs nothing and two nodes with room for one stage each; no two share a folder."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("ASSAY_WORKER_DIR", str(tmp_path / "workers"))
    monkeypatch.setenv("RAY_DISABLE_DASHBOARD", "1")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    try:
        yield cluster, nodes
    finally:
        ray.shutdown()
        cluster.shutdown()


def hear_ctrl_c() -> None:
    """A shell without a terminal has its background jobs ignore SIGINT, and they hand that on; a user's does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(condition: Callable[[], object], *, seconds: float = 120) -> None:
    """Wait for a condition; the bound only keeps a broken test from hanging."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    """Whether a process runs; Ray leaves some of its grandchildren as zombies."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_two_machines_one_killed_and_nothing_is_trained_twice_at_the_head(
    shared: Path, finished: Path, notes: Any, cluster: Any, dvc: Run
) -> None:
    cluster, nodes = cluster
    for name in TRAININGS:
        notes.tell(name, sleep=20)
    words = [sys.executable, "-m", "assay.cli", "repro", "--engine", "ray", "--cpus", "1", "--address", cluster.address]
    with subprocess.Popen(words, cwd=shared, stderr=subprocess.PIPE, text=True) as running:
        until(lambda: len([run for name in TRAININGS for run in notes.runs().get(name, [])]) == 2)
        at_work = {name: notes.runs()[name][0] for name in TRAININGS if name in notes.runs()}
        # Two stages at once, each in a clone of its own that is not the head's workspace.
        folders = {run[2] for run in at_work.values()}
        assert len(folders) == 2
        assert str(shared) not in folders
        # What starts from now on is quick; what is at work takes longer than Ray needs to see that a machine is gone.
        # Ray's processes of one machine die, not the stage: that its guard has to end.
        for name in TRAININGS:
            notes.tell(name, sleep=0)
        (raylet,) = nodes[0].all_processes["raylet"]
        machine = [raylet.process.pid, *(worker.pid for worker in psutil.Process(raylet.process.pid).children())]
        for pid in machine:
            os.kill(pid, signal.SIGKILL)
        _, errors = running.communicate(timeout=400)
    assert running.returncode == 0, errors
    assert "7 stages: 7 ran" in errors
    runs = notes.runs()
    # The killed stage died with its machine, and was started anew on the other one.
    cut_short = [(name, run) for name, found in runs.items() for run in found if len(run) == 3]
    assert len(cut_short) == 1
    assert not alive(int(cut_short[0][1][1]))
    assert {name: len(found) for name, found in runs.items() if len(found) > 1} == {cut_short[0][0]: 2}
    # Only what can't travel ran in the head's workspace; it has everything all the same.
    assert {name for name, found in runs.items() if any(run[2] == str(shared) for run in found)} == {"tell"}
    assert "up to date" in dvc("status", cwd=shared)
    assert all((shared / f"model_{name}.txt").is_file() for name in "abc")
    assert (shared / "dvc.lock").read_bytes() == (finished / "dvc.lock").read_bytes()


@pytest.mark.slow
def test_a_failure_there_is_told_here_and_ctrl_c_reaches_the_machines(shared: Path, notes: Any, cluster: Any) -> None:
    cluster, _ = cluster
    notes.tell("train@b", fail=1)
    words = [sys.executable, "-m", "assay.cli", "repro", "--engine", "ray", "--cpus", "1", "--address", cluster.address]
    done = subprocess.run(words, cwd=shared, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "train@b: planted failure" in done.stderr
    assert "train@b failed; skipped because they need it: join, tell" in done.stderr
    notes.tell("train@b", sleep=600)
    with subprocess.Popen(words, cwd=shared, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c) as running:
        until(lambda: len(notes.runs()["train@b"]) == 2)
        (at_work,) = [int(run[1]) for run in notes.runs()["train@b"] if alive(int(run[1]))]
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=120)
    assert running.returncode == 130, errors
    until(lambda: not alive(at_work))


def test_only_committed_work_goes_to_machines(project: Path, tmp_path: Path, command: Run) -> None:
    assert check_commit(project) == command("git", "rev-parse", "HEAD", cwd=project).strip()
    with pytest.raises(ValueError, match="dvc remote add"):
        check_remote(project)
    bundle = tmp_path / "a.bundle"
    bundle.write_bytes(bundle_of(project))
    command("git", "clone", "--quiet", str(bundle), str(tmp_path / "clone"), cwd=tmp_path)
    assert (tmp_path / "clone" / "work.py").is_file()
    (project / "params.yaml").write_text("train: {a: 9, b: 2, c: 3}\n")
    with pytest.raises(ValueError, match=r"params\.yaml.*commit"):
        check_commit(project)


@pytest.mark.parametrize(("address", "said"), [("127.0.0.1:1", "no Ray cluster at 127.0.0.1:1"), ("here", "HOST:PORT")])
def test_no_cluster_is_said_in_a_sentence(shared: Path, address: str, said: str) -> None:
    words = [sys.executable, "-m", "assay.cli", "repro", "--engine", "ray", "--address", address]
    done = subprocess.run(words, cwd=shared, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
