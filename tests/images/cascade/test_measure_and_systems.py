"""The comparison of systems on made-up scores: metrics of each on its rows, cost against error, goals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from assay.calibration.temperature import fit_temperature
from assay.core.io import write_json
from assay.core.params import load
from assay.images.cascade.cost import BYTES, MACS, SERVER_MACS, WAYS, Costs
from assay.images.cascade.decision import Decisions, decide
from assay.images.cascade.evaluation import bake_off, best_of, evaluate
from assay.images.cascade.goals import LINE_SHARES, choice_sentences, conclusion, goal_sentences
from assay.images.cascade.measure import (
    MIN_ROWS,
    Measured,
    calibrated,
    fit_alone,
    fit_deferred_temperature,
    measured,
    system_reports,
)
from assay.images.cascade.pairs import exits_by_share
from assay.images.cascade.rivals import mixed_metrics
from assay.images.cascade.systems import COLUMNS, balanced_error, frontier
from assay.images.cascade.thresholds import NEVER_FORGED, NEVER_REAL
from assay.images.slices import family_slices
from assay.metrics.binary import binary_metrics, flatten, nulled
from assay.params.stacking import EvaluateCascade, Stacking
from assay.report.frontier import save_frontier_png
from assay.report.tables import sections

COSTS = Costs({"stage1": 10, "one": 40, "two": 60, "ensemble": 100}, 500)
EXPERTS = ("one", "two")
SETTINGS = load(Stacking).evaluate_cascade


def make_role(seed: int, num_rows: int = 400) -> Measured:
    """One role on which experts and ensemble are better than stage 1, with rows of a family that was not seen."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(num_rows)
    labels, ids = numbers % 2, [f"s{n}" for n in numbers]
    signs = 2 * labels - 1
    logits = {name: 2.0 * signs + rng.normal(scale=1.5, size=num_rows) for name in EXPERTS}
    logits |= {
        "stage1": signs + rng.normal(size=num_rows),
        "ensemble": 6.0 * signs + rng.normal(scale=4, size=num_rows),
    }
    generators = np.where(labels == 0, "real", np.where(numbers % 8 == 1, "strange", "paste"))
    keys = pd.DataFrame({"sample_id": ids, "label": labels, "group_id": ids, "generator": generators})
    return measured(keys.assign(**logits, distance=1.0), systems=COSTS.macs, seen={"real", "paste"})


def few_rows(seed: int, kind: str) -> Measured:
    """Some six rows with whatever such a sample may come to: no order, a perfect one, no difference, no seen forgery."""
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 1, rng.integers(2, size=rng.integers(1, 8))]
    signs, noise = 2 * labels - 1, rng.normal(size=len(labels))
    logits = {"perfect": 30.0 * signs, "wrong": -9.0 * signs, "constant": np.zeros(len(labels))}.get(kind, noise)
    ids = [f"s{n}" for n in range(len(labels))]
    generators = np.where(labels == 0, "real", "strange" if kind == "unseen" else "paste")
    return Measured(
        pd.DataFrame({"sample_id": ids, "label": labels, "group_id": ids, "generator": generators}),
        {"stage1": logits, "one": logits, "two": noise, "ensemble": logits},
        family_slices(labels, generators, seen={"real", "paste"}),
    )


CALIB, TEST = make_role(0), make_role(1)
TUNE, MANY = make_role(1, 1600), make_role(2, 1600)
ALONE = fit_alone(CALIB, stage1_temperature=1.0)


def reports_of(low: float, high: float) -> tuple[Decisions, dict[str, dict[str, float]]]:
    probs = calibrated(TEST, ALONE)
    levels = probs["stage1"], probs["ensemble"]
    decisions = decide(*levels, exit_real=low, exit_forged=high)
    return decisions, system_reports(TEST, probs, decisions, levels=levels)


def test_a_role_holds_the_logits_of_the_systems_that_have_a_cost() -> None:
    assert list(CALIB.logits) == list(COSTS.macs)
    assert CALIB.groups.tolist() == CALIB.keys["group_id"].tolist()


def test_every_system_alone_has_a_temperature_of_its_own_from_all_of_calib() -> None:
    assert fit_alone(CALIB, stage1_temperature=1.7)["stage1"] == 1.7
    for name in ("one", "two", "ensemble"):
        assert ALONE[name] == fit_temperature(CALIB.logits[name], CALIB.labels).temperature
    assert np.array_equal(calibrated(TEST, ALONE)["two"], expit(TEST.logits["two"] / ALONE["two"]))


def test_the_ends_of_the_cascade_have_the_metrics_of_its_levels() -> None:
    _, everything = reports_of(NEVER_REAL, NEVER_FORGED)
    assert everything["cascade"] == everything["ensemble"] == everything["deferred.second"]
    assert everything["deferred.first"] == everything["stage1"]
    _, nothing = reports_of(np.nextafter(0.5, 0), 0.5)
    assert nothing["cascade"] == nothing["stage1"] == everything["stage1"]
    assert not any(name.startswith("deferred") for name in nothing)


def test_every_system_stands_on_the_seen_rows_with_intervals() -> None:
    decisions, found = reports_of(0.2, 0.8)
    seen, labels, stage1 = TEST.slices["test"], TEST.labels, expit(TEST.logits["stage1"])
    for name in ("stage1", "one", "two", "ensemble", "cascade", "majority"):
        assert found[name]["n"] == seen.sum() == 350
        for metric in ("auc", "balanced_accuracy", "f1", "ece_width"):
            assert {metric, f"{metric}_low", f"{metric}_high"} <= set(found[name])
    assert found["majority"]["balanced_accuracy"] == found["majority"]["auc"] == 0.5
    hard = seen & decisions.deferred
    assert found["deferred.first"]["n"] == found["deferred.second"]["n"] == hard.sum()
    assert found["deferred.first"]["auc"] == float(binary_metrics(labels[hard], stage1[hard])["auc"][0])
    assert found["deferred.first"]["auc"] < found["stage1"]["auc"], "what is deferred is what is hard"
    assert found["unseen.cascade"]["n"] == found["family.strange.cascade"]["n"] == 250
    assert found["family.paste.ensemble"]["n"] == 350
    wanted = binary_metrics(labels[seen], decisions.verdicts[seen] == "forged")
    assert found["cascade"]["balanced_accuracy"] == float(wanted["balanced_accuracy"][0])


def test_the_temperature_comes_from_the_deferred_rows_and_is_one_for_few(capsys: pytest.CaptureFixture[str]) -> None:
    logits, labels, groups = CALIB.logits["ensemble"], CALIB.labels, CALIB.groups
    wanted = fit_temperature(logits[:200], labels[:200]).temperature
    found = fit_deferred_temperature(logits[:200], labels[:200], groups[:200], system="ensemble")
    assert found["temperature_low"] < found["temperature"] == wanted < found["temperature_high"]
    assert wanted != fit_temperature(logits, labels).temperature
    for rows in (0, 2 * MIN_ROWS - 1):
        found = fit_deferred_temperature(logits[:rows], labels[:rows], groups[:rows], system="ensemble")
        assert found["temperature"] == 1.0
        assert np.isnan(found["temperature_low"]), "no limits of what was not fitted"
        assert f"only {rows} rows of calib are deferred" in capsys.readouterr().out


def settings_of(**changes: Any) -> EvaluateCascade:
    return SETTINGS.model_copy(update=changes)


def evaluated(roles: tuple[Measured, Measured, Measured], **changes: Any) -> Any:
    options = {"stage1_temperature": 1.0, "experts": EXPERTS, "costs": COSTS, "settings": settings_of(**changes)}
    return evaluate(*roles, **options)


@pytest.mark.parametrize("kind", ["noise", "perfect", "wrong", "constant", "unseen"])
@pytest.mark.parametrize(
    "changes", [{}, {"certify": True, "unsure": [0.4, 0.6]}, {"unsure_coverage": 0.5, "assumed_correlation": 0.1}]
)
@pytest.mark.filterwarnings(
    "ignore:temperature of", "ignore:Mean of empty slice", "ignore:invalid value", "ignore:temperature reached"
)
def test_a_handful_of_rows_is_measured_whatever_they_hold(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    for seed in range(3):
        roles = tuple(few_rows(3 * seed + number, kind) for number in range(3))
        found = evaluated(roles, ship=("auto", "cascade", "two")[seed], **changes)
        metrics = flatten(found.reports) | flatten(found.leaks) | nulled(found.others)
        write_json(tmp_path / "metrics.json", metrics | found.record())
        told = [*found.explanation(), *conclusion(metrics, sections(metrics))]
        assert "nan" not in "".join(told).lower()
        if seed == 0:
            save_frontier_png(tmp_path / "frontier.png", found.table, title="few")
        wanted = {"perfect": 1.0, "wrong": 0.0, "constant": 0.5}.get(kind)
        assert wanted is None or found.reports["stage1"]["auc"] == wanted
        assert not found.cascade.thresholds.exit_real.certified, "a handful certifies nothing"


@pytest.fixture(scope="module")
def found() -> Any:
    return evaluated((CALIB, TUNE, MANY), count=SERVER_MACS)


def test_what_won_is_what_predict_reads(found: Any) -> None:
    """Far better experts on far more rows: the cascade is shown to lie above the line, and its parts are recorded."""
    ours, record = found.cascade, found.record()
    assert (found.ships, found.others["shipped"]) == ("cascade", "cascade")
    assert [level["network"] for level in record["levels"]] == ["stage1", ours.second]
    assert record["levels"][1]["join"]["second"] == ours.join.second
    assert (record["exit_real"], record["exit_forged"]) == tuple(ours.thresholds.exits.values())
    assert found.explanation()[0] == f"stage1 judges, and where it is not sure {ours.second}"
    alone = evaluated((CALIB, TUNE, MANY), ship="two")
    temperature = fit_temperature(CALIB.logits["two"], CALIB.labels).temperature
    assert alone.record()["levels"] == [{"network": "two", "temperature": temperature, "join": None}]
    assert alone.record()["exit_real"] is None
    assert np.array_equal(alone.decisions.probs, expit(MANY.logits["two"] / temperature))
    assert alone.reports["cascade"] == evaluated((CALIB, TUNE, MANY), ship="auto").reports["cascade"]


def test_goals_are_differences_of_what_is_reported(found: Any) -> None:
    reports, seen, labels = found.reports, MANY.slices["test"], MANY.labels

    def accuracy(probs: np.ndarray) -> float:
        return 1 - balanced_error(probs[seen] >= 0.5, labels[seen])

    probs = calibrated(MANY, ALONE)
    expert, refit = found.others["expert"], found.others["refit"]
    assert expert == refit == best_of(TUNE, EXPERTS)
    gains = {
        "stage1": reports["cascade"]["balanced_accuracy"] - accuracy(probs["stage1"]),
        "refit": reports["cascade"]["balanced_accuracy"] - accuracy(probs[refit]),
        "ensemble": accuracy(probs["ensemble"]) - accuracy(probs[expert]),
    }
    for name, wanted in gains.items():
        report = reports[f"goal.{name}"]
        assert report["balanced_accuracy_gain"] == pytest.approx(wanted)
        assert report["balanced_accuracy_gain_low"] < wanted < report["balanced_accuracy_gain_high"]
        assert report["n_groups"] == seen.sum()
    share = found.others["share_deferred"]
    assert found.others["speedup_server_macs"] == pytest.approx(
        COSTS.macs[refit] / (share * COSTS.macs[found.cascade.second])
    )
    assert found.others["speedup_bytes"] == pytest.approx(1 / share)
    cascades, choices = bake_off(CALIB, TUNE, COSTS, ALONE, settings=SETTINGS)
    for share in LINE_SHARES:
        report = reports[f"line.{BYTES}.{share}"]
        ours = cascades[choices[BYTES].cascade]
        made = ours.decide(MANY, exits=exits_by_share(ours.probs(TUNE)[0], share))
        deferred = made.deferred[seen].mean()
        assert (report["share_deferred"], report["cost"]) == (deferred, pytest.approx(500 * deferred))
        names = choices[BYTES].line.names
        assert names[0] == "stage1"
        line = (1 - deferred) * accuracy(probs["stage1"]) + deferred * accuracy(probs[names[1]])
        assert report["balanced_accuracy_gain_line"] == pytest.approx(accuracy(made.probs) - line)


def test_a_verdict_of_the_bake_off_and_goals_are_sentences_from_figures(found: Any) -> None:
    metrics = flatten(found.reports) | flatten(found.leaks) | nulled(found.others)
    reports = sections(metrics)
    lines = conclusion(metrics, reports)
    who, *told = found.told
    assert who.startswith("so says tune, counted in ")
    assert lines[: len(WAYS)] == choice_sentences(reports) == told
    assert lines[1].startswith(
        "Counted in the server's multiply-accumulates: cascade kept. The best cascade of tune (st"
    )
    assert "on tune better (+" in lines[1]
    assert "holds for 3 comparisons together, one training); on test better (+" in lines[1]
    reports[f"choice.{MACS}"] |= {"rejected": True, "network": "one"}
    assert ": cascade rejected: take one alone. The best" in choice_sentences(reports)[0]
    goals = goal_sentences(metrics, reports)
    assert goals[2].endswith("Goal of +0.03: reached.")
    metrics |= {"speedup": 1.0, "speedup_server_macs": 2.6, "speedup_bytes": None}
    wanted = "1.00 by all multiply-accumulates, 2.60 by the server's multiply-accumulates, - by bytes sent."
    assert wanted in goal_sentences(metrics, reports)[-1]
    reports["goal.refit"]["balanced_accuracy_gain"] = -0.009
    ends = "reached by the server's multiply-accumulates, bytes sent."
    assert goal_sentences(metrics, reports)[-1].endswith(ends)
    reports["goal.refit"]["balanced_accuracy_gain"] = -0.011
    assert goal_sentences(metrics, reports)[-1].endswith("missed.")
    assert conclusion(metrics, {"cascade": reports["cascade"]})[0].startswith("The cascade against stage 1 alone, AUC")


def test_balanced_error_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    assert balanced_error(np.array([True, False, False, False, True, False]), labels) == (0.25 + 0.5) / 2
    assert balanced_error(labels == 1, labels) == 0
    assert balanced_error(labels == 0, labels) == 1


def test_the_frontiers_rows_are_the_systems_at_each_share() -> None:
    cascades, choices = bake_off(CALIB, TUNE, COSTS, ALONE, settings=SETTINGS)
    pair = ("stage1", "ensemble")
    choices = {way: replace(choice, cascade=pair) for way, choice in choices.items()}
    probs, shares = calibrated(MANY, ALONE), [0.1, 0.3, 0.6]
    options = {"probs": probs, "cascades": cascades, "choices": choices, "costs": COSTS, "shares": shares}
    table = frontier(TUNE, MANY, **options)
    assert table.equals(frontier(TUNE, MANY, **options))
    assert list(table.columns) == COLUMNS
    assert table["kind"].value_counts().to_dict() == {
        "network": 4,
        "line": sum(len(choice.line.names) for choice in choices.values()),
        "cascade": 3 * (len(cascades) - 1),
        "chosen": 3,
        "rival": 2 * 3,
    }
    seen = MANY.slices["test"]
    labels, fitted = MANY.labels[seen], cascades[pair]
    ours, chance, learned = (
        table[table["system"] == f"stage1 > ensemble{end}"].set_index("share")
        for end in ("", ", random deferral", ", learned deferral")
    )
    ends = np.column_stack(fitted.probs(MANY))[seen]
    for share in shares:
        made = fitted.decide(MANY, exits=exits_by_share(fitted.probs(TUNE)[0], share))
        row, deferred = ours.loc[share], made.deferred[seen].mean()
        assert row["share_deferred"] == deferred == pytest.approx(share, abs=0.05)
        assert row["balanced_error"] == balanced_error(made.probs[seen] >= 0.5, labels)
        wanted = (10 + 100 * deferred, 100 * deferred, 500 * deferred)
        assert tuple(row[list(WAYS)]) == tuple(learned.loc[share, list(WAYS)]) == pytest.approx(wanted)
        # What chance defers lies on the chord between the two networks.
        errors = [1 - mixed_metrics(labels, ends[:, k])["balanced_accuracy"][0] for k in (0, 1)]
        expected = (1 - deferred) * errors[0] + deferred * errors[1]
        assert chance.loc[share, "balanced_error"] == pytest.approx(expected)
    assert (ours["balanced_error"] < chance["balanced_error"]).iloc[1], "routing by confidence beats chance here"
    rows = table[table["kind"] == "network"].set_index("system")
    for name in COSTS.macs:
        wanted = [COSTS.alone(name, way=way) for way in WAYS] + [balanced_error(probs[name][seen] >= 0.5, labels)]
        assert rows.loc[name, [*WAYS, "balanced_error"]].tolist() == wanted
    line = table[table["kind"] == "line"].dropna(subset=[SERVER_MACS])
    assert line[SERVER_MACS].tolist() == list(choices[SERVER_MACS].line.costs)
    assert line[[MACS, BYTES]].isna().all(axis=None)
