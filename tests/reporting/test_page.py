"""The report page: complete, self-contained, and built from what git tracks."""

import re
import shutil
from pathlib import Path

import pytest

from assay.reporting.page import metric_tables, stage_rows, write_report

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def tracked(tmp_path):
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("metrics", "plots"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_page_loads_nothing_from_elsewhere_and_shows_every_picture(tracked):
    page = write_report(tracked / "report.html", root=tracked).read_text()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(address.startswith("data:") for address in addresses)
    assert page.count("<img") == len(list((tracked / "plots").rglob("*.png"))) > 0
    assert "url(" not in page


def test_every_stage_and_figure_stands_in_it(tracked):
    assert [row["name"] for row in stage_rows(tracked)][:3] == ["fetch_photos", "forge", "prepare"]
    assert all(row["wall"] == "" for row in stage_rows(tracked))
    stage1 = next(table for table in metric_tables(tracked) if table["title"] == "stage1.json")
    systems = [row[0] for row in stage1["rows"]]
    assert {"test", "unseen", "metadata", "pixel_statistics", "majority"} <= set(systems)
    row = stage1["rows"][systems.index("test")]
    assert re.fullmatch(r"0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", row[stage1["columns"].index("auc")])


def test_hostile_text_is_escaped(tracked):
    (tracked / "params.yaml").write_text("<script>alert(1)</script>")
    page = write_report(tracked / "report.html", root=tracked).read_text()
    assert "<script>" not in page
