"""The report: what git tracks of metrics and plots, on one self-contained page that needs no network.

Built also in a fresh clone; timings stand in it only where stages have run.
"""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from ruamel.yaml import YAML

from assay.io import atomic_path, read_json
from assay.reporting.tables import interval_text

# Columns by what is predicted; a file belongs to the first whose leading name it holds.
BINARY = ["auc", "ap", "balanced_accuracy", "f1", "tpr_at_fpr_1", "tpr_at_fpr_5", "nll", "brier", "ece_width"]
COUNTS = ["mse", "mae", "r2", "spearman", "accuracy", "macro_f1", "quadratic_kappa", "within_one"]
COUNTS += ["width_accuracy", "width_macro_f1"]
TEXT = ["accuracy", "f1", "precision", "recall", "auc", "nll", "ece"]


def stage_rows(root: Path) -> list[dict[str, str]]:
    """One row per stage of dvc.yaml: name, desc, wall time (all variants) and peak memory of its last run here, if any."""
    pipeline = YAML(typ="safe", pure=True).load((root / "dvc.yaml").read_text(encoding="utf-8"))
    rows = []
    for name, entry in pipeline["stages"].items():
        files = [root / "timings" / f"{name}.json", *sorted((root / "timings").glob(f"{name}@*.json"))]
        timings = [read_json(path) for path in files if path.is_file()]
        rows.append(
            {
                "name": name,
                "desc": entry.get("do", entry).get("desc", ""),
                "wall": f"{sum(t['wall_s'] for t in timings):.0f} s" if timings else "",
                "memory": f"{max(t['peak_bytes'] for t in timings) / 2**20:.0f} MiB" if timings else "",
            }
        )
    return rows


def metric_tables(root: Path) -> list[dict[str, object]]:
    """One table per metrics file: a row per system (the key up to its last dot), a column per known metric."""
    tables: list[dict[str, object]] = []
    for path in sorted((root / "metrics").glob("*.json")):
        metrics = read_json(path)
        systems = [key.removesuffix(".n_groups") for key in metrics if key.endswith(".n_groups")]
        known = [
            [name for name in names if any(f"{system}.{name}" in metrics for system in systems)]
            for names in (BINARY, COUNTS, TEXT)
        ]
        columns = max(known, key=len)
        rows = []
        for system in systems:
            report = {key[len(system) + 1 :]: value for key, value in metrics.items() if key.startswith(f"{system}.")}
            sizes = (f"{report['n']:.0f}", f"{report['n_groups']:.0f}")
            rows.append([system, *sizes, *(interval_text(report, name) for name in columns)])
        others = {key: value for key, value in metrics.items() if key.rpartition(".")[0] not in systems}
        tables.append({"title": path.name, "columns": ["", "n", "groups", *columns], "rows": rows, "others": others})
    return tables


def pictures(root: Path) -> list[dict[str, str]]:
    """Every tracked PNG under plots/, as a data address."""
    return [
        {
            "name": path.relative_to(root / "plots").with_suffix("").as_posix(),
            "data": base64.b64encode(path.read_bytes()).decode(),
        }
        for path in sorted((root / "plots").rglob("*.png"))
    ]


def write_report(path: Path, *, root: Path = Path()) -> Path:
    """Write the page to ``path`` and return it.

    Raises:
        ValueError: not the root of the project.
    """
    if not (root / "dvc.yaml").is_file():
        raise ValueError("no dvc.yaml here: run from the root of the project")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(files("assay.reporting").joinpath("page.html.j2").read_text(encoding="utf-8"))
    page = template.render(
        stages=stage_rows(root),
        tables=metric_tables(root),
        pictures=pictures(root),
        params=(root / "params.yaml").read_text(encoding="utf-8"),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path
