"""``assay repro``: independent stages side by side, then a plain ``dvc repro`` that has the last word."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

from rich.console import Console

from assay.core.params import read_yaml
from assay_tools.repro.children import FAILED, LOGS, Children, Stopped, child_environment, dvc_command, last_lines
from assay_tools.repro.graph import Stage, behind, changed_stages, order_lock, read_stages
from assay_tools.repro.local import LocalEngine
from assay_tools.repro.requirements import cannot_run, check_machine
from assay_tools.repro.schedule import SKIPPED, Schedule
from assay_tools.repro.session import ended_by_signals, only_run
from assay_tools.repro.table import Display, duration
from assay_tools.workspace import locked_stages

CODE = "code"


class Engine(Protocol):
    """Where stages run."""

    children: Children

    def log(self, name: str) -> Path:
        """The file with what the stage printed."""

    def run(self, stage: Stage) -> str:
        """Run a stage to its end: ran, from cache, unchanged or failed."""

    def stop(self) -> None:
        """End every stage that runs."""


def run_with_retries(engine: Engine, stage: Stage, display: Display) -> str:
    """Run a stage; try again as its ``meta.retry`` asks, after a wait that doubles each time."""
    wait_s = stage.wait_s
    for attempt in range(1, stage.attempts + 1):
        how = engine.run(stage)
        if how != FAILED or attempt == stage.attempts:
            break
        display.note(stage.name, f"failed, try {attempt + 1} of {stage.attempts} in {duration(wait_s)}")
        if engine.children.stopping.wait(wait_s):
            raise Stopped
        wait_s *= 2
    return how


def run_schedule(schedule: Schedule, engine: Engine, display: Display, *, jobs: int) -> None:
    """Run all stages that can be run, ``jobs`` at a time; a failure stops only what is behind it."""
    at_work: dict[Future[str], str] = {}
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            while not schedule.over:
                names = schedule.ready()[: jobs - len(at_work)]
                for name in names:
                    schedule.start(name)
                    display.starts(name)
                    stage = schedule.stages[name]
                    at_work[pool.submit(run_with_retries, engine, stage, display)] = name
                for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                    name, how = at_work.pop(future), future.result()
                    display.ends(name, how)
                    if how == FAILED:
                        schedule.failed(name)
                        for line in [*last_lines(engine.log(name)), f"(all of it: {engine.log(name)})"]:
                            display.say(f"  {line}")
                    else:
                        schedule.done(name)
        finally:
            if not schedule.over:
                engine.stop()


def tell(schedule: Schedule, display: Display) -> int:
    """Say what failed and what was skipped for it; the exit status."""
    for name in schedule.named(FAILED):
        lost = [other for other, blamed in schedule.blamed.items() if blamed == name]
        display.say(f"{name} failed" + (f"; skipped because they need it: {', '.join(lost)}" if lost else ""))
    counts = Counter(how for how, _ in display.ended.values())
    counts.update([SKIPPED] * len(schedule.named(SKIPPED)))
    summary = ", ".join(f"{count} {how}" for how, count in sorted(counts.items()))
    display.say(f"{len(schedule.stages)} stages: {summary}; {duration(time.time() - display.since)}")
    return 1 if schedule.named(FAILED) else 0


def update_code(root: Path, children: Children) -> None:
    """Run the stage ``code``, if the pipeline has one: only then do the files tell which stages the source changed.

    Raises:
        ValueError: it failed; its last words.
    """
    path = root / "dvc.yaml"
    # Read plainly: what is wrong with a pipeline is said when DVC reads it, and its index takes seconds.
    if not path.is_file() or CODE not in (read_yaml(path).get("stages") or {}):
        return
    log = root / LOGS / f"{CODE}.log"
    if children.run(dvc_command("repro", CODE), log, child_environment()):
        raise ValueError("\n".join(["the stage code failed:", *last_lines(log)]))


def repro_here(
    targets: Sequence[str], *, jobs: int, single_item: bool, force: bool, pull: bool, root: Path = Path()
) -> int:
    """``repro`` in this workspace."""
    with only_run(root) as lock, ended_by_signals(children := Children(root, lock=lock)):
        update_code(root, children)
        engine = LocalEngine(root, children=children, force=force, pull=pull)
        return repro(targets, engine, jobs=jobs, single_item=single_item, force=force, pull=pull, root=root)


def repro_on_cluster(
    targets: Sequence[str],
    *,
    jobs: int | None,
    address: str | None,
    cpus: int,
    single_item: bool,
    force: bool,
    root: Path = Path(),
) -> int:
    """``repro`` on a Ray cluster; ``jobs`` None: as many stages at a time as it has room for."""
    from assay_tools.repro.ray_engine import RayEngine

    with only_run(root) as lock:
        children = Children(root, lock=lock)
        # Before the machines are asked: they run what is committed, and code/ lies in git.
        with ended_by_signals(children):
            update_code(root, children)
        engine = RayEngine(root, children=children, address=address, cpus=cpus, force=force)
        jobs = jobs or engine.slots()
        # Again, since Ray has put handlers of its own in the place of these.
        with ended_by_signals(children):
            return repro(targets, engine, jobs=jobs, single_item=single_item, force=force, pull=True, root=root)


def repro(
    targets: Sequence[str], engine: Engine, *, jobs: int, single_item: bool, force: bool, pull: bool, root: Path
) -> int:
    """Bring the targets (all stages without targets) up to date, ``jobs`` stages at a time; the exit status.

    0: all is up to date, but for stages that this machine can't run: they are named before anything runs, and at the end.
    1: a stage failed; everything that does not need it was run all the same.

    Raises:
        ValueError: no pipeline here, no such stage, or the machine lacks what the stages that will run need.
    """
    with Console(stderr=True).status("looking for what changed"):
        stages = read_stages(root, targets, single_item=single_item)
        fresh = set() if force else set(stages) - behind(stages, changed_stages(root))
    lacking = cannot_run(stages, set(stages) - fresh, root)
    left_out = behind(stages, lacking)
    for name, why in lacking.items():
        others = sorted(left_out - {name})
        print(f"left out: {name}, and behind it {', '.join(others) or 'nothing'}. {why}", file=sys.stderr)
    stages = {name: stage for name, stage in stages.items() if name not in left_out}
    fresh -= left_out
    for line in check_machine([stage for name, stage in stages.items() if name not in fresh], root):
        print(f"warning: {line}", file=sys.stderr)
    schedule = Schedule(stages, up_to_date=fresh)
    locked = list(locked_stages(root))
    order = [*locked, *(name for name in stages if name not in locked)]
    with Display(stages) as display:
        for name in fresh:
            display.unchanged(name)
        run_schedule(schedule, engine, display, jobs=jobs)
    order_lock(root, order)
    if status := tell(schedule, display):
        return status
    display.say("dvc repro has the last word")
    flags = ["--single-item"] * single_item + ["--pull"] * pull
    status = settle(engine.children, [*flags, *(stages if left_out else targets)], root=root)
    for name, why in lacking.items():
        display.say(f"done but for {len(left_out)} stage(s), {name} and what needs it. {why}")
    return status


def settle(children: Children, arguments: Sequence[str], *, root: Path) -> int:
    """The plain ``dvc repro``: DVC itself says that all is up to date, or runs what was missed; the exit status."""
    log = root / LOGS / "dvc-repro.log"
    status = children.run(dvc_command("repro", *arguments), log, child_environment())
    if status:
        print("\n".join([*last_lines(log), f"dvc repro failed (all of it: {log})"]), file=sys.stderr)
    return 1 if status else 0
