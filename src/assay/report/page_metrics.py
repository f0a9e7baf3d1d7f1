"""The report's tables of metrics/*.json: systems with intervals, what is left over, and each line's headline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.io import read_json
from assay.report.page_words import BASELINES, FILES, FIRST, HEADLINES, SLICES, SYSTEMS

# Columns by what is predicted; a file belongs to the kind of which it holds most.
KINDS = (
    ("auc", "ap", "balanced_accuracy", "f1", "tpr_at_fpr_1", "tpr_at_fpr_5", "nll", "brier", "ece_width", "ece_smooth"),
    ("spearman", "mae", "mse", "r2", "accuracy", "macro_f1", "within_one", "oracle_share_90", "coverage"),
    ("accuracy", "f1", "precision", "recall", "auc", "nll", "ece"),
    ("accuracy", "f1", "high_recall", "high_precision", "high_error", "auc", "nll", "ece"),
)


@dataclass(frozen=True)
class Cell:
    """A metric as text, its interval as text ("" for none), and the three as numbers."""

    text: str
    interval: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Table:
    """Names of the columns (the first is the rows'), and rows in groups, each under a heading ("" for none)."""

    columns: tuple[str, ...]
    groups: tuple[tuple[str, tuple[tuple[Any, ...], ...]], ...]


@dataclass(frozen=True)
class Scale:
    """The range that the intervals of a table's first metric are drawn on."""

    low: float
    high: float

    def part(self, value: float) -> float:
        """Where ``value`` stands on the range, 0..100."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


@dataclass(frozen=True)
class Name:
    """A system: its key, what it is in words, and a tag such as "shipped"."""

    key: str
    note: str = ""
    tag: str = ""


@dataclass(frozen=True)
class MetricsFile:
    """One file of metrics; ``missing`` where it is not there."""

    name: str
    title: str
    missing: bool = False
    main: Table | None = None
    scale: Scale | None = None
    full: Table | None = None
    others: tuple[Table, ...] = ()
    single: tuple[tuple[str, Cell], ...] = ()


def number_text(value: object) -> str:
    """A metric for people: ``0.912``, ``1,540``, ``113.5 M``; text as it is, ``–`` for None."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    if abs(value) >= 1e6:
        text = f"{value / 1e6:,.1f} M"
    elif abs(value) >= 1000 or float(value).is_integer():
        text = f"{value:,.0f}"
    else:
        text = f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}"
    return text.replace("-", "−")


def cell(metrics: Mapping[str, Any], key: str) -> Cell:
    """The metric ``key`` with its ``_low`` and ``_high``, if any."""
    value, low, high = (_number(metrics.get(f"{key}{end}")) for end in ("", "_low", "_high"))
    if value is None or low is None or high is None:
        return Cell(number_text(metrics.get(key)), value=value)
    return Cell(_measured(value), f"[{_measured(low)}, {_measured(high)}]", value, low, high)


def _measured(value: float) -> str:
    """As :func:`number_text`, but what has an interval is no count: 1.0 keeps its digits."""
    return f"{value:.3f}" if abs(value) < 2 and value.is_integer() else number_text(value)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def read_metrics(root: Path, path: str) -> MetricsFile:
    """Everything of one metrics file, every key in some table. ValueError, naming the file, if it is not JSON."""
    stem = Path(path).stem
    title = FILES.get(stem, stem.replace("_", " "))
    if not (root / path).is_file():
        return MetricsFile(path, title, missing=True)
    metrics: dict[str, Any] = read_json(root / path)
    owners = {key: key.rpartition(".")[0] for key in metrics if not _is_end(key, metrics)}

    def owned(name: str) -> bool:
        return any(f"{owner}.{name}" in metrics for owner in owners.values())

    columns = max(([name for name in kind if owned(name)] for kind in KINDS), key=len)
    judged = [owner for owner in dict.fromkeys(owners.values()) if f"{owner}.n_groups" in metrics]
    systems = [owner for owner in judged if any(f"{owner}.{name}" in metrics for name in columns)]
    left = [key for key, owner in owners.items() if owner not in systems]
    rest = [key for key in left if "." in key]
    main, scale, full = _system_tables(metrics, systems, columns, stem)
    return MetricsFile(
        name=path,
        title=title,
        main=main,
        scale=scale,
        full=full,
        others=tuple(_pivots(metrics, rest) if systems else _across(metrics, rest)),
        single=tuple((key, cell(metrics, key)) for key in left if "." not in key),
    )


def _is_end(key: str, metrics: Mapping[str, Any]) -> bool:
    return any(key.endswith(end) and key.removesuffix(end) in metrics for end in ("_low", "_high"))


def _row(metrics: Mapping[str, Any], name: Name, keys: Iterable[str]) -> tuple[Any, ...]:
    return (name, *(cell(metrics, key) for key in keys))


def _system_tables(
    metrics: Mapping[str, Any], systems: Sequence[str], columns: Sequence[str], stem: str
) -> tuple[Table | None, Scale | None, Table | None]:
    """The table of the chief metrics, the range of the first, and a table of all the others."""
    if not systems:
        return None, None, None
    prefixes = tuple(f"{system}." for system in systems)
    names = [key.rpartition(".")[2] for key in metrics if key.startswith(prefixes) and not _is_end(key, metrics)]
    first = [cell(metrics, f"{system}.{columns[0]}") for system in systems]
    ends = [end for shown in first for end in (shown.value, shown.low, shown.high) if end is not None]
    scale = Scale(min(ends), max(ends)) if ends and min(ends) < max(ends) else None
    groups = _grouped(systems, stem, metrics.get("shipped"))

    def table(chosen: Sequence[str]) -> Table:
        bodies = [
            (title, tuple(_row(metrics, name, [f"{name.key}.{column}" for column in chosen]) for name in group))
            for title, group in groups
        ]
        return Table(("system", *chosen), tuple(bodies))

    known = ["n", "n_groups", *columns]
    more = sorted(set(names) - set(known))
    return table(known), scale, table(more) if more else None


def _grouped(systems: Sequence[str], stem: str, shipped: object) -> list[tuple[str, list[Name]]]:
    """Systems, baselines and slices apart; those that ship first."""
    order = [*(name for name in FIRST if name in systems), *(name for name in systems if name not in FIRST)]
    groups: dict[str, list[Name]] = {"Systems": [], "Baselines": [], "Slices": []}
    for system in order:
        note = SYSTEMS.get(f"{stem}.{system}", SYSTEMS.get(system, ""))
        title = "Slices" if system.startswith(SLICES) else "Baselines" if system in BASELINES else "Systems"
        groups[title].append(Name(system, note, "shipped" if system == shipped else ""))
    return [(title, names) for title, names in groups.items() if names]


def _across(metrics: Mapping[str, Any], keys: Sequence[str]) -> list[Table]:
    """Roles (or sides) as columns, from keys such as ``train.n``: what stands before the first dot."""
    names: dict[str, list[str]] = {}
    for key in keys:
        head, _, name = key.partition(".")
        names.setdefault(head, []).append(name)
    roles = ("raw", "train", "val", "calib", "tune", "test")  # then any others
    order = sorted(names, key=lambda head: (roles.index(head) if head in roles else len(roles), head))
    wide = [head for head in order if len(names[head]) > 1]
    left = _pivots(metrics, [key for key in keys if key.partition(".")[0] not in wide])
    if not wide:
        return left
    rows = dict.fromkeys(key.partition(".")[2] for key in keys if key.partition(".")[0] in wide)
    body = tuple(_row(metrics, Name(row), [f"{head}.{row}" for head in wide]) for row in rows)
    return [Table(("", *wide), (("", body),)), *left]


def _pivots(metrics: Mapping[str, Any], keys: Iterable[str]) -> list[Table]:
    """A table for all that share their last names: rows are what stands before the last dot."""
    owned: dict[str, list[str]] = {}
    for key in keys:
        owner, _, name = key.rpartition(".")
        owned.setdefault(owner, []).append(name)
    alike: dict[tuple[str, ...], list[str]] = {}
    for owner, names in owned.items():
        alike.setdefault(tuple(names), []).append(owner)
    tables = []
    for columns, owners in alike.items():
        body = tuple(_row(metrics, Name(owner), [f"{owner}.{name}" for name in columns]) for owner in owners)
        tables.append(Table(("", *columns), (("", body),)))
    return tables


def headline(root: Path, line: str) -> Mapping[str, Any] | None:
    """The metric a line is known by, with that of what it has to beat; None if it is not there."""
    if line not in HEADLINES:
        return None
    stem, system, metric, rivals = HEADLINES[line]
    path = root / "metrics" / f"{stem}.json"
    metrics = read_json(path) if path.is_file() else {}
    system = metrics.get("choice.count", "") if system is None else system
    figure = cell(metrics, f"{system}.{metric}")
    if figure.value is None:
        return None
    return {
        "system": system,
        "metric": metric.replace("_", " "),
        "figure": figure,
        "n": number_text(metrics.get(f"{system}.n")),
        "groups": number_text(metrics.get(f"{system}.n_groups")),
        "rivals": [(name, cell(metrics, f"{name}.{metric}")) for name in rivals if f"{name}.{metric}" in metrics],
    }


def audit_row(root: Path, path: str) -> Mapping[str, Any] | None:
    """What the metrics of a stage that prepares data say of rows, groups, rejected rows and the audit; None of others."""
    if not (root / path).is_file():
        return None
    metrics = read_json(root / path)
    if "rejected" not in metrics:
        return None

    def total(end: str) -> float | None:
        found = [_number(value) for key, value in metrics.items() if key.endswith(f".{end}") and key.count(".") == 1]
        return sum(value or 0 for value in found) if found else None

    return {
        "file": path,
        "n": number_text(total("n")),
        "groups": number_text(total("n_groups")),
        "rejected": number_text(metrics["rejected"]),
        "near_duplicates": number_text(metrics.get("near_duplicates")),
        "audit": number_text(metrics.get("audit.metadata_auc")),
        "audit_value": _number(metrics.get("audit.metadata_auc")),
    }
