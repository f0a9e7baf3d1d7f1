"""The report's view of dvc.yaml: stages with what they read and write, their lines of work, and their last timings.

Read as YAML and not by ``dvc.repo``: a stage of many variants stays one row, and no DVC repository is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import networkx as nx  # type: ignore[import-untyped]
from ruamel.yaml import YAML

from assay.core.io import read_json
from assay.report.page_words import HEADLINES

# Every stage reads what it writes: it belongs to no line of work.
CODE = "code"


@dataclass(frozen=True)
class Timing:
    """Seconds and bytes of one run: ``startup`` is the part of ``wall`` spent on starting Python and on imports."""

    wall: float
    startup: float
    cpu: float
    peak: float


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml with all its variants; paths are expanded, ``plots`` maps path to title ("" for none)."""

    name: str
    desc: str
    instances: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    metrics: tuple[str, ...]
    plots: Mapping[str, str]
    timings: Mapping[str, Timing]

    @property
    def wall(self) -> float:
        """Seconds of all variants together; 0 where none has run here."""
        return sum(timing.wall for timing in self.timings.values())

    @property
    def startup(self) -> float:
        """Seconds of ``wall`` spent on starting Python and on imports."""
        return sum(timing.startup for timing in self.timings.values())

    @property
    def cpu(self) -> float:
        """Processor seconds of all variants together."""
        return sum(timing.cpu for timing in self.timings.values())

    @property
    def peak(self) -> float:
        """Bytes of the largest process of any variant; 0 where none has run here."""
        return max((timing.peak for timing in self.timings.values()), default=0.0)


@dataclass(frozen=True)
class Line:
    """Stages that depend on each other, and the arrows between them (indices into ``stages``)."""

    name: str
    stages: tuple[Stage, ...]
    arrows: tuple[tuple[int, int], ...]

    @property
    def wall(self) -> float:
        """Seconds of all stages together."""
        return sum(stage.wall for stage in self.stages)


def read_yaml(path: Path) -> Any:
    """A YAML file as plain data; an empty mapping where there is no such file."""
    return (YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")) if path.is_file() else None) or {}


def read_lines(root: Path, lock: Mapping[str, Any]) -> list[Line]:
    """The lines of work of ``dvc.yaml`` in its order, with the timings of the last runs here; ``lock``: dvc.lock."""
    entries = read_yaml(root / "dvc.yaml").get("stages", {})
    ran = sorted(lock.get("stages", {}))
    stages = [_stage(str(name), entry, ran, root) for name, entry in entries.items() if name != CODE]
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(stages)))
    graph.add_edges_from(
        (first, second)
        for first, second in product(range(len(stages)), repeat=2)
        if first != second and _feeds(stages[first].outs, stages[second].deps)
    )
    members = [sorted(found) for found in nx.weakly_connected_components(graph)]
    return [_line([stages[index] for index in found], graph.subgraph(found)) for found in sorted(members)]


def _line(stages: list[Stage], graph: nx.DiGraph) -> Line:
    """One line, named after the metrics that it is judged by, else after its first stage."""
    written = {path for stage in stages for path in stage.metrics}
    names = [line for line, (file, *_) in HEADLINES.items() if f"metrics/{file}.json" in written]
    place = {node: index for index, node in enumerate(sorted(graph))}
    # Sorted: networkx holds the reduction in sets, whose order is not the report's to depend on.
    arrows = sorted((place[first], place[second]) for first, second in nx.transitive_reduction(graph).edges)
    return Line(name=names[0] if names else stages[0].name, stages=tuple(stages), arrows=tuple(arrows))


def _feeds(outs: Iterable[str], deps: Iterable[str]) -> bool:
    return any(f"{dep}/".startswith(f"{out}/") or f"{out}/".startswith(f"{dep}/") for out in outs for dep in deps)


def _stage(name: str, entry: Mapping[str, Any], ran: list[str], root: Path) -> Stage:
    body = entry.get("do", entry)
    variants = _variants(name, entry, ran)
    metrics, outs = ([*_expand(body.get(key, ()), variants)] for key in ("metrics", "outs"))
    plots = _expand(body.get("plots", ()), variants)
    files = {instance: root / "timings" / f"{instance}.json" for instance in variants}
    return Stage(
        name=name,
        desc=str(body.get("desc", "")),
        instances=tuple(variants),
        deps=tuple(_expand(body.get("deps", ()), variants)),
        outs=(*outs, *metrics, *plots),
        metrics=tuple(metrics),
        plots={path: str(options.get("title", "")) for path, options in plots.items()},
        timings={instance: _timing(path) for instance, path in files.items() if path.is_file()},
    )


def _timing(path: Path) -> Timing:
    """Raises ValueError, naming the file, if it is not JSON."""
    record = read_json(path)
    wall, startup, cpu, peak = (float(record.get(key, 0)) for key in ("wall_s", "startup_s", "cpu_s", "peak_bytes"))
    return Timing(wall=wall, startup=min(startup, wall), cpu=cpu, peak=peak)


def _variants(name: str, entry: Mapping[str, Any], ran: list[str]) -> dict[str, dict[str, str]]:
    """Name of each variant as DVC gives it, and what its ``${...}`` stand for."""
    if "matrix" in entry:
        axes = entry["matrix"]
        chosen = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
        return {
            f"{name}@{'-'.join(map(str, choice.values()))}": {
                f"item.{key}": str(value) for key, value in choice.items()
            }
            for choice in chosen
        }
    over = entry.get("foreach")
    if over is None:
        return {name: {}}
    if isinstance(over, str):  # a parameter: its values stand in dvc.lock
        over = [instance.partition("@")[2] for instance in ran if instance.startswith(f"{name}@")]
    pairs = over.items() if isinstance(over, Mapping) else ((item, item) for item in over)
    found = {}
    for key, item in pairs:
        fields = {f"item.{field}": str(value) for field, value in item.items()} if isinstance(item, Mapping) else {}
        found[f"{name}@{key}"] = {"key": str(key), "item": str(item), **fields}
    return found


def _expand(paths: Iterable[Any], variants: Mapping[str, Mapping[str, str]]) -> dict[str, Mapping[str, Any]]:
    """Each path once for every variant, with its options."""
    found: dict[str, Mapping[str, Any]] = {}
    for entry in paths:
        path, options = next(iter(entry.items())) if isinstance(entry, Mapping) else (str(entry), {})
        for values in variants.values():

            def put(match: re.Match[str], values: Mapping[str, str] = values) -> str:
                return values.get(match[1].strip(), match[0])

            found[re.sub(r"\$\{([^}]*)\}", put, path)] = options
    return found
