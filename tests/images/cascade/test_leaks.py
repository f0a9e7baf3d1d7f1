"""Realised leaks counted by hand: both exits, by family and by scene."""

import numpy as np
import pandas as pd
import pytest

from assay.images.cascade import leaks
from assay.images.cascade.decision import decide
from assay.images.cascade.leaks import leak_texts, realised_leaks, scene_share, share_over_scenes
from assay.images.cascade.measure import Measured
from assay.images.cascade.thresholds import Thresholds, fit_thresholds
from assay.images.slices import family_slices

# Scene a: four forged, two of them leak; b: one forged, which leaks; c: one forged, deferred. One real image of b leaks.
SCENES = np.array(["a", "a", "a", "a", "b", "c", "a", "b", "c"])
LABELS = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0])
FAMILIES = np.array(["paste", "paste", "strange", "strange", "strange", "paste", "real", "real", "real"])
STAGE1 = np.array([0.1, 0.9, 0.1, 0.5, 0.05, 0.5, 0.1, 0.95, 0.5])
TEST = Measured(
    pd.DataFrame({"sample_id": np.arange(9), "label": LABELS, "group_id": SCENES, "generator": FAMILIES}),
    logits={},
    slices=family_slices(LABELS, FAMILIES, seen={"real", "paste"}),
)


@pytest.fixture(scope="module")
def found() -> Thresholds:
    tune = np.array([0.1, 0.6, 0.9, 0.4]), np.array([0, 1, 1, 0]), np.array(["x", "x", "y", "y"])
    return fit_thresholds(*tune, budget_forged=0.1, budget_real=0.1, certify=False)


def realised(thresholds: Thresholds) -> dict[str, dict[str, float]]:
    decisions = decide(STAGE1, np.full(9, 0.2), exit_real=0.1, exit_forged=0.9)
    return realised_leaks(TEST, decisions, thresholds)


def test_both_exits_by_family_and_scene(found: Thresholds) -> None:
    reports = realised(found)
    wanted = {
        "exit_real.test": (1 / 4, 1, 3, 2),  # paste: of a one of two leaks, of c none of one
        "exit_real.unseen": (3 / 4, 2, 3, 2),  # strange: of a one of two, of b the only one
        "exit_real.family.paste": (1 / 4, 1, 3, 2),
        "exit_real.family.strange": (3 / 4, 2, 3, 2),
        "exit_forged.test": (1 / 3, 1, 3, 3),
    }
    for key, values in wanted.items():
        report = reports[f"leaks.{key}"]
        assert tuple(report[name] for name in ("leak", "leaked", "n", "n_groups")) == pytest.approx(values), key
        assert report["tune_upper"] == getattr(found, key.partition(".")[0]).leak_upper
    scenes = {key.rpartition(".")[2]: report for key, report in reports.items() if "exit_real.scene" in key}
    assert {name: (report["leaked"], report["n"]) for name, report in scenes.items()} == {
        "a": (2, 4),
        "b": (1, 1),
        "c": (0, 1),
    }
    assert reports["leaks.exit_forged.scene.b"] == {"leak": 1.0, "leaked": 1, "n": 1}
    assert "leaks.exit_forged.unseen" not in reports, "real images are of no family"


def test_the_worst_scenes_are_listed_where_there_are_many(found: Thresholds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "MAX_SCENES", 2)
    names = [key.rpartition(".")[2] for key in realised(found) if ".exit_real.scene." in key]
    assert names == ["a", "b"]


def test_they_are_said_for_each_exit(found: Thresholds) -> None:
    reports = realised(found)
    real, forged = (leak_texts(reports, exit_name=name) for name in ("exit_real", "exit_forged"))
    assert real[0].startswith("  on test, families that training saw: 25.0%")
    assert "(2 of 3 in 2 scenes)" in next(line for line in real if "unseen families" in line)
    assert [line.partition(":")[0] for line in forged] == ["  on test, real images"]


def test_a_share_over_scenes_weighs_scenes_alike_also_in_a_resample() -> None:
    events, shares = np.array([1, 0, 0, 1]), np.array([1 / 3, 1 / 3, 1 / 3, 1.0])
    weights = np.array([[1.0, 1, 1, 1], [2, 2, 2, 0], [1, 1, 1, 3]])
    assert scene_share(events, shares)["share"] == pytest.approx([2 / 3])
    assert scene_share(events, shares, weights=weights)["share"] == pytest.approx([2 / 3, 1 / 3, (1 / 3 + 3) / 4])
    report = share_over_scenes(events == 1, np.array([0, 0, 0, 1]), name="leak")
    assert report["leak"] == pytest.approx(2 / 3)
    assert {"leak", "leak_low", "leak_high", "n", "n_groups"} == set(report)
