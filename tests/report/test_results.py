"""README and docs/ hold what `assay results` writes of the committed metrics, and no number of a run by hand."""

import importlib
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import assay.data.fetch
from assay.core.io import read_json, write_json
from assay.data.fetch.registry import Pin
from assay.report.licences import embedded, licences_table
from assay.report.marks import MARK, PAGE, answer, filled, pages, write_results
from assay.report.results import results_page

ROOT = Path(__file__).parents[2]
# What a run's number looks like: two decimals or more, a share in percent with one, an interval.
RUN_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+\.\d{2,}(?![\w.])|\d\.\d ?%|\[[-+]?\d*\.\d+, ")
# Numbers that look so and come from no run: sizes, rules and versions of the world outside.
CONSTANTS = {
    "README.md": {"3.11"},
    "counts.md": {"1.54"},
    "gates.md": {"3.67"},
    "vlm.md": {"0.15"},
    "your-data.md": {"3.67", "2.5 %", "0.25"},
}


def by_hand(text: str) -> list[str]:
    """Numbers that look like a run's, outside of marks, code spans and blocks of code."""
    blocks = re.sub(r"^```.*?^```$", "", MARK.sub("", text), flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"`[^`\n]*`", "", blocks)
    lines = [line for line in prose.splitlines() if not line.startswith("    ")]
    return RUN_NUMBER.findall("\n".join(lines))


def test_the_committed_pages_are_what_the_command_writes() -> None:
    for path, text in pages(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.relative_to(ROOT)}: run assay results"


@pytest.mark.parametrize(
    "path", sorted({*ROOT.glob("docs/*.md"), ROOT / "README.md"} - {ROOT / PAGE}), ids=lambda path: path.name
)
def test_no_number_of_a_run_stands_in_a_page_by_hand(path: Path) -> None:
    found = set(by_hand(path.read_text(encoding="utf-8"))) - CONSTANTS.get(path.name, set())
    assert not found, f"{path.name}: {found}; ask for it by a mark (src/assay/report/marks.py), or leave it out"


def test_a_number_by_hand_is_seen_and_one_between_marks_is_not() -> None:
    hand = "AUC 0.885 [0.865, 0.900], +0.12, 23.2% and 3.12 times"
    assert by_hand(hand) == ["0.885", "[0.865, ", "0.900", "+0.12", "3.2%", "3.12"]
    mark = "<!-- results: value stage1 test.auc .3f -->0.885<!-- end of results -->"
    assert by_hand(f"{mark}, `0.885`, torch 2.14.1, 0.5, 20 %\n\n    0.885\n\n```text\n0.885\n```") == []


def test_whatever_is_pinned_stands_in_the_table_of_licences() -> None:
    """A package that is fetched can't be forgotten there, nor its licence."""
    pinned = set()
    for module in pkgutil.iter_modules(assay.data.fetch.__path__, "assay.data.fetch."):
        for value in vars(importlib.import_module(module.name)).values():
            found = list(value.values()) if isinstance(value, dict) else [value]
            pinned |= {item for item in found if isinstance(item, Pin)}
    assert {pin for _, pin, _ in embedded()} == pinned
    assert all(licence for _, _, licence in embedded())
    for pin in pinned:
        assert f"| {pin.package} | {pin.version} | " in licences_table(ROOT)


def test_marks_are_filled_from_the_metrics(tmp_path: Path) -> None:
    values = {"test.auc": 0.8851, "test.auc_low": 0.8, "test.auc_high": 0.9, "cost": 3.126e7, "none": None}
    write_json(tmp_path / "metrics/stage1.json", values)
    (tmp_path / "table.csv").write_text('a,b\n1,"x, y"\n')
    wanted = {
        "value stage1 test.auc .3f": "0.885",
        "value stage1 test.auc .1%": "88.5%",
        "value stage1 test.auc interval": "0.885 [0.800, 0.900]",
        "value stage1 cost million": "31.3",
        "value stage1 none .3f": "-",
        "csv table.csv": "\n\n| a | b |\n| --- | --- |\n| 1 | x, y |\n\n",
    }
    for request, words in wanted.items():
        page = f"At <!-- results: {request} -->old\nold<!-- end of results --> here."
        once = filled(page, tmp_path)
        assert once == f"At <!-- results: {request} -->{words}<!-- end of results --> here."
        assert filled(once, tmp_path) == once
    assert filled("no mark", tmp_path) == "no mark"
    for request, message in {
        "value stage1 test.ap .3f": "metrics/stage1.json has no test.ap",
        "value text test.auc .3f": "dvc repro makes it",
        "claims stage2": "dvc repro makes it",
        "poem": "asks for nothing known",
    }.items():
        with pytest.raises(ValueError, match=message):
            answer(request, tmp_path)
    with pytest.raises(ValueError, match="1 marks of results, 0 with an end"):
        filled("<!-- results: table --> without an end", tmp_path)
    write_json(tmp_path / "metrics/data.json", {})
    with pytest.raises(ValueError, match="ask for claims of stage1"):
        answer("claims data", tmp_path)


SECOND = "  maxvit:\n    architecture: tf_efficientnet_lite0\n"


def test_the_pages_name_the_real_architectures_and_every_system_with_n(copy_project: Callable[..., Path]) -> None:
    root = copy_project("metrics", "docs", "README.md", "params.yaml", "requirements.lock")
    params = (root / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(
        params.replace(SECOND, SECOND.replace("tf_efficientnet_lite0", "another_network")), encoding="utf-8"
    )
    write_results(root)
    assert write_results(root) == []
    page = (root / PAGE).read_text(encoding="utf-8")
    assert "| `maxvit` | `another_network` |" in page
    cascade = read_json(root / "metrics/cascade.json")
    size = f"| {cascade['cascade.n']} | {cascade['cascade.n_groups']} |"
    assert f"{size} {cascade['cascade.auc']:.3f} [{cascade['cascade.auc_low']:.3f}" in page
    readme, protocol = ((root / name).read_text(encoding="utf-8") for name in ("README.md", "docs/protocol.md"))
    assert f"{cascade['cascade.balanced_accuracy']:.3f}" in readme
    gain = f"({cascade['cascade.balanced_accuracy_gain_stage1']:+.4f}"
    assert all(gain in text for text in (page, readme, protocol))


def test_without_metrics_it_is_said_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dvc repro makes it"):
        results_page(tmp_path)
