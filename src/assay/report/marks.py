"""docs/results.md, and every number of a run in README.md and docs/: written from metrics/ and params.yaml, never by hand.

A page asks for what a run says by a mark, ``<!-- results: REQUEST -->`` ... ``<!-- end of results -->``; what stands between
is written anew. Requests:

- ``table``: the small table of all lines.
- ``claims FILE``: the sentences that follow from ``metrics/FILE.json``, as a list.
- ``leaks``: what leaks at the exits of the cascade, on tune and on test.
- ``value FILE KEY FORMAT``: one number within a line, by Python's format (``.3f``, ``.1%``); ``interval`` adds its interval,
  ``million`` divides.
- ``csv PATH``: a table that a benchmark wrote, as it is.
- ``licences``: what of others comes with a run, and under which licence.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from assay.core.io import atomic_path
from assay.metrics.claims import told
from assay.report.results import NAMES, bullets, claims, leaks, read_metrics, results_page, size_of, table
from assay.report.tables import interval_text, sections

PAGE, README = Path("docs/results.md"), Path("README.md")
MARK = re.compile(r"(<!-- results: ([^\n]+?) -->)(.*?)(<!-- end of results -->)", re.DOTALL)


def small_table(root: Path = Path()) -> str:
    """A row per line: what is used, what it is held against, how far they are apart, and n."""
    stage1, images, counts, text, vlm = (sections(read_metrics(root, name)) for name in NAMES)
    variant, peer = counts["choice"]["count"], counts["peer"]["count"]
    rows = [
        ("images, stage 1", "AUC", stage1, "test", "pixel_statistics", "auc", "_pixel_statistics"),
        ("images, cascade", "AUC", images, "cascade", "stage1", "auc", "_stage1"),
        (f"counts, {variant}", "Spearman", counts, variant, peer, "spearman", ""),
        ("text", "accuracy", text, "test", "linear", "accuracy", "_linear"),
        ("vlm, fused", "accuracy", vlm, "fused", "base", "accuracy", ""),
    ]
    body = [
        [
            line,
            metric,
            *size_of(reports[ours]),
            interval_text(reports[ours], key),
            f"`{theirs}`: {interval_text(reports[theirs], key)}",
            told(reports[ours], f"{key}_gain{end}", one_training=True),
        ]
        for line, metric, reports, ours, theirs, key, end in rows
        if theirs in reports
    ]
    return "\n".join(table(["line", "metric", "n (test)", "groups", "Assay", "held against", "which is better"], body))


def answer(request: str, root: Path = Path()) -> str:
    """What stands between the marks of a page for a request (see the module); ValueError if it asks for nothing known."""
    kind, *words = request.split()
    if kind == "table" and not words:
        return f"\n\n{small_table(root)}\n\n"
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


def write_results(root: Path = Path()) -> list[Path]:
    """Write `pages`; returns the paths of those that changed."""
    changed = []
    for path, text in pages(root).items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            with atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed
