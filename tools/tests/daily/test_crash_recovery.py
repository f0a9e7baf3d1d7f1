"""SIGKILL in the middle of a stage, then `dvc repro`: the same dvc.lock as a run that nothing disturbed.

While the pipeline runs undisturbed (``finished`` of conftest.py), an audit hook in the stages' Python notes every file that
they open for writing or rename below the outputs and the checkpoints. In a copy of that, the stages of ``KILLS`` run once
more, one after the other as if for the first time, and the same hook ends each at one of these events: after the first
whole checkpoint where the stage writes any, else half way. So the kill is always in the middle, on a machine of any speed.
What dies is the whole process group, dvc too, as when a machine or a container ends, or the stage's process alone.
"""

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


@dataclass(frozen=True)
class Kill:
    """``place``: checkpoint, after the first whole one and before the last; or half, of the files a stage writes."""

    place: str
    who: str


GROUP, PROCESS = "group", "process"
# Every stage that keeps checkpoints; of the others one of each kind: one that works in several processes (forge), one whose
# output is a folder (prepare), one that draws (render_corridors), one with metrics and plots in git (evaluate_cascade).
KILLS = {
    "images": {
        "forge": [Kill("half", GROUP)],
        "prepare": [Kill("half", PROCESS)],
        "train_stage1": [Kill("checkpoint", GROUP), Kill("half", PROCESS)],
        "train_expert@efficientnetv2_b3-fold_0": [Kill("checkpoint", PROCESS)],
        "distill_stage1": [Kill("checkpoint", PROCESS)],
        "evaluate_cascade": [Kill("half", GROUP)],
    },
    "others": {
        "train_counts@llm_lora": [Kill("checkpoint", PROCESS)],
        "pretrain_text": [Kill("checkpoint", GROUP)],
        "train_text@own": [Kill("checkpoint", GROUP)],
        "render_corridors": [Kill("half", GROUP)],
        "pretrain_vlm": [Kill("checkpoint", GROUP)],
        "vlm_sft@base": [Kill("checkpoint", GROUP)],
        "vlm_sft_high_risk@both": [Kill("checkpoint", GROUP)],
    },
}


@dataclass(frozen=True)
class After:
    """What was seen after one ``dvc repro`` had ended, in whatever way; ``stages`` are those of dvc.lock."""

    status: int
    output: str
    stages: dict[str, Any]
    checkpoints: tuple[str, ...]
    writing: tuple[str, ...]


@dataclass(frozen=True)
class Story:
    """What became of one line; ``stages`` and ``events`` are of the undisturbed run."""

    stages: dict[str, Any]
    events: dict[str, list[str]]
    kills: dict[str, list[tuple[Kill, After]]]
    recovered: dict[str, After]
    says: str


def repro(clone: Clone, stage: str, *, kill: str = "") -> After:
    """``dvc repro``, and what it left."""
    done = clone.watched_repro(stage, kill=kill)
    rwlock = clone.path / ".dvc/tmp/rwlock"
    return After(
        status=done.returncode,
        output=done.stdout,
        stages=clone.stages(),
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


def tell(line: str, finished: Future[Clone], folder: Path, copy_clone: Callable[..., Clone]) -> Story:
    """Kill and recover the stages of one line, in the order in which they ran."""
    calm = finished.result()
    stages, events = calm.stages(), calm.events()
    killed = copy_clone(calm, folder / line, stages=list(stages))
    kills: dict[str, list[tuple[Kill, After]]] = {}
    recovered = {}
    for stage in [name for name in stages if name in KILLS[line]]:
        killed.forget([stage])
        kills[stage] = []
        for kill in KILLS[line][stage]:
            order = f"{stage} {moment(events[stage], kill.place)} {kill.who}"
            kills[stage].append((kill, repro(killed, stage, kill=order)))
        recovered[stage] = repro(killed, stage)
    return Story(stages, events, kills, recovered, says=killed.dvc("status", *stages))


@pytest.fixture(scope="module")
def stories(
    finished: dict[str, Future[Clone]], tmp_path_factory: pytest.TempPathFactory, copy_clone: Callable[..., Clone]
) -> Iterator[dict[str, Future[Story]]]:
    """Both lines at once."""
    folder = tmp_path_factory.mktemp("killed")
    with ThreadPoolExecutor() as pool:
        yield {line: pool.submit(tell, line, finished[line], folder, copy_clone) for line in KILLS}


CASES = [(line, stage) for line, kills in KILLS.items() for stage in kills]


@pytest.mark.parametrize(("line", "stage"), CASES, ids=[stage for _, stage in CASES])
def test_a_killed_stage_ends_as_one_that_was_not(stories: dict[str, Future[Story]], line: str, stage: str) -> None:
    story = stories[line].result()
    others = {name: entry for name, entry in story.stages.items() if name != stage}
    for kill, after in story.kills[stage]:
        assert after.status == (-9 if kill.who == GROUP else 255), after.output
        assert f"Running stage '{stage}'" in after.output
        assert after.stages == others, "it had finished"
        # dvc's own note of what it is writing (.dvc/tmp/rwlock) outlives it only where it was killed too.
        assert bool(after.writing) == (kill.who == GROUP)
        if kill.who == PROCESS:
            assert f"failed to reproduce '{stage}'" in after.output
        if kill.place == "checkpoint":
            assert after.checkpoints
    recovered = story.recovered[stage]
    assert recovered.status == 0, recovered.output
    assert recovered.stages == story.stages, "another result"
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


@pytest.mark.parametrize("line", KILLS)
def test_in_the_end_dvc_says_that_what_ran_is_up_to_date(stories: dict[str, Future[Story]], line: str) -> None:
    assert stories[line].result().says == "Data and pipelines are up to date.\n"


@pytest.mark.parametrize("line", KILLS)
def test_every_stage_that_keeps_checkpoints_is_killed_after_one(stories: dict[str, Future[Story]], line: str) -> None:
    """A stage that gets checkpoints later has to join the table."""
    story = stories[line].result()
    keep = {stage.split("@")[0] for stage, events in story.events.items() if any(map(is_checkpoint, events))}
    table = {stage.split("@")[0] for stage, kills in KILLS[line].items() if any(k.place == "checkpoint" for k in kills)}
    assert keep == table
