"""The tables of docs/study.md, made of the committed metrics as if several trainings had given them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from assay.core.io import read_json, write_json
from assay.report.marks import filled
from assay.report.results import NAMES
from assay.report.study import HELD_OUT, SEED, figures, read_records, study_part

ROOT = Path(__file__).parents[2]
METRICS: dict[str, dict[str, Any]] = {name: read_json(ROOT / f"metrics/{name}.json") for name in NAMES}
EXPERT = METRICS["cascade"]["refit"]


def record(seed: int, shift: float, *, family: str | None = None, state: str = "a") -> dict[str, Any]:
    """As `assay study` keeps it; every AUC and accuracy is ``shift`` above the committed one."""
    metrics = {name: dict(METRICS[name]) for name in (NAMES if family is None else NAMES[:2])}
    # As evaluate_cascade measures it, whatever the committed run did.
    for end in ("", "_low", "_high"):
        metrics["cascade"][f"unseen.{EXPERT}.auc{end}"] = METRICS["cascade"][f"unseen.ensemble.auc{end}"]
    metrics["cascade"] |= {f"unseen.{EXPERT}.{name}": METRICS["cascade"][f"unseen.ensemble.{name}"] for name in SIZE}
    for flat in metrics.values():
        flat |= {key: flat[key] + shift for key in flat if key.endswith((".auc", "accuracy"))}
    values = {SEED: seed} | ({} if family is None else {HELD_OUT: [family]})
    name = f"seed-{seed}" if family is None else f"family-{family}-seed-{seed}"
    told = {"run": name, "params": "params/study.yaml", "commit": "c" * 40, "lock": "1" * 64, "state": state}
    return told | {"values": values, "figures": figures(metrics)}


SIZE = ("n", "n_groups")


def rows(part: str, records: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in study_part(part, records).splitlines() if line.startswith("|")][
        2:
    ]


def test_mean_and_spread_are_those_of_the_trainings_beside_the_interval_of_one() -> None:
    shifts = {7: 0.0, 8: 0.012, 9: -0.003}
    found = rows("seeds", [record(seed, shift) for seed, shift in reversed(shifts.items())])
    auc = METRICS["cascade"]["cascade.auc"]
    values = [auc + shift for shift in shifts.values()]
    (row,) = [row for row in found if row[:3] == ["images", "cascade, seen families", "AUC"]]
    low, high = (METRICS["cascade"][f"cascade.auc{end}"] for end in ("_low", "_high"))
    assert row[3:6] == ["3", f"{mean(values):.3f}", f"{stdev(values):.4f}"]
    assert row[6] == f"[{low:.4f}, {high:.4f}]", "the interval is not that of the first seed"
    assert row[7:] == [f"{METRICS['cascade'][f'cascade.{name}']:.0f}" for name in SIZE]
    lines = [row[0] for row in found]
    assert list(dict.fromkeys(lines)) == ["images", "counts", "text", "vlm"]
    # A gain has a sign, and does not move where both systems do.
    (gain,) = [row for row in found if row[1] == "the correction over the first model"]
    key = "fused.high_error_gain"
    assert gain[4:6] == [f"{METRICS['vlm'][key]:+.4f}", "0.0000"]


def test_one_training_has_no_spread_and_what_one_lacks_has_no_mean() -> None:
    alone = rows("seeds", [record(7, 0.0)])
    assert {row[5] for row in alone} == {"-"}
    second = record(8, 0.0)
    second["figures"] = [row | {"value": None, "low": None, "high": None} for row in second["figures"]]
    assert {tuple(row[4:6]) for row in rows("seeds", [record(7, 0.0), second])} == {("-", "-")}


def test_each_family_has_a_row_and_the_mean_counts_families_alike() -> None:
    shifts = {"recon": 0.05, "blend": -0.03}
    records = [record(7, shift, family=family) for family, shift in shifts.items()]
    # A second seed of one family does not make it count twice.
    records.append(record(8, 0.07, family="recon"))
    found = {row[0]: row for row in rows("families", [record(7, 0.0), *records])}
    assert list(found) == ["`recon`", "`blend`", "mean of 2 families"]
    for column, system in enumerate(("stage1", EXPERT, "ensemble", "cascade"), start=4):
        auc = METRICS["cascade"][f"unseen.{'ensemble' if system == EXPERT else system}.auc"]
        told = {family: float(row[column].split()[0]) for family, row in found.items()}
        assert told["`recon`"] == pytest.approx(auc + 0.06, abs=6e-4)
        assert told["`blend`"] == pytest.approx(auc - 0.03, abs=6e-4)
        assert told["mean of 2 families"] == pytest.approx(auc + 0.015, abs=6e-4)
        assert "[" in found["`blend`"][column]
    assert [found[name][1] for name in ("`recon`", "`blend`")] == ["2", "1"]


def test_runs_of_two_states_of_the_code_are_said_to_be_no_comparison() -> None:
    same, mixed = ([record(7, 0.0), record(8, 0.0, state=state)] for state in "ab")
    assert "can't be compared" not in study_part("seeds", same)
    assert "of 2 states of code and parameters and can't be compared" in study_part("seeds", mixed)


def test_the_page_is_filled_from_the_records_alone(tmp_path: Path) -> None:
    page = (ROOT / "docs/study.md").read_text(encoding="utf-8")
    empty = filled(page, tmp_path)
    assert empty.count("No such run is kept yet") == 3
    kept = record(7, 0.0, family="recon")
    write_json(tmp_path / f"docs/study/{kept['run']}.json", kept)
    assert read_records(tmp_path) == [kept]
    text = filled(page, tmp_path)
    assert text.count("No such run is kept yet") == 1, "of seeds there is none still"
    assert "| family-recon-seed-7 | `params/study.yaml` | `forge.unseen: [recon]`; `runtime.seed: 7` |" in text
    write_json(tmp_path / "docs/study/other.json", {"run": "other"})
    with pytest.raises(ValueError, match=r"other\.json is no record of a run"):
        read_records(tmp_path)
    with pytest.raises(ValueError, match="ask for seeds, families, runs"):
        study_part("all", [])


def test_the_committed_page_is_what_the_records_say() -> None:
    page = (ROOT / "docs/study.md").read_text(encoding="utf-8")
    assert filled(page, ROOT) == page, "run assay study --table"
