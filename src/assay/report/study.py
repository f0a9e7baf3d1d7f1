"""What the runs of the study measured: the records that `assay study` keeps, and the tables of docs/study.md.

A record, ``docs/study/<run>.json``, holds what was set, the commit, the hash of dvc.lock, and a row per figure. It is of no
other run: the embedded default's metrics stand in metrics/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from assay.core.io import read_json
from assay.report.lines import System, lines_of
from assay.report.tables import interval_text, sections, table

RECORDS = Path("docs/study")
FIELDS = {"run", "params", "values", "commit", "lock", "state", "figures"}
SEED, HELD_OUT = "runtime.seed", "forge.unseen"
# The systems of the images line, as the tables name them.
STAGE1, EXPERT, ENSEMBLE, CASCADE = "stage 1", "best expert", "ensemble", "cascade"
NONE = "No such run is kept yet: they take hours, and `assay study` starts them."
Record = Mapping[str, Any]


def images_systems(flat: Mapping[str, Any]) -> dict[str, str]:
    """Words -> section of metrics/cascade.json; the best expert is the one that was best on tune."""
    found = {STAGE1: "stage1", EXPERT: flat.get("refit"), ENSEMBLE: "ensemble", CASCADE: "cascade"}
    return {words: section for words, section in found.items() if section}


def figures(metrics: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every figure that the tables show, a row each: line, what, metric, n, n_groups, value, low, high.

    Args:
        metrics: name of a file below metrics/ -> its flat keys. Lines whose files are missing have no rows.
    """
    files = {name: sections(flat) for name, flat in metrics.items()}
    rows: list[dict[str, Any]] = []

    def add(line: str, what: str, metric: str, report: Mapping[str, Any], key: str) -> None:
        if key in report:
            ends = {
                name: report.get(f"{key}{end}") for name, end in (("value", ""), ("low", "_low"), ("high", "_high"))
            }
            size = {name: report[name] for name in ("n", "n_groups")}
            rows.append({"line": line, "what": what, "metric": metric} | size | ends)

    for line in lines_of(files):
        for system in dict.fromkeys((line.part, line.whole)):
            add(line.name, system.words, line.metric, system.report(files), line.key)
        gain = f"{line.whole.words} over {line.rival.words}"
        add(line.name, gain, f"{line.metric}, gain", line.whole.report(files), line.gain)
    if "cascade" in files:
        systems = images_systems(metrics["cascade"])
        for part, prefix in (("seen families", ""), ("unseen families", "unseen.")):
            for words, section in systems.items():
                report = System(words, "cascade", f"{prefix}{section}").report(files)
                add("images", f"{words}, {part}", "AUC", report, "auc")
    return rows


def read_records(root: Path = Path()) -> list[Record]:
    """The records of all runs, by name; ValueError if a file is none."""
    found: list[Record] = []
    for path in sorted((root / RECORDS).glob("*.json")):
        record = read_json(path)
        if not isinstance(record, dict) or set(record) != FIELDS:
            raise ValueError(
                f"{path} is no record of a run (it needs {', '.join(sorted(FIELDS))}): remove it, or run it"
            )
        found.append(record)
    return found


def study_part(part: str, records: Sequence[Record]) -> str:
    """A table of docs/study.md: ``seeds``, ``families`` or ``runs``; a sentence where no such run is kept.

    Raises:
        ValueError: there is no such table.
    """
    makers: dict[str, Callable[[list[Record]], list[str]]]
    makers = {"seeds": seeds_table, "families": families_table, "runs": runs_table}
    if part not in makers:
        raise ValueError(f"mark study {part!r} asks for nothing known; ask for {', '.join(makers)}")
    held_out = [record for record in records if HELD_OUT in record["values"]]
    seeds = [record for record in records if HELD_OUT not in record["values"]]
    chosen = list({"seeds": seeds, "families": held_out, "runs": records}[part])
    if not chosen:
        return NONE
    return "\n".join([*makers[part](chosen), *mixed(chosen)])


def mixed(records: Iterable[Record]) -> list[str]:
    """A warning where runs were made by different code or parameters, so that they differ by more than was meant."""
    states = {record["state"] for record in records}
    if len(states) == 1:
        return []
    told = f"**These runs are of {len(states)} states of code and parameters and can't be compared**"
    return ["", f"{told}: `assay study` runs again those that are behind."]


def by_seed(records: Iterable[Record]) -> list[Record]:
    """The records in the order of their seeds."""
    return sorted(records, key=lambda record: int(record["values"][SEED]))


def spread(values: Sequence[float | None], form: str) -> list[str]:
    """Mean, and the standard deviation of trainings (n - 1), of what is defined in all."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return ["-", "-"]
    return [format(mean(known), form), f"{stdev(known):.4f}" if len(known) > 1 else "-"]


def seeds_table(records: list[Record]) -> list[str]:
    """A row per figure: its mean over the seeds, the spread of training, and beside it the interval over test scenes."""
    ordered = by_seed(records)
    grouped: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for record in ordered:
        for row in record["figures"]:
            grouped.setdefault((row["line"], row["what"], row["metric"]), []).append(row)
    body = []
    for (line, what, metric), rows in grouped.items():
        first, is_gain = rows[0], metric.endswith("gain")
        cells = spread([row["value"] for row in rows], "+.4f" if is_gain else ".3f")
        body.append([line, what, metric, str(len(rows)), *cells, limits(first), *size(first)])
    header = ["line", "what", "metric", "trainings", "mean", "spread of training", "one training: interval"]
    return table([*header, "n", "groups"], body)


def limits(row: Mapping[str, Any]) -> str:
    """The interval over groups of test, with as many decimals as a spread."""
    low, high = row["low"], row["high"]
    return "-" if low is None or high is None else f"[{low:.4f}, {high:.4f}]"


def size(row: Mapping[str, Any]) -> list[str]:
    """Rows and groups of a figure."""
    return [f"{row[name]:.0f}" for name in ("n", "n_groups")]


def families_table(records: list[Record]) -> list[str]:
    """A row per family that no network learned from: AUC of each system on it, and the mean over families.

    With several seeds a cell holds the mean of them and the interval of the first. A mean over families is given where
    every family has a value.
    """
    systems = (STAGE1, EXPERT, ENSEMBLE, CASCADE)
    families: dict[str, list[Record]] = {}
    for record in by_seed(records):
        families.setdefault(", ".join(record["values"][HELD_OUT]), []).append(record)
    body, means = [], {system: list[float | None]() for system in systems}
    for family, runs in families.items():
        cells, sizes = [], ["-", "-"]
        for system in systems:
            rows = [row for run in runs for row in run["figures"] if row["what"] == f"{system}, unseen families"]
            value = mean_of([row["value"] for row in rows])
            means[system].append(value)
            first = rows[0] if rows else {}
            report = {"auc": value, "auc_low": first.get("low"), "auc_high": first.get("high")}
            cells.append(interval_text(report, "auc"))
            sizes = size(first) if rows else sizes
        body.append([f"`{family}`", str(len(runs)), *sizes, *cells])
    macro = [interval_text({"auc": mean_of(means[system])}, "auc") for system in systems]
    body.append([f"mean of {len(families)} families", "", "", "", *macro])
    return table(["held out", "trainings", "n", "groups", *(f"{name}, AUC" for name in systems)], body)


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean; None where one is undefined, or none is there."""
    known = [value for value in values if value is not None]
    return mean(known) if known and len(known) == len(values) else None


def runs_table(records: list[Record]) -> list[str]:
    """A row per run: what was set, the commit, and the hash of its dvc.lock."""
    body = [
        [
            record["run"],
            f"`{record['params']}`",
            "; ".join(f"`{key}: {value}`" for key, value in record["values"].items()).replace("'", ""),
            f"`{record['commit'][:12]}`",
            f"`{record['lock'][:16]}`",
        ]
        for record in records
    ]
    return table(["run", "parameters", "and", "commit", "SHA-256 of dvc.lock"], body)
