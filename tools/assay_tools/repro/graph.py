"""The stages of dvc.yaml as a graph, read by DVC itself; which of them a target needs, and which need a look."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.closure import OUTPUT
from assay.core.io import atomic_path
from assay.core.timings import read_timing
from assay_tools.workspace import LOCK, locked_stages

# A stage without a timing counts as this many seconds when the longest path is looked for.
UNKNOWN_S = 30.0


@dataclass(frozen=True)
class Stage:
    """What the scheduler knows of a stage.

    ``needs``: the stages whose outputs it reads; ``last_s``: wall time of its last run here, seconds, or None;
    ``attempts`` and ``wait_s``: its ``meta.retry`` in dvc.yaml; ``accelerated``: it takes an accelerator where there is
    one; ``stays``: it can't run on another machine, since it writes files that DVC's cache does not carry (metrics and
    plots in git) or reads a folder that neither DVC nor git brings there; ``code``: its file of ``code/``, or "".
    """

    name: str
    needs: tuple[str, ...] = ()
    last_s: float | None = None
    attempts: int = 1
    wait_s: float = 0.0
    accelerated: bool = False
    stays: bool = False
    code: str = ""


def retry_of(meta: Mapping[str, Any] | None, *, name: str) -> tuple[int, float]:
    """Attempts and seconds before the second one, of a stage's ``meta: {retry: {attempts: 3, wait_s: 5}}``.

    Raises:
        ValueError: other keys or values.
    """
    asked = (meta or {}).get("retry")
    if asked is None:
        return 1, 0.0
    form = "write retry: {attempts: 3, wait_s: 5}"
    if not isinstance(asked, Mapping) or set(asked) - {"attempts", "wait_s"}:
        raise ValueError(f"dvc.yaml: stage {name}: meta.retry {asked!r} is not understood; {form}")
    attempts, wait_s = asked.get("attempts", 3), asked.get("wait_s", 5)
    if type(attempts) is not int or attempts < 1 or type(wait_s) not in (int, float) or wait_s < 0:
        raise ValueError(f"dvc.yaml: stage {name}: meta.retry {asked!r}: attempts from 1, wait_s from 0; {form}")
    return attempts, float(wait_s)


def last_seconds(name: str, root: Path) -> float | None:
    """Wall time of the stage's last run in this workspace."""
    path = root / "timings" / f"{name}.json"
    return read_timing(path)["wall_s"] if path.is_file() else None


def read_stages(root: Path, targets: Sequence[str] = (), *, single_item: bool = False) -> dict[str, Stage]:
    """The stages that the targets need (all without targets), in the order in which ``dvc repro`` would run them.

    A target is a stage, or a group (``train_expert`` for all of ``train_expert@...``), as for ``dvc repro``. With
    ``single_item`` the targets alone, without what they need.

    Raises:
        ValueError: no pipeline here, or no such stage.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    try:
        with Repo(str(root)) as repo:
            graph = get_active_graph(repo.index.graph)
            pipeline = str(root / "dvc.yaml")
            named = [f"{pipeline}:{target}" for target in targets] or [pipeline]
            order = collect_stages(repo, named)
            if not single_item:
                order = plan_repro(graph, order)
            made = [Path(out.fs_path) for stage in graph for out in stage.outs]
            return {
                stage.name: _stage(stage, [other for other in graph.successors(stage) if other.cmd], made, root)
                for stage in order
                if stage.cmd
            }
    except DvcException as error:
        raise ValueError(str(error)) from error


def _stage(stage: Any, needs: Iterable[Any], made: Iterable[Path], root: Path) -> Stage:
    """A stage of DVC's as the scheduler sees it; ``made``: every path that some stage writes or a .dvc file names."""
    name = stage.name
    folders = [path for path in (Path(dep.fs_path) for dep in stage.deps) if path.is_dir()]
    strange = [folder for folder in folders if not any(folder.is_relative_to(path) for path in made)]
    attempts, wait_s = retry_of(stage.meta, name=name)
    return Stage(
        name=name,
        needs=tuple(sorted(other.name for other in needs)),
        last_s=last_seconds(name, root),
        attempts=attempts,
        wait_s=wait_s,
        accelerated=any("runtime.device" in getattr(dep, "params", ()) for dep in stage.deps),
        stays=bool(strange) or any(not out.use_cache for out in stage.outs),
        code=next((dep.def_path for dep in stage.deps if Path(dep.def_path).parent == OUTPUT), ""),
    )


def order_lock(root: Path, order: Sequence[str]) -> None:
    """Put the stages of dvc.lock in this order, others last: DVC writes them as they end, side by side that is chance."""
    from dvc.repo import Repo
    from dvc.utils.serialize import modify_yaml

    place = {name: number for number, name in enumerate(order)}

    def wanted() -> list[str]:
        return sorted(locked_stages(root), key=lambda name: place.get(name, len(place)))

    if wanted() == list(locked_stages(root)):
        return
    # Under DVC's own lock: another dvc may be about to add a stage.
    with Repo(str(root), _wait_for_lock=True) as repo, repo.lock, atomic_path(root / LOCK) as temporary:
        shutil.copyfile(root / LOCK, temporary)
        with modify_yaml(str(temporary)) as content:
            for name in wanted():
                content["stages"][name] = content["stages"].pop(name)


def changed_stages(root: Path) -> set[str]:
    """Stages whose own command, parameters, code, data or outputs differ from dvc.lock; it waits for DVC's lock."""
    from dvc.repo import Repo

    with Repo(str(root), _wait_for_lock=True) as repo:
        # Elsewhere than in the root DVC puts the path of dvc.yaml and a colon before the name.
        return {name.rpartition(":")[2] for name in repo.status()}


def behind(stages: Mapping[str, Stage], names: Iterable[str]) -> set[str]:
    """``names`` and every stage that needs one of them, directly or not. ``stages`` stand upstreams first."""
    found = set(names)
    for stage in stages.values():
        if found.intersection(stage.needs):
            found.add(stage.name)
    return found & set(stages)


def seconds_to_the_end(stages: Mapping[str, Stage]) -> dict[str, float]:
    """Of each stage: last wall time of the longest chain that starts with it, seconds."""
    longest: dict[str, float] = {}
    for stage in reversed(list(stages.values())):
        after = [longest[other.name] for other in stages.values() if stage.name in other.needs]
        longest[stage.name] = (stage.last_s if stage.last_s is not None else UNKNOWN_S) + max(after, default=0.0)
    return longest
