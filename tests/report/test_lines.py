"""The row of each line, made of the committed metrics."""

from pathlib import Path
from typing import Any

import pytest

from assay.core.io import read_json
from assay.report.lines import lines_of, lines_table
from assay.report.results import NAMES
from assay.report.tables import interval_text, sections

ROOT = Path(__file__).parents[2]


@pytest.fixture
def metrics() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {name: read_json(ROOT / f"metrics/{name}.json") for name in NAMES}
    return found


def cells(metrics: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    rows = [line.strip("| ").split(" | ") for line in lines_table(metrics).splitlines()[2:]]
    return {row[0][1:].partition("]")[0]: row for row in rows}


def test_a_row_holds_baseline_part_and_whole_of_its_line(metrics: dict[str, dict[str, Any]]) -> None:
    rows, files = cells(metrics), {name: sections(flat) for name, flat in metrics.items()}
    assert list(rows) == ["images", "counts", "text", "vlm"]
    for line in lines_of(files):
        row = rows[line.name]
        assert len(row) == 8
        whole = line.whole.report(files)
        assert row[2:4] == [f"{whole['n']:.0f}", f"{whole['n_groups']:.0f}"]
        for cell, system in zip(row[4:7], (line.baseline, line.part, line.whole), strict=True):
            assert cell == f"`{system.section}`: {interval_text(system.report(files), line.key)}"
        assert (ROOT / line.plot).is_file()
    assert rows["images"][4].startswith("`pixel_statistics`: ")
    assert rows["counts"][6].startswith(f"`{metrics['counts']['choice.count']}`: ")


@pytest.mark.parametrize(
    ("file", "key", "line", "lower"),
    [
        ("cascade", "cascade.balanced_accuracy_gain_stage1", "images", False),
        ("text", "test.accuracy_gain_linear", "text", False),
        ("vlm", "fused.high_error_gain", "vlm", True),
    ],
)
def test_the_gain_decides_what_is_said(
    metrics: dict[str, dict[str, Any]], file: str, key: str, line: str, lower: bool
) -> None:
    for low, high, better in ((0.01, 0.03, not lower), (-0.03, -0.01, lower)):
        metrics[file] |= {key: (low + high) / 2, f"{key}_low": low, f"{key}_high": high}
        wanted = "better" if better else "worse"
        assert f": {wanted} ({(low + high) / 2:+.4f} [" in cells(metrics)[line][7]
    metrics[file] |= {f"{key}_low": -0.01, f"{key}_high": 0.01}
    assert ": not told apart (" in cells(metrics)[line][7]
    # What an older run has not measured is a dash, and no error.
    del metrics[file][key]
    assert cells(metrics)[line][7] == "-"


def test_a_system_that_was_not_measured_is_a_dash(metrics: dict[str, dict[str, Any]]) -> None:
    kept = {key: value for key, value in metrics["text"].items() if not key.startswith(("pretrained.", "test."))}
    row = cells(metrics | {"text": kept})["text"]
    assert row[2:4] == ["-", "-"]
    assert row[5:] == ["`pretrained`: -", "`test`: -", "-"]
    metrics["counts"].pop("peer.linear", None)
    assert cells(metrics)["counts"][5] == cells(metrics)["counts"][4]
