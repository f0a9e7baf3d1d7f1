"""docs/results.md and README's table are what `assay results` writes of the committed metrics."""

from collections.abc import Callable
from pathlib import Path

import pytest

from assay.core.io import read_json
from assay.report.results import PAGE, README, readme_with_table, results_page, write_results

ROOT = Path(__file__).parents[2]


def test_the_committed_pages_are_what_the_command_writes() -> None:
    assert (ROOT / PAGE).read_text(encoding="utf-8") == results_page(ROOT), "run: assay results"
    assert (ROOT / README).read_text(encoding="utf-8") == readme_with_table(ROOT), "run: assay results"


def test_the_page_names_the_real_architectures_and_every_system_with_n(copy_project: Callable[..., Path]) -> None:
    root = copy_project("metrics", "docs", "README.md", "params.yaml")
    params = (root / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(params.replace("tf_efficientnet_lite1", "another_network"), encoding="utf-8")
    write_results(root)
    page = (root / PAGE).read_text(encoding="utf-8")
    assert "| `maxvit` | `another_network` |" in page
    cascade = read_json(root / "metrics/cascade.json")
    assert f"| {cascade['cascade.n']} | {cascade['cascade.auc']:.3f} [{cascade['cascade.auc_low']:.3f}" in page
    assert f"{cascade['cascade.auc']:.3f}" in (root / "README.md").read_text(encoding="utf-8")


def test_without_metrics_it_is_said_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dvc repro makes it"):
        results_page(tmp_path)
