"""Stage 1's logit joined to the ensemble's: what it is worth where both know something, and where one knows nothing."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from assay.images.stacking.join import Join, fit_join
from assay.images.stacking.join_report import held_out_join, join_reports, join_words

GROUPS, ROWS = 12, 100
GROUP = np.repeat(np.arange(GROUPS), ROWS)


def levels(*, ensemble_knows: float, stage1_knows: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-odds of stage 1 and of the ensemble, and labels drawn so that their sum is the true log-odds."""
    rng = np.random.default_rng(0)
    stage1, ensemble = stage1_knows * rng.normal(size=GROUP.size), ensemble_knows * rng.normal(size=GROUP.size)
    return stage1, ensemble, (rng.random(GROUP.size) < expit(stage1 + ensemble)).astype(int)


def test_the_join_finds_the_true_coefficients_and_gains_on_groups_it_did_not_see() -> None:
    stage1, ensemble, labels = levels(ensemble_knows=1.5, stage1_knows=1.5)
    join = fit_join(2 * stage1, ensemble, labels)
    assert (join.first, join.second, join.intercept) == pytest.approx((0.5, 1, 0), abs=0.2)
    assert Join(0.5, 2.0, -1.0).logits(np.array([4.0]), np.array([3.0])).tolist() == [7.0]
    reports = join_reports(stage1, ensemble, labels, GROUP)
    found = reports["calib.joined"]
    assert found["auc"] == pytest.approx(roc_auc_score(labels, held_out_join(stage1, ensemble, labels, GROUP)))
    assert found["auc_gain_ensemble"] == found["auc"] - reports["calib.ensemble"]["auc"]
    assert found["auc_gain_ensemble_low"] > 0.02
    assert found["n_groups"] == GROUPS
    assert [line.split(":")[1].split()[0] for line in join_words(reports)] == ["better", "better"]


def test_a_stage_1_that_knows_nothing_more_gets_no_weight() -> None:
    _, ensemble, labels = levels(ensemble_knows=2.0, stage1_knows=0.0)
    noise = np.random.default_rng(1).normal(size=labels.size)
    assert abs(fit_join(noise, ensemble, labels).first) < 0.25
    gain = join_reports(noise, ensemble, labels, GROUP)["calib.joined"]["auc_gain_ensemble"]
    assert abs(gain) < 0.005


@pytest.mark.parametrize(("rows", "groups"), [(30, 12), (1200, 1)])
def test_with_few_rows_or_one_group_nothing_is_said_of_held_out_groups(rows: int, groups: int) -> None:
    stage1, ensemble, labels = (values[:rows] for values in levels(ensemble_knows=1.0, stage1_knows=1.0))
    assert held_out_join(stage1, ensemble, labels, np.arange(rows) % groups) is None
    reports = join_reports(stage1, ensemble, labels, np.arange(rows) % groups)
    assert reports.keys() == {"calib.stage1", "calib.ensemble"}
    assert join_words(reports) == []
    assert (fit_join(stage1, ensemble, labels) == Join(0.0, 1.0, 0.0)) == (rows < 40)
