"""The report: what git tracks of a run, on one self-contained page that needs no network.

Built also in a fresh clone; wall times stand in it only where stages have run. The same inputs give the same bytes.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from assay.core.io import atomic_path
from assay.data.outputs import check_output
from assay.params.schema import MADE_BY
from assay.report.page_figures import Image, alignment_rows, exit_heats, read_images
from assay.report.page_graph import Box, draw
from assay.report.page_metrics import audit_row, headline, read_metrics
from assay.report.page_pipeline import Line, fold_rows, locked_outputs, read_lines, read_yaml
from assay.report.page_words import LINES, METRICS

PARAMS = "params.yaml"


def write_report(path: Path, *, root: Path = Path()) -> Path:
    """Write the page to ``path`` and return it.

    ValueError if ``root`` is not that of the project, ``path`` can't be written, or a metrics file, a timing or a PNG can't
    be read.
    """
    if not (root / "dvc.yaml").is_file():
        raise ValueError("no dvc.yaml here: run from the root of the project")
    check_output(path, suffixes=())
    page = _environment().get_template("page.html.j2").render(page_content(root))
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def page_content(root: Path) -> dict[str, Any]:
    """Everything that the template shows, by name."""
    lock = read_yaml(root / "dvc.lock")
    lines = read_lines(root)
    images = read_images(root)
    stages = [stage for line in lines for stage in line.stages]
    shown = {image.name for line in lines for image in images_of(line, images)}
    params = root / PARAMS
    return {
        "revision": revision(root),
        "params_source": params_source(root),
        "params": params_lines(params.read_text(encoding="utf-8")) if params.is_file() else None,
        "drawing": draw(lines),
        "sections": [line_section(root, line, images) for line in lines],
        "stages": stages,
        "wall": sum(stage.wall for stage in stages),
        "startup": sum(stage.startup for stage in stages),
        "cpu": sum(stage.cpu for stage in stages),
        "longest": max((stage.wall for stage in stages), default=0.0),
        "largest": max(stages, key=lambda stage: stage.peak, default=None),
        "audit_limit": _audit_limit(params),
        "other_images": [image for image in images if image.name not in shown],
        "outputs": locked_outputs(lock),
        "folds": fold_rows(lock, stages),
        "alignment": alignment_rows(root),
        "exits": exit_heats(root),
    }


def images_of(line: Line, images: Sequence[Image]) -> list[Image]:
    """The images under what the line's stages declare as plots, in the order of its stages."""
    plots = [plot for stage in line.stages for plot in stage.plots]
    return [image for plot in plots for image in images if f"{image.path}/".startswith(f"{plot}/")]


def line_section(root: Path, line: Line, images: Sequence[Image]) -> dict[str, Any]:
    """One line of work: its words, tables, audits and images, in the order of its stages."""
    title, question = LINES.get(line.name, (line.name, ""))
    metrics = [(stage.name, path) for stage in line.stages for path in stage.metrics]
    plots = [(stage.name, path) for stage in line.stages for path in stage.plots]
    return {
        "line": line,
        "stage1": any(stage.name == "train_stage1" for stage in line.stages),
        "id": slug(f"line-{line.name}"),
        "title": title,
        "question": question,
        "headline": headline(root, line.name),
        "audits": [row for _, path in metrics if (row := audit_row(root, path))],
        "files": [(stage, read_metrics(root, path)) for stage, path in metrics],
        "images": images_of(line, images),
        "missing_plots": [(stage, path) for stage, path in plots if not (root / path).exists()],
    }


def revision(root: Path) -> dict[str, Any] | None:
    """Short hash and date of the commit, and how many tracked files differ from it; None without git or a commit."""
    try:
        commit = _git(root, "log", "-1", "--format=%h %cs")
        # Without optional locks: a report must not get in the way of a commit that is being made.
        changed = _git(root, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    short, date = commit.split()
    return {"hash": short, "date": date, "changed": len(changed.splitlines())}


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def params_source(root: Path) -> str:
    """The file under params/ whose values params.yaml holds; empty where it is the embedded default or the user's own."""
    path = root / PARAMS
    head = path.read_text(encoding="utf-8").partition("\n")[0] if path.is_file() else ""
    return head.removeprefix(MADE_BY).split()[0] if head.startswith(MADE_BY) else ""


def params_lines(text: str) -> list[tuple[str, str, str]]:
    """Each line of a YAML file as key, value and comment, which together are the line; for colour alone."""
    rows = []
    for line in text.splitlines():
        found = re.match(r"(?P<key>\s*(?:- )?[\w.]+:(?=\s|$))?(?P<value>.*?)(?P<comment>(?:^|(?<=\s))#.*)?$", line)
        rows.append((found["key"] or "", found["value"], found["comment"] or "") if found else ("", line, ""))
    return rows


def _audit_limit(params: Path) -> float | None:
    """Largest AUC of the metadata-only classifier that is called well, where params.yaml says so as it should."""
    try:
        return float(read_yaml(params)["prepare"]["audit"]["max_auc"])
    except (KeyError, TypeError, ValueError):
        return None


def slug(text: str) -> str:
    """``text`` as the name of an anchor."""
    return re.sub(r"[^\w-]+", "-", text)


def seconds_text(seconds: float) -> str:
    """``8.2 s``, ``430 s``; from ten minutes on ``39.4 min``, from two hours on ``12.5 h``."""
    if seconds >= 600:
        return f"{seconds / 3600:,.1f} h" if seconds >= 7200 else f"{seconds / 60:.1f} min"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def size_text(size: float | None) -> str:
    """``12.3 MiB``; empty for None."""
    if size is None:
        return ""
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def box_text(box: Box) -> str:
    """What stands below a stage's name in the drawing: ``×12 · 565 s · 20 %``, as short as can be."""
    stage, variants = box.stage, len(box.stage.instances)
    parts = [f"×{variants}"] if variants != 1 else []
    if stage.timings:
        for size, unit in ((3600, "h"), (60, "min"), (1, "s")):
            if stage.wall >= 10 * size or unit == "s":
                parts.append(f"{stage.wall / size:.0f} {unit}")
                break
        percent = 100 * box.share
        parts.append(f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.1f} %")
    return " · ".join(parts)


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader([Path(__file__).parent]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "seconds": seconds_text,
        "size": size_text,
        "slug": slug,
        "define": lambda name: METRICS.get(name, ""),
    }
    environment.globals |= {"share": _share, "box_text": box_text}
    return environment
