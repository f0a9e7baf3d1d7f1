"""SIGKILL in the middle of a stage, then `dvc repro`: the same dvc.lock, byte for byte, as a run that nothing disturbed.

The pipeline runs twice on params/tiny.yaml, with the real dvc, each line in clones of its own. The first run is left
alone; an audit hook in the stages' Python notes every file that they open for writing or rename below the outputs and
the checkpoints. In the second run the same hook ends each stage of ``KILLS`` at one of these events: after the first whole
checkpoint where the stage writes any, else half way. So the kill is always in the middle, on a machine of any speed.
What dies is the whole process group, dvc too, as when a machine or a container ends, or the stage's process alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
# conftest.py's class, which can not be imported here.
Clone = Any
RESUME = ".assay/resume"
# Python imports this at its start. It is idle but in the first Python process of a stage that dvc runs.
HOOK = """
import os, signal, sys

def watch():
    stage = os.environ["DVC_STAGE"]
    folder, kill = os.environ["WATCH_EVENTS"], os.environ.get("WATCH_KILL", "").split()
    log = os.open(os.path.join(folder, stage), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    root, me, seen = os.getcwd(), os.getpid(), [0]

    def hook(event, arguments):
        if event == "open":
            path, mode, flags = arguments
            if not isinstance(path, (str, os.PathLike)) or not flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif event == "os.rename":
            path = arguments[1]
        else:
            return
        place = os.path.relpath(os.path.join(root, os.fspath(path)), root)
        if os.getpid() != me or not place.startswith(("data/", "models/", "metrics/", "plots/", ".assay/resume/")):
            return
        if kill and kill[0] == stage and int(kill[1]) == seen[0]:
            os.write(log, b"KILLED before " + place.encode() + b"\\n")
            os.killpg(os.getpgrp(), signal.SIGKILL) if kill[2] == "group" else os.kill(me, signal.SIGKILL)
        seen[0] += 1
        os.write(log, place.encode() + b"\\n")

    sys.addaudithook(hook)

if "DVC_STAGE" in os.environ and "WATCH_EVENTS" in os.environ and "WATCHED" not in os.environ:
    os.environ["WATCHED"] = "1"
    watch()
"""


@dataclass(frozen=True)
class Kill:
    """``place``: checkpoint, after the first whole one and before the last; or half, of the files a stage writes."""

    place: str
    who: str


GROUP, PROCESS = "group", "process"
LINES = {
    "images": ["evaluate", "evaluate_cascade"],
    "others": ["evaluate_counts", "evaluate_text", "vlm_predict"],
}
KILLS = {
    "images": {
        "forge": [Kill("half", GROUP)],
        "prepare": [Kill("half", PROCESS)],
        "train_stage1": [Kill("checkpoint", GROUP), Kill("half", PROCESS)],
        "train_expert@maxvit-full": [Kill("checkpoint", GROUP)],
        "train_expert@efficientnetv2_b3-fold_0": [Kill("checkpoint", PROCESS)],
        "kfold_fold_0": [Kill("half", GROUP)],
        "build_meta": [Kill("half", GROUP)],
        "train_meta": [Kill("half", GROUP)],
        "evaluate_cascade": [Kill("half", GROUP)],
    },
    "others": {
        "prepare_counts": [Kill("half", GROUP)],
        "train_counts@regression": [Kill("checkpoint", GROUP)],
        "train_counts@llm_lora": [Kill("checkpoint", PROCESS)],
        "pretrain_text": [Kill("checkpoint", GROUP)],
        "train_text@network_0": [Kill("checkpoint", GROUP)],
        "render_corridors": [Kill("half", GROUP)],
        "prepare_vlm": [Kill("half", GROUP)],
        "pretrain_vlm": [Kill("checkpoint", GROUP)],
        "vlm_sft@base": [Kill("checkpoint", GROUP)],
        "vlm_sft_high_risk": [Kill("checkpoint", GROUP)],
        "vlm_predict": [Kill("half", GROUP)],
    },
}


@dataclass(frozen=True)
class After:
    """What was seen after one ``dvc repro`` had ended, in whatever way."""

    status: int
    output: str
    lock: bytes
    stages: frozenset[str]
    checkpoints: tuple[str, ...]
    writing: tuple[str, ...]


@dataclass(frozen=True)
class Story:
    """Both runs of one line; ``lock`` and ``events`` are of the undisturbed one."""

    lock: bytes
    events: dict[str, list[str]]
    kills: dict[str, list[tuple[Kill, After]]]
    recovered: dict[str, After]
    end: After
    says: str


def repro(clone: Clone, *targets: str, hook: Path, kill: str = "") -> After:
    """``dvc repro``, and what it left."""
    events = clone.path.parent / f"{clone.path.name}-events"
    events.mkdir(exist_ok=True)
    watch = {"WATCH_EVENTS": str(events), "WATCH_KILL": kill, "PYTHONPATH": f"{hook}:{clone.path / 'src'}"}
    done = clone.start("repro", *targets, **watch)
    rwlock = clone.path / ".dvc/tmp/rwlock"
    return After(
        status=done.returncode,
        output=done.stdout,
        lock=clone.lock,
        stages=frozenset(clone.stages()),
        checkpoints=tuple(sorted(path.name for path in (clone.path / RESUME).glob("*"))),
        writing=tuple(json.loads(rwlock.read_text(encoding="utf-8")).get("write", ())) if rwlock.is_file() else (),
    )


def is_checkpoint(path: str) -> bool:
    """Whether this event is the last one of a checkpoint."""
    return path.startswith(RESUME) and path.endswith(("checkpoint.pt", "trainer_state.json"))


def moment(events: list[str], place: str) -> int:
    """Number of the event before which the stage is to die."""
    if place == "half":
        return len(events) // 2
    # An event is told before it happens, so at the next one this checkpoint is whole.
    return next(number for number, path in enumerate(events) if is_checkpoint(path)) + 1


def tell(line: str, folder: Path, new_clone: Callable[[Path], Clone]) -> Story:
    """Run one line undisturbed and once more with all its kills."""
    hook = folder / f"{line}-hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    calm, killed = new_clone(folder / f"{line}-calm"), new_clone(folder / f"{line}-killed")
    first = repro(calm, *LINES[line], hook=hook)
    assert first.status == 0, first.output
    watched = {path.name: path.read_text().splitlines() for path in (folder / f"{line}-calm-events").iterdir()}
    kills: dict[str, list[tuple[Kill, After]]] = {}
    recovered = {}
    # In the order in which they ran.
    for stage in [name for name in calm.stages() if name in KILLS[line]]:
        kills[stage] = []
        for kill in KILLS[line][stage]:
            order = f"{stage} {moment(watched[stage], kill.place)} {kill.who}"
            kills[stage].append((kill, repro(killed, *LINES[line], hook=hook, kill=order)))
        recovered[stage] = repro(killed, stage, hook=hook)
    end = repro(killed, *LINES[line], hook=hook)
    says = killed.dvc("status", "--with-deps", *LINES[line])
    return Story(lock=first.lock, events=watched, kills=kills, recovered=recovered, end=end, says=says)


@pytest.fixture(scope="module")
def stories(
    tmp_path_factory: pytest.TempPathFactory, new_clone: Callable[[Path], Clone]
) -> Iterator[dict[str, Future[Story]]]:
    """Both lines at once: most of the time is Python starting, which takes one core."""
    folder = tmp_path_factory.mktemp("crashes")
    with ThreadPoolExecutor() as pool:
        yield {line: pool.submit(tell, line, folder, new_clone) for line in LINES}


CASES = [(line, stage) for line, kills in KILLS.items() for stage in kills]


@pytest.mark.parametrize(("line", "stage"), CASES, ids=[stage for _, stage in CASES])
def test_a_killed_stage_ends_as_one_that_was_not(stories: dict[str, Future[Story]], line: str, stage: str) -> None:
    story = stories[line].result()
    for kill, after in story.kills[stage]:
        assert after.status == (-9 if kill.who == GROUP else 255), after.output
        assert f"Running stage '{stage}'" in after.output
        assert stage not in after.stages, "it had finished"
        assert story.lock.startswith(after.lock)
        # dvc's own note of what it is writing (.dvc/tmp/rwlock) outlives it only where it was killed too.
        assert bool(after.writing) == (kill.who == GROUP)
        if kill.who == PROCESS:
            assert f"failed to reproduce '{stage}'" in after.output
        if kill.place == "checkpoint":
            assert after.checkpoints
    recovered = story.recovered[stage]
    assert recovered.status == 0, recovered.output
    assert stage in recovered.stages
    assert story.lock.startswith(recovered.lock), "another result"
    assert recovered.checkpoints == ()
    # It goes on by itself; that the dead one was reading is noted for ever, and hinders none that reads too.
    assert recovered.writing == ()
    if any(kill.place == "checkpoint" for kill, _ in story.kills[stage]):
        assert "resuming" in recovered.output


def test_a_stage_killed_twice_goes_on_from_where_the_second_kill_left_it(stories: dict[str, Future[Story]]) -> None:
    images = stories["images"].result()
    (_, first), (_, second) = images.kills["train_stage1"]
    assert "resuming" not in first.output
    assert "resuming after epoch 1" in second.output
    assert "resuming after epoch 2" in images.recovered["train_stage1"].output


@pytest.mark.parametrize("line", LINES)
def test_the_whole_line_ends_with_the_same_lock(stories: dict[str, Future[Story]], line: str) -> None:
    story = stories[line].result()
    end = story.end
    assert end.status == 0, end.output
    assert end.lock == story.lock
    assert end.checkpoints == ()
    assert story.says == "Data and pipelines are up to date.\n"


@pytest.mark.parametrize("line", LINES)
def test_every_stage_that_keeps_checkpoints_is_killed_after_one(stories: dict[str, Future[Story]], line: str) -> None:
    """A stage that gets checkpoints later has to join the table."""
    story = stories[line].result()
    keep = {stage.split("@")[0] for stage, events in story.events.items() if any(map(is_checkpoint, events))}
    table = {stage.split("@")[0] for stage, kills in KILLS[line].items() if any(k.place == "checkpoint" for k in kills)}
    assert keep == table
