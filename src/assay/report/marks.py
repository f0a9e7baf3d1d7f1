"""docs/results.md, and every number of a run in README.md and docs/: written from metrics/ and params.yaml, never by hand.

A page asks for what a run says by a mark, ``<!-- results: REQUEST -->`` ... ``<!-- end of results -->``; what stands between
is written anew. Requests:

- ``table``: the small table, a row per line.
- ``claims FILE``: the sentences that follow from ``metrics/FILE.json``, as a list.
- ``leaks``: what leaks at the exits of the cascade, on tune and on test.
- ``value FILE KEY FORMAT``: one number within a line, by Python's format (``.3f``, ``.1%``); ``interval`` adds its interval,
  ``million`` divides.
- ``csv PATH``: a table that a benchmark wrote, as it is.
- ``study PART``: of the runs that `assay study` has kept: ``seeds``, ``families`` or ``runs``.
- ``licences``: what of others comes with a run, and under which licence.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from assay.core.io import atomic_path
from assay.report.lines import lines_table
from assay.report.results import NAMES, bullets, claims, leaks, read_metrics, results_page
from assay.report.study import read_records, study_part
from assay.report.tables import interval_text, table

PAGE, README = Path("docs/results.md"), Path("README.md")
MARK = re.compile(r"(<!-- results: ([^\n]+?) -->)(.*?)(<!-- end of results -->)", re.DOTALL)


def answer(request: str, root: Path = Path()) -> str:
    """What stands between the marks of a page for a request (see the module); ValueError if it asks for nothing known."""
    kind, *words = request.split()
    if kind == "table" and not words:
        return f"\n\n{lines_table({name: read_metrics(root, name) for name in NAMES})}\n\n"
    if kind == "claims" and len(words) == 1:
        lines = bullets(claims(words[0], read_metrics(root, words[0])))
        return "\n\n" + "\n".join(lines) + "\n\n"
    if kind == "leaks" and not words:
        return "\n\n" + "\n".join(leaks(read_metrics(root, "cascade"))) + "\n\n"
    if kind == "value" and len(words) == 3:
        return _value(root, *words)
    if kind == "csv" and len(words) == 1:
        with (root / words[0]).open(encoding="utf-8", newline="") as stream:
            header, *rows = csv.reader(stream)
        return "\n\n" + "\n".join(table(header, rows)) + "\n\n"
    if kind == "study" and len(words) == 1:
        return f"\n\n{study_part(words[0], read_records(root))}\n\n"
    if kind == "licences" and not words:
        from assay.report.licences import licences_table

        return f"\n\n{licences_table(root)}\n\n"
    raise ValueError(f"mark {request!r} asks for nothing known; see src/assay/report/marks.py")


def _value(root: Path, name: str, key: str, form: str) -> str:
    metrics = read_metrics(root, name)
    if key not in metrics:
        raise ValueError(f"metrics/{name}.json has no {key}; dvc metrics show lists its keys")
    if form == "interval":
        return interval_text(metrics, key)
    if form == "million":
        return f"{metrics[key] / 1e6:.1f}"
    return "-" if metrics[key] is None else format(metrics[key], form)


def filled(text: str, root: Path = Path()) -> str:
    """A page with everything between its marks written anew; ValueError as `answer`, or if a mark has no end."""
    if len(MARK.findall(text)) != text.count("<!-- results:"):
        raise ValueError(f"{text.count('<!-- results:')} marks of results, {len(MARK.findall(text))} with an end")
    return MARK.sub(lambda found: f"{found[1]}{answer(found[2], root)}{found[4]}", text)


def pages(root: Path = Path()) -> dict[Path, str]:
    """Path -> text of docs/results.md, README.md and every page of docs/, as they have to be."""
    found = {root / PAGE: results_page(root)}
    for path in (root / README, *sorted((root / "docs").glob("*.md"))):
        if path not in found:
            found[path] = filled(path.read_text(encoding="utf-8"), root)
    return found


def write_pages(found: Mapping[Path, str]) -> list[Path]:
    """Write path -> text; returns the paths of those that changed."""
    changed = []
    for path, text in found.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            with atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def write_results(root: Path = Path()) -> list[Path]:
    """Write `pages`; returns the paths of those that changed."""
    return write_pages(pages(root))
