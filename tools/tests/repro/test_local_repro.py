"""``assay repro`` against the real dvc: side by side, failures, retries, Ctrl-C, SIGKILL, GPUs, and the same dvc.lock."""

import io
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
from rich.console import Console

from assay_tools.repro.children import last_lines, what_dvc_did
from assay_tools.repro.graph import Stage, read_stages
from assay_tools.repro.local import LocalEngine, accelerators
from assay_tools.repro.session import only_run
from assay_tools.repro.table import Display, duration

ALL = {"fetch", "train@a", "train@b", "train@c", "join", "tell", "other"}
TRAININGS = "train@a train@b train@c"


def test_side_by_side_in_order_and_the_same_lock(project, finished, notes):
    notes.tell(TRAININGS, meet=3)
    done = project.assay("repro", "-j", "3")
    assert done.returncode == 0, done.stderr
    assert "7 stages: 7 ran" in done.stderr
    runs = notes.runs()
    assert notes.counts() == dict.fromkeys(ALL, 1)
    start = {name: float(found[0][0]) for name, found in runs.items()}
    end = {name: float(found[0][3]) for name, found in runs.items()}
    trainings = TRAININGS.split()
    assert max(start[name] for name in trainings) < min(end[name] for name in trainings)
    assert end["fetch"] < min(start[name] for name in trainings)
    assert max(end[name] for name in trainings) < start["join"] < start["tell"]
    assert "up to date" in project.dvc("status")
    assert (project / "dvc.lock").read_bytes() == (finished / "dvc.lock").read_bytes()


def test_what_is_up_to_date_is_not_started(ran, notes):
    done = ran.assay("repro")
    assert "7 stages: 7 unchanged" in done.stderr
    ran.edit("params.yaml", "b: 2", "b: 7")
    done = ran.assay("repro", "-j", "2")
    assert done.returncode == 0
    assert "3 ran, 4 unchanged" in done.stderr
    assert set(notes.runs()) == {"train@b", "join", "tell"}
    # Back again: DVC's run-cache knows the runs.
    notes.clear()
    ran.edit("params.yaml", "b: 7", "b: 2")
    done = ran.assay("repro", "-j", "2")
    assert "3 from cache, 4 unchanged" in done.stderr
    assert notes.runs() == {}


def test_targets_and_force(ran, notes):
    ran.edit("params.yaml", "a: 1, b: 2", "a: 8, b: 9")
    done = ran.assay("repro", "train")
    assert set(notes.runs()) == {"train@a", "train@b"}, done.stderr
    notes.clear()
    assert ran.assay("repro", "--force", "train@b").returncode == 0
    assert set(notes.runs()) == {"fetch", "train@b"}
    notes.clear()
    assert ran.assay("repro", "--single-item", "--force", "train@b", "train@c").returncode == 0
    assert set(notes.runs()) == {"train@b", "train@c"}
    done = ran.assay("repro", "trian")
    assert done.returncode == 2
    assert "trian" in done.stderr


def test_a_failure_stops_only_what_needs_it(ran, notes):
    ran.edit("params.yaml", "a: 1, b: 2", "a: 8, b: 9")
    notes.tell("train@b", fail=1)
    done = ran.assay("repro", "-j", "2")
    assert done.returncode == 1
    assert "train@b failed; skipped because they need it: join, tell" in done.stderr
    assert "train@b: planted failure" in done.stderr
    assert "1 failed, 1 ran, 2 skipped, 3 unchanged" in done.stderr
    assert set(notes.runs()) == {"train@a", "train@b"}
    notes.clear()
    done = ran.assay("repro", "-j", "2")
    assert done.returncode == 0
    assert set(notes.runs()) == {"train@b", "join", "tell"}


def test_stages_that_ask_for_it_are_tried_again(project, notes):
    project.edit("dvc.yaml", "  fetch:\n", "  fetch:\n    meta: {retry: {attempts: 3, wait_s: 1}}\n")
    notes.tell("fetch", fail=2)
    done = project.assay("repro", "fetch")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"fetch: failed, try (\d) of 3 in (\d) s", done.stderr) == [("2", "1"), ("3", "2")]
    starts = sorted(float(run[0]) for run in notes.runs()["fetch"])
    assert len(starts) == 3
    # The wait doubles; DVC's own start lies between too.
    assert starts[1] - starts[0] >= 1
    assert starts[2] - starts[1] >= 2
    notes.tell("fetch", fail=3)
    done = project.assay("repro", "--force", "fetch")
    assert done.returncode == 1
    assert "fetch failed" in done.stderr


ENDS = {
    "ctrl-c": [signal.SIGINT],
    "ctrl-c-again-and-again": [signal.SIGINT] * 3,
    "term": [signal.SIGTERM, signal.SIGINT],
    "hang-up": [signal.SIGHUP],
    "kill": [signal.SIGKILL],
}


@pytest.mark.parametrize("numbers", ENDS.values(), ids=ENDS)
def test_an_end_from_outside_ends_the_stages_and_all_goes_on_from_there(ran, notes, until, numbers):
    notes.tell(TRAININGS, sleep=600, stubborn=1)
    ran.edit("params.yaml", "a: 1, b: 2, c: 3", "a: 7, b: 8, c: 9")
    with ran.start("assay.cli", "repro", "-j", "2", stderr=subprocess.PIPE) as running:
        until(lambda: len(notes.orphans()) == 2 and all(notes.orphans()))
        # The dvc of each too: while it dies, another dvc finds its files busy.
        at_work = {child.pid for child in psutil.Process(running.pid).children(recursive=True)}
        at_work |= set(notes.orphans())
        assert {int(run[1]) for found in notes.runs().values() for run in found} < at_work
        second = ran.assay("repro")
        assert second.returncode == 2
        assert f"assay repro is at work here already (process {running.pid})" in second.stderr
        since = time.monotonic()
        for number in numbers:
            running.send_signal(number)
            time.sleep(0.2)
        _, errors = running.communicate(timeout=60)
    if numbers[0] != signal.SIGKILL:
        assert running.returncode == 128 + numbers[0]
        assert errors.count("interrupted: every stage is ended") == 1
        assert not any(map(psutil.pid_exists, at_work))
    until(lambda: not any(map(psutil.pid_exists, at_work)))
    # 10 s on a machine that is not busy.
    assert time.monotonic() - since < 20
    notes.tell(TRAININGS, sleep=0)
    for path in notes.folder.glob("*.stubborn"):
        path.unlink()
    done = ran.assay("repro", "-j", "2")
    assert done.returncode == 0, done.stderr
    assert "up to date" in ran.dvc("status")
    assert "fetch" not in notes.runs()


def test_a_run_after_a_killed_one_waits_for_the_end_of_its_stages(tmp_path, until):
    """The guards of the killed run hold the lock, here of a command that is deaf to SIGTERM."""
    run = (
        "import sys; from pathlib import Path; from assay_tools.repro.children import *; from assay_tools.repro.session "
        "import *\nwith only_run(Path()) as lock: Children(Path(), lock=lock).run(sys.argv[1:], Path('log'), os.environ)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", run, "sh", "-c", "trap '' TERM; touch on; sleep 600"], cwd=tmp_path
    ) as first:
        until((tmp_path / "on").exists)
        first.kill()
    since = time.monotonic()
    with only_run(tmp_path):
        assert time.monotonic() - since > 1
        assert (tmp_path / ".assay/repro.lock").read_text() == str(os.getpid())


@pytest.mark.parametrize(("handler", "status"), [("SIG_IGN", 0), ("SIG_DFL", 128 + signal.SIGHUP)])
def test_nohup_is_respected(tmp_path, handler, status):
    script = (
        "import os, signal, sys; from pathlib import Path; from assay_tools.repro.session import *\n"
        f"signal.signal(signal.SIGHUP, signal.{handler})\n"
        "with ended_by_signals(Children(Path())): os.kill(os.getpid(), signal.SIGHUP)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False).returncode == status


def test_each_accelerated_stage_gets_a_gpu_of_its_own(project):
    project.edit("dvc.yaml", '["train.${item.name}"]', '["train.${item.name}", runtime.device]')
    (project / "params.yaml").write_text("train: {a: 1, b: 2, c: 3}\nruntime: {device: auto}\n")
    stages = read_stages(project)
    assert {name for name, stage in stages.items() if stage.accelerated} == {"train@a", "train@b", "train@c"}
    engine = LocalEngine(project, gpus=["4", "6"])
    for name in ("fetch", "train@a", "train@b"):
        assert engine.run(stages[name]) == "ran"
    said = {name: engine.log(name).read_text() for name in ("fetch", "train@a", "train@b")}
    assert "fetch is at work on no GPU" in said["fetch"]
    assert {re.search(r"at work on (\d)", said[name])[1] for name in ("train@a", "train@b")} <= {"4", "6"}


def test_gpus_that_the_environment_allows(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert accelerators() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert accelerators() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert accelerators() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 0\necho 1\n")
    program.chmod(0o755)
    assert accelerators() == ["0", "1"]


def test_the_graph_is_dvcs_own(project):
    (project / "timings").mkdir()
    (project / "timings" / "join.json").write_text('{"wall_s": 12.5}')
    stages = read_stages(project)
    assert set(stages) == ALL
    assert stages["join"].needs == ("train@a", "train@b", "train@c")
    assert (stages["join"].last_s, stages["fetch"].last_s) == (12.5, None)
    assert {name for name, stage in stages.items() if stage.stays} == {"tell"}
    order = list(stages)
    assert all(order.index(other) < order.index(name) for name in order for other in stages[name].needs)
    assert set(read_stages(project, ["join"])) == ALL - {"tell", "other"}
    (project / "dvc.yaml").write_text("stages: [1]")
    with pytest.raises(ValueError, match=r"dvc\.yaml"):
        read_stages(project)


def test_a_stage_that_reads_a_folder_of_ones_own_stays(project):
    project.edit("dvc.yaml", "[work.py, data.txt]", "[work.py, data.txt, own]")
    (project / "own").mkdir()
    (project / "own" / "image.txt").write_text("mine")
    stays = {name for name, stage in read_stages(project).items() if stage.stays}
    assert stays == {"tell", "train@a", "train@b", "train@c"}


def test_a_folder_inside_an_output_travels_with_it(project):
    stages = "  make:\n    cmd: mkdir -p made/inner\n    outs: [made]\n"
    stages += "  use:\n    cmd: ls made > used.txt\n    deps: [made/inner]\n    outs: [used.txt]\n"
    with (project / "dvc.yaml").open("a") as stream:
        stream.write(stages)
    (project / "made" / "inner").mkdir(parents=True)
    found = read_stages(project)
    assert found["use"].needs == ("make",)
    assert not found["use"].stays


def test_on_a_terminal_a_table_shows_what_runs_since_when_and_how_long_it_took():
    stages = {name: Stage(name, last_s=last) for name, last in (("one", 125.0), ("two", None), ("three", 1.0))}
    console = Console(force_terminal=True, width=100, record=True, file=io.StringIO())
    with Display(stages, console=console) as display:
        display.starts("one")
        display.starts("two")
        display.note("two", "try 2")
        display.starts("three")
        display.ends("three", "ran")
        console.print(display.table())
    text = console.export_text()
    assert re.search(r"one +\d\d:\d\d:\d\d +\d s +2:05 min", text)
    assert re.search(r"two +\d\d:\d\d:\d\d +\d s +- +try 2", text)
    assert "three: ran, 0 s (1/3)" in text
    assert "1 done, 0 to come" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.4, "0 s"), (59.6, "1:00 min"), (125, "2:05 min"), (3725, "1:02:05 h")]
)
def test_durations(seconds: float | None, text):
    assert duration(seconds) == text


def test_logs_are_read_without_what_bars_drew(tmp_path):
    log = tmp_path / "one.log"
    log.write_text("Running stage 'one':\n> python\n10%\r20%\r100% done\n\nlast\n")
    assert what_dvc_did(log) == "ran"
    assert last_lines(log, 2) == ["100% done", "last"]
    log.write_text("Running stage 'forge':\nERROR: failed to transfer '0a1b' - [Errno 28] No space left on device\n")
    assert what_dvc_did(log) == "failed"
    assert last_lines(tmp_path / "none.log") == []


@pytest.mark.parametrize(("content", "left"), [('{"read": {"a": [{"pi', False), ("", False), ('{"read": {}}', True)])
def test_a_lock_file_that_dvc_wrote_half_is_removed(tmp_path, capsys, content, left):
    path = tmp_path / ".dvc/tmp/rwlock"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with only_run(tmp_path):
        assert path.exists() == left
    assert ("cut in the middle" in capsys.readouterr().err) != left
