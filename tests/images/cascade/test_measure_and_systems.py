"""The comparison of systems on made-up scores: metrics of each on its rows, and cost against error."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from assay.calibration.temperature import fit_temperature
from assay.core.io import write_json
from assay.core.params import load
from assay.images.cascade.cost import cascade_cost
from assay.images.cascade.decision import Decisions, decide
from assay.images.cascade.evaluation import evaluate
from assay.images.cascade.measure import MIN_ROWS, Measured, fit_deferred_temperature, system_reports
from assay.images.cascade.systems import balanced_error, frontier
from assay.images.cascade.thresholds import NEVER_FORGED, NEVER_REAL, fit_thresholds
from assay.images.slices import family_slices
from assay.metrics.binary import binary_metrics, flatten, nulled
from assay.params.stacking import Stacking
from assay.report.frontier import save_frontier_png


def make_role(seed: int, num_rows: int = 400) -> Measured:
    """One role on which the ensemble is better than stage 1, with rows of a family that was not seen."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(num_rows)
    labels, ids = numbers % 2, [f"s{n}" for n in numbers]
    signs = 2 * labels - 1
    experts = {name: 2.0 * signs + rng.normal(scale=2, size=num_rows) for name in ("one", "two")}
    generators = np.where(labels == 0, "real", np.where(numbers % 8 == 1, "strange", "paste"))
    return Measured(
        pd.DataFrame({"sample_id": ids, "label": labels, "group_id": ids, "generator": generators}),
        stage1=expit(signs + rng.normal(size=num_rows)),
        ensemble_logits=6.0 * signs + rng.normal(scale=5, size=num_rows),
        expert_logits=experts,
        slices=family_slices(labels, generators, seen={"real", "paste"}),
    )


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
        stage1=expit(logits),
        ensemble_logits=logits,
        expert_logits={"one": logits, "two": noise},
        slices=family_slices(labels, generators, seen={"real", "paste"}),
    )


CALIB, TEST = make_role(0), make_role(1)
TUNE, MANY = make_role(1, 1600), make_role(2, 1600)
ENSEMBLE = expit(MANY.ensemble_logits / 2)


def reports_of(low: float, high: float, temperature: float) -> tuple[Decisions, dict[str, dict[str, float]]]:
    decisions = decide(TEST.stage1, expit(TEST.ensemble_logits / temperature), exit_real=low, exit_forged=high)
    options = {"temperature": temperature, "refit_cascade": TEST.stage1}
    return decisions, system_reports(TEST, CALIB, decisions, **options)


def test_the_ends_of_the_cascade_have_the_metrics_of_its_levels() -> None:
    temperature = fit_deferred_temperature(CALIB, np.ones(len(CALIB.labels), dtype=bool))["temperature"]
    assert temperature == fit_temperature(CALIB.ensemble_logits, CALIB.labels).temperature
    _, everything = reports_of(NEVER_REAL, NEVER_FORGED, temperature)
    assert everything["cascade"] == everything["ensemble"] == everything["deferred.ensemble"]
    assert everything["deferred.stage1"] == everything["stage1"]
    _, nothing = reports_of(np.nextafter(0.5, 0), 0.5, temperature)
    assert nothing["cascade"] == nothing["stage1"] == everything["stage1"]
    assert not any(name.startswith("deferred") for name in nothing)


def test_every_system_stands_on_the_seen_rows_with_intervals() -> None:
    decisions, found = reports_of(0.2, 0.8, 2.0)
    seen, labels = TEST.slices["test"], TEST.labels
    for name in ("stage1", "one", "two", "mean_logit", "ensemble", "cascade", "majority"):
        assert found[name]["n"] == seen.sum() == 350
        for metric in ("auc", "balanced_accuracy", "f1", "ece_width"):
            assert {metric, f"{metric}_low", f"{metric}_high"} <= set(found[name])
    assert found["majority"]["balanced_accuracy"] == found["majority"]["auc"] == 0.5
    hard = seen & decisions.deferred
    assert found["deferred.stage1"]["n"] == found["deferred.ensemble"]["n"] == hard.sum()
    assert found["deferred.stage1"]["auc"] == float(binary_metrics(labels[hard], TEST.stage1[hard])["auc"][0])
    assert found["deferred.stage1"]["auc"] < found["stage1"]["auc"], "what is deferred is what is hard"
    assert found["unseen.cascade"]["n"] == found["family.strange.cascade"]["n"] == 250
    assert found["family.paste.ensemble"]["n"] == 350
    wanted = binary_metrics(labels[seen], decisions.verdicts[seen] == "forged")
    assert found["cascade"]["balanced_accuracy"] == float(wanted["balanced_accuracy"][0])


def test_the_temperature_comes_from_the_deferred_rows_and_is_one_for_few(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = fit_temperature(CALIB.ensemble_logits[:200], CALIB.labels[:200]).temperature
    found = fit_deferred_temperature(CALIB, np.arange(400) < 200)
    assert found["temperature_low"] < found["temperature"] == wanted < found["temperature_high"]
    assert wanted != fit_temperature(CALIB.ensemble_logits, CALIB.labels).temperature
    for num_rows in (0, 2 * MIN_ROWS - 1):
        found = fit_deferred_temperature(CALIB, np.arange(400) < num_rows)
        assert found["temperature"] == 1.0
        assert np.isnan(found["temperature_low"]), "no limits of what was not fitted"
        assert f"only {num_rows} rows of calib are deferred" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["noise", "perfect", "wrong", "constant", "unseen"])
@pytest.mark.parametrize("certify", [False, True])
@pytest.mark.parametrize("unsure", [{}, {"unsure": [0.4, 0.6]}, {"unsure_coverage": 0.5, "assumed_correlation": 0.1}])
@pytest.mark.filterwarnings(
    "ignore:temperature reached its bound", "ignore:Mean of empty slice", "ignore:invalid value"
)
def test_a_handful_of_rows_is_measured_whatever_they_hold(
    tmp_path: Path, kind: str, certify: bool, unsure: dict
) -> None:
    settings = load(Stacking).evaluate_cascade.model_copy(update={"certify": certify} | unsure)
    costs = {"stage1": 1, "ensemble": 9, "one": 4, "two": 5}
    for seed in range(3):
        calib, tune, test = (few_rows(3 * seed + number, kind) for number in range(3))
        found = evaluate(calib, tune, test, costs=costs, settings=settings)
        write_json(tmp_path / "metrics.json", flatten(found.reports) | flatten(found.leaks) | nulled(found.others))
        assert "nan" not in "".join(found.explanation()).lower()
        save_frontier_png(tmp_path / "frontier.png", found.table, title="few")
        wanted = {"perfect": 1.0, "wrong": 0.0, "constant": 0.5}.get(kind)
        assert wanted is None or found.reports["stage1"]["auc"] == wanted
        assert not found.thresholds.exit_real.certified, "a handful certifies nothing"


def test_balanced_error_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    assert balanced_error(np.array([True, False, False, False, True, False]), labels) == (0.25 + 0.5) / 2
    assert balanced_error(labels == 1, labels) == 0
    assert balanced_error(labels == 0, labels) == 1


def test_the_frontiers_rows_are_the_systems_at_each_budget() -> None:
    budgets, costs = [0.001, 0.03, 0.1], {"stage1": 10, "one": 40, "two": 60, "ensemble": 100}
    options = {"temperatures": {"ensemble": 2.0, "two": 1.0}, "refit": "two", "costs": costs, "budgets": budgets}
    table, gains = frontier(TUNE, MANY, **options)
    assert table.equals(frontier(TUNE, MANY, **options)[0])
    assert list(table.columns) == ["system", "budget", "share_deferred", "cost", "balanced_error"]
    singles = ["stage1", "one (refit)", "two (refit)", "ensemble"]
    routed = ["cascade", "refit behind the same exits", "random deferral", "learned deferral"]
    assert table["system"].tolist() == routed * 3 + singles
    ours, refit, chance, learned = (table[table["system"] == name].set_index("budget") for name in routed)
    seen = MANY.slices["test"]
    labels = MANY.labels[seen]
    ends = [balanced_error(probs[seen] >= 0.5, labels) for probs in (MANY.stage1, ENSEMBLE)]
    for budget in budgets:
        budgets = {"budget_forged": budget, "budget_real": budget}
        found = fit_thresholds(TUNE.stage1, TUNE.labels, TUNE.keys["group_id"].to_numpy(), **budgets, certify=False)
        decisions = decide(MANY.stage1[seen], ENSEMBLE[seen], **found.exits)
        row, share = ours.loc[budget], decisions.deferred.mean()
        assert row["share_deferred"] == share
        assert row["cost"] == learned.loc[budget, "cost"] == cascade_cost(10, 100, share)
        assert row["balanced_error"] == balanced_error(decisions.probs >= 0.5, labels)
        assert refit.loc[budget, "cost"] == cascade_cost(10, 60, share)
        one = decide(MANY.stage1[seen], expit(MANY.expert_logits["two"][seen]), **found.exits)
        assert refit.loc[budget, "balanced_error"] == balanced_error(one.probs >= 0.5, labels)
        # What chance defers lies on the chord between the single systems.
        expected = (1 - share) * ends[0] + share * ends[1]
        assert chance.loc[budget, "balanced_error"] == pytest.approx(expected)
        gain = gains[f"frontier.{budget}"]
        assert gain["balanced_accuracy_gain_random"] == pytest.approx(expected - row["balanced_error"])
        assert (gain["n"], gain["n_groups"]) == (seen.sum(), seen.sum())
    assert ours["cost"].equals(chance["cost"])
    assert ours["cost"].is_monotonic_decreasing
    assert (ours["balanced_error"] < chance["balanced_error"]).iloc[1], "routing by confidence beats chance here"
    rows = table.set_index("system")
    for name, guesses in (("ensemble", ENSEMBLE >= 0.5), ("two (refit)", MANY.expert_logits["two"] > 0)):
        # The ensemble reads stage 1's logit, so that it costs both.
        cost = 110 if name == "ensemble" else costs[name.split()[0]]
        wanted = cost, balanced_error(guesses[seen], labels)
        assert (rows.loc[name, "cost"], rows.loc[name, "balanced_error"]) == wanted
