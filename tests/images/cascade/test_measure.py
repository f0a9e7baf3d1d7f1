"""The comparison of systems on made-up scores: what equals what, and on which rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from assay.calibration.temperature import fit_temperature
from assay.images.cascade.decision import Decisions, decide
from assay.images.cascade.measure import MIN_ROWS, Measured, fit_ensemble_temperature, system_reports
from assay.images.cascade.thresholds import NEVER_FORGED, NEVER_REAL
from assay.images.slices import family_slices
from assay.metrics.binary import binary_metrics


def measured(seed: int, num_rows: int = 400) -> Measured:
    rng = np.random.default_rng(seed)
    labels = np.arange(num_rows) % 2
    signs = 2 * labels - 1
    experts = {name: 2.0 * signs + rng.normal(scale=2, size=num_rows) for name in ("one", "two")}
    generators = np.where(labels == 0, "real", np.where(np.arange(num_rows) % 8 == 1, "strange", "paste"))
    ids = [f"s{n}" for n in range(num_rows)]
    keys = pd.DataFrame({"sample_id": ids, "label": labels, "group_id": ids, "generator": generators})
    return Measured(
        keys,
        stage1=1 / (1 + np.exp(-(signs + rng.normal(size=num_rows)))),
        ensemble_logits=6.0 * signs + rng.normal(scale=5, size=num_rows),
        mean_logits=np.mean(list(experts.values()), axis=0),
        expert_logits=experts,
        slices=family_slices(labels, generators, seen={"real", "paste"}),
    )


def reports_of(
    test: Measured, calib: Measured, decisions: Decisions, temperature: float
) -> dict[str, dict[str, float]]:
    return system_reports(test, calib, decisions, temperature=temperature, num_resamples=100, seed=0)


def decisions_of(test: Measured, temperature: float, low: float, high: float) -> Decisions:
    probs = 1 / (1 + np.exp(-test.ensemble_logits / temperature))
    return decide(test.stage1, probs, exit_real=low, exit_forged=high)


def test_the_ends_of_the_cascade_have_the_figures_of_its_levels() -> None:
    calib, test = measured(0), measured(1)
    temperature = fit_ensemble_temperature(calib, np.ones(len(calib.labels), dtype=bool))
    assert temperature == fit_temperature(calib.ensemble_logits, calib.labels).temperature
    everything = reports_of(test, calib, decisions_of(test, temperature, NEVER_REAL, NEVER_FORGED), temperature)
    assert everything["cascade"] == everything["ensemble"] == everything["deferred.ensemble"]
    assert everything["deferred.stage1"] == everything["stage1"]
    nothing = reports_of(test, calib, decisions_of(test, temperature, np.nextafter(0.5, 0), 0.5), temperature)
    assert nothing["cascade"] == nothing["stage1"] == everything["stage1"]
    assert not any(name.startswith("deferred") for name in nothing)


def test_every_system_stands_on_the_seen_rows_with_intervals() -> None:
    calib, test = measured(0), measured(1)
    decisions = decisions_of(test, 2.0, 0.2, 0.8)
    found = reports_of(test, calib, decisions, 2.0)
    seen = test.slices["test"]
    for name in ("stage1", "one", "two", "mean_logit", "ensemble", "cascade", "majority"):
        assert found[name]["n"] == seen.sum() == 350
        for metric in ("auc", "balanced_accuracy", "f1", "ece_width"):
            assert {metric, f"{metric}_low", f"{metric}_high"} <= set(found[name])
    assert found["majority"]["balanced_accuracy"] == found["majority"]["auc"] == 0.5
    hard = seen & decisions.deferred
    assert found["deferred.stage1"]["n"] == found["deferred.ensemble"]["n"] == hard.sum()
    assert found["deferred.stage1"]["auc"] == float(binary_metrics(test.labels[hard], test.stage1[hard])["auc"][0])
    assert found["deferred.stage1"]["auc"] < found["stage1"]["auc"], "what is deferred is what is hard"
    assert found["unseen.cascade"]["n"] == found["family.strange.cascade"]["n"] == 250
    assert found["family.paste.ensemble"]["n"] == 350
    wanted = binary_metrics(test.labels[seen], decisions.verdicts[seen] == "forged")
    assert found["cascade"]["balanced_accuracy"] == float(wanted["balanced_accuracy"][0])


def test_the_temperature_comes_from_the_deferred_rows_alone() -> None:
    calib = measured(0)
    deferred = np.arange(len(calib.labels)) < 200
    wanted = fit_temperature(calib.ensemble_logits[:200], calib.labels[:200]).temperature
    assert fit_ensemble_temperature(calib, deferred) == wanted
    assert wanted != fit_temperature(calib.ensemble_logits, calib.labels).temperature


@pytest.mark.parametrize("num_rows", [0, 2 * MIN_ROWS - 1])
def test_few_deferred_rows_leave_the_temperature_at_one(num_rows: int, capsys: pytest.CaptureFixture[str]) -> None:
    calib = measured(0)
    assert fit_ensemble_temperature(calib, np.arange(len(calib.labels)) < num_rows) == 1.0
    assert f"only {num_rows} rows of calib are deferred" in capsys.readouterr().out
