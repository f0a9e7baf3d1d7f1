"""``assay repro --engine ray`` on a real cluster of several nodes on this machine, one of them killed in the middle."""

import os
import signal
import subprocess

import psutil
import pytest

from assay_tools.repro.ray_engine import bundle_of, check_commit, check_remote
from assay_tools.repro.ray_worker import Order, base_folder, clone_of, environment_of

TRAININGS = ("train@a", "train@b", "train@c")
REPRO = ("repro", "--engine", "ray", "--cpus", "1")
TOKEN = "7d0e5c1a9b3f4e2c8a6d1f0b5e9c3a7d"


@pytest.fixture
def shared(project, tmp_path):
    """The pipeline with a DVC remote in a folder, committed; all that this machine's own cache holds is gone."""
    remote = tmp_path / "remote"
    remote.mkdir()
    project.dvc("remote", "add", "--default", "shared", str(remote))
    project.commit()
    return project


@pytest.fixture
def head(notes, tmp_path, monkeypatch):
    """A head that runs nothing and asks for a token, which is in the environment."""
    monkeypatch.setenv("ASSAY_WORKER_DIR", str(tmp_path / "workers"))
    monkeypatch.setenv("RAY_DISABLE_DASHBOARD", "1")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    ray = pytest.importorskip("ray")
    from ray._raylet import Config
    from ray.cluster_utils import Cluster

    # What Ray read of the environment when it was imported, by an earlier test perhaps.
    Config.initialize("")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def cluster(head):
    """Beside the head two nodes with room for one stage each; no two share a folder."""
    nodes = [head.add_node(num_cpus=1) for _ in range(2)]
    head.wait_for_nodes()
    return head, nodes


def alive(pid):
    """Whether a process runs; Ray leaves some of its grandchildren as zombies."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_two_machines_one_killed_and_nothing_is_trained_twice_at_the_head(shared, finished, notes, cluster, until):
    cluster, nodes = cluster
    notes.tell(" ".join(TRAININGS), sleep=20)
    with shared.start("assay.cli", *REPRO, "--address", cluster.address, stderr=subprocess.PIPE) as running:
        until(lambda: len([run for name in TRAININGS for run in notes.runs().get(name, [])]) == 2)
        at_work = {name: notes.runs()[name][0] for name in TRAININGS if name in notes.runs()}
        # Two stages at once, each in a clone of its own that is not the head's workspace.
        folders = {run[2] for run in at_work.values()}
        assert len(folders) == 2
        assert str(shared) not in folders
        # What starts from now on is quick; what is at work takes longer than Ray needs to see that a machine is gone.
        # Ray's processes of one machine die, not the stage: that its guard has to end.
        notes.tell(" ".join(TRAININGS), sleep=0)
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
    assert "up to date" in shared.dvc("status")
    assert all((shared / f"model_{name}.txt").is_file() for name in "abc")
    assert (shared / "dvc.lock").read_bytes() == (finished / "dvc.lock").read_bytes()


@pytest.mark.slow
def test_a_failure_there_is_told_here_and_ctrl_c_reaches_the_machines(shared, notes, cluster, until):
    cluster, _ = cluster
    notes.tell("train@b", fail=1)
    done = shared.assay(*REPRO, "--address", cluster.address)
    assert done.returncode == 1, done.stderr
    assert "train@b: planted failure" in done.stderr
    assert "train@b failed; skipped because they need it: join, tell" in done.stderr
    notes.tell("train@b", sleep=600)
    with shared.start("assay.cli", *REPRO, "--address", cluster.address, stderr=subprocess.PIPE) as running:
        until(lambda: len(notes.runs()["train@b"]) == 2)
        (at_work,) = [int(run[1]) for run in notes.runs()["train@b"] if alive(int(run[1]))]
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=120)
    assert running.returncode == 130, errors
    until(lambda: not alive(at_work))


def test_only_committed_work_goes_to_machines(project, tmp_path):
    assert check_commit(project) == project.git("rev-parse", "HEAD")
    with pytest.raises(ValueError, match="dvc remote add"):
        check_remote(project)
    bundle = tmp_path / "a.bundle"
    bundle.write_bytes(bundle_of(project))
    project.git("clone", "--quiet", str(bundle), str(tmp_path / "clone"))
    assert (tmp_path / "clone" / "work.py").is_file()
    (project / "params.yaml").write_text("train: {a: 9, b: 2, c: 3}\n")
    with pytest.raises(ValueError, match=r"params\.yaml.*commit"):
        check_commit(project)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--address", "127.0.0.1:1"], "no Ray cluster at 127.0.0.1:1"),
        (["--address", "here"], "HOST:PORT"),
        # Nor is one guessed, on this machine or by what Ray itself reads.
        ([], "needs --address HOST:PORT"),
    ],
)
def test_no_cluster_is_said_in_a_sentence(shared, monkeypatch, words, said):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    done = shared.assay(*REPRO, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_machine_without_the_token_runs_nothing_there(shared, notes, head, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for token, mode, said in [
        ("0" * 32, "token", "does not take the token of this machine"),
        (None, None, "no token of the cluster here"),
        (None, "disabled", "does not take the token of this machine"),
    ]:
        for name, value in {"RAY_AUTH_TOKEN": token, "RAY_AUTH_MODE": mode}.items():
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
        # The address of this machine's own network is as good as the loopback's: Ray listens on all.
        done = shared.assay(*REPRO, "--address", f"127.0.0.1:{head.address.rpartition(':')[2]}")
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert "RAY_AUTH_TOKEN_PATH" in done.stderr
        assert "Traceback" not in done.stderr
    assert notes.counts() == {}
    assert not (tmp_path / "workers").exists()


def test_what_a_worker_keeps_is_closed_to_other_users(project, tmp_path, monkeypatch):
    workers = tmp_path / "workers"
    monkeypatch.setenv("ASSAY_WORKER_DIR", str(workers))
    before = os.umask(0)
    try:
        secret = "['remote \"shared\"']\n    url = ssh://host.invalid/data\n    password = secret\n"
        order = Order("fetch", project.git("rev-parse", "HEAD"), None, secret, ())
        clone = clone_of(order, bundle_of(project))
    finally:
        os.umask(before)
    assert workers.stat().st_mode & 0o777 == 0o700
    config = clone / ".dvc" / "config.local"
    assert config.stat().st_mode & 0o777 == 0o600
    assert "password = secret" in config.read_text()
    # DVC's indexes lie in there, too, whatever config.local says.
    assert environment_of(clone, {})["DVC_SITE_CACHE_DIR"] == str(workers / "site")
    workers.chmod(0o750)
    with pytest.raises(PermissionError, match="not this user's alone"):
        base_folder()
    workers.chmod(0o700)
    (tmp_path / "link").symlink_to(workers)
    monkeypatch.setenv("ASSAY_WORKER_DIR", str(tmp_path / "link"))
    with pytest.raises(PermissionError, match="not this user's alone"):
        base_folder()
