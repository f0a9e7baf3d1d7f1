"""The report's view of dvc.yaml and dvc.lock: stages, their lines of work, last timings, and what they wrote, by hash.

Read as YAML and not by ``dvc.repo``: a stage of many variants stays one row, and no DVC repository is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path, PurePosixPath
from typing import Any

import networkx as nx
from ruamel.yaml import YAML

from assay.core.timings import FIELDS, read_timing
from assay.report.page_words import HEADLINES

# Every stage reads what it writes: it belongs to no line of work.
CODE = "code"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml with all its variants; paths are expanded, ``plots`` maps path to title ("" for none).

    ``timings`` holds the wall seconds of the variants that have run here. ``wall``, ``startup`` (the part of it spent on
    starting Python and on imports) and ``cpu`` are seconds of all of them, ``peak`` the bytes of the largest process.
    """

    name: str
    desc: str
    instances: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    metrics: tuple[str, ...]
    plots: Mapping[str, str]
    timings: Mapping[str, float]
    wall: float
    startup: float
    cpu: float
    peak: float


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


def read_lines(root: Path) -> list[Line]:
    """The lines of work of ``dvc.yaml`` in its order, with the timings of the last runs here."""
    entries = read_yaml(root / "dvc.yaml").get("stages", {})
    params = read_yaml(root / "params.yaml")
    stages = [_stage(str(name), entry, params, root) for name, entry in entries.items() if name != CODE]
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(stages)))
    graph.add_edges_from(
        (first, second)
        for first, second in permutations(range(len(stages)), 2)
        if _feeds(stages[first].outs, stages[second].deps)
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


def _stage(name: str, entry: Mapping[str, Any], params: Any, root: Path) -> Stage:
    """Raises ValueError, naming the file, if a timing can't be read."""
    body = entry.get("do", entry)
    variants = _variants(name, entry, params)
    deps, outs, metrics, plots = (_expand(body.get(key, ()), variants) for key in ("deps", "outs", "metrics", "plots"))
    files = {instance: root / "timings" / f"{instance}.json" for instance in variants}
    records = {instance: read_timing(path) for instance, path in files.items() if path.is_file()}
    walls, startups, cpus, peaks = ({instance: record[key] for instance, record in records.items()} for key in FIELDS)
    return Stage(
        name=name,
        desc=str(body.get("desc", "")),
        instances=tuple(variants),
        deps=tuple(deps),
        outs=(*outs, *metrics, *plots),
        metrics=tuple(metrics),
        plots={path: str(options.get("title", "")) for path, options in plots.items()},
        timings=walls,
        wall=sum(walls.values()),
        startup=sum(min(startup, walls[instance]) for instance, startup in startups.items()),
        cpu=sum(cpus.values()),
        peak=max(peaks.values(), default=0.0),
    )


def _variants(name: str, entry: Mapping[str, Any], params: Any) -> dict[str, dict[str, str]]:
    """Name of each variant as DVC gives it, and what its ``${...}`` stand for."""
    if "matrix" in entry:
        axes = entry["matrix"]
        choices = [tuple(map(str, values)) for values in product(*axes.values())]
        return {
            f"{name}@{'-'.join(choice)}": {f"item.{axis}": value for axis, value in zip(axes, choice, strict=True)}
            for choice in choices
        }
    if "foreach" not in entry:
        return {name: {}}
    items = entry["foreach"]
    if isinstance(items, str):  # ${name}: a parameter
        items = (params.get(items[2:-1]) if isinstance(params, Mapping) else None) or ()
    pairs = items.items() if isinstance(items, Mapping) else ((item, item) for item in items)
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
            expanded = path
            for name, value in values.items():
                expanded = expanded.replace(f"${{{name}}}", value)
            found[expanded] = options
    return found


def locked_outputs(lock: Row) -> dict[str, list[Row]]:
    """Outputs of dvc.lock by top folder (data and models first), each with stage, path, md5, size and nfiles."""
    groups: dict[str, list[Row]] = {"data": [], "models": []}
    for stage, entry in lock.get("stages", {}).items():
        for out in entry.get("outs", ()):
            row = {key: out.get(key) for key in ("path", "md5", "size", "nfiles")}
            groups.setdefault(PurePosixPath(str(out["path"])).parts[0], []).append({"stage": stage, **row})
    return {name: sorted(rows, key=lambda row: str(row["path"])) for name, rows in groups.items() if rows}


def fold_rows(lock: Row, stages: Sequence[Stage]) -> dict[str, dict[int, Row]]:
    """What was written for each fold: by path with ``*`` for the number of the fold, then by that number.

    Each has stage, md5, size and wall, the seconds of the stage that wrote it (None where it has not run here).
    """
    walls = {name: wall for stage in stages for name, wall in stage.timings.items()}
    found: dict[str, dict[int, Row]] = {}
    for rows in locked_outputs(lock).values():
        for row in rows:
            match = re.search(r"fold_(\d+)", str(row["path"]))
            if match:
                path = str(row["path"]).replace(match[0], "fold_*")
                found.setdefault(path, {})[int(match[1])] = {**row, "wall": walls.get(row["stage"])}
    return found
