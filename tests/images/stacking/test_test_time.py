"""Five folds' networks ship only where they pay for their cost."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from assay.images.stacking import FOLD_AVERAGE, REFIT
from assay.images.stacking.meta_model import MetaModel
from assay.images.stacking.test_time import GAIN, choose_mode, mode_words, view_logits

LABELS = np.arange(400) % 2
KEYS = pd.DataFrame({"label": LABELS, "group_id": np.arange(400) // 10})


def logits_of(refit_noise: float, average_noise: float, *, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    noise, signs = rng.normal(size=(2, 400)), 2.0 * LABELS - 1
    # Both hold the same noise, as networks do that saw the same images.
    return {
        REFIT: signs + refit_noise * noise[0] + 0.1 * noise[1],
        FOLD_AVERAGE: signs + average_noise * noise[0],
    }


def test_the_views_of_calib_are_the_folds_averaged_and_the_refit() -> None:
    views = np.random.default_rng(0).normal(size=(4, 6, 2)).astype(np.float32)
    found = view_logits(MetaModel("mean_logit", ("one", "two")), views)
    np.testing.assert_allclose(found[REFIT], views[-1].mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found[FOLD_AVERAGE], views[:-1].mean(axis=(0, 2)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("refit_noise", "average_noise", "wanted"),
    [(2.0, 1.0, FOLD_AVERAGE), (1.0, 1.0, REFIT), (1.0, 2.0, REFIT)],
    ids=["pays", "as_good", "worse"],
)
def test_the_average_ships_where_its_gain_lies_above_0(refit_noise: float, average_noise: float, wanted: str) -> None:
    logits = logits_of(refit_noise, average_noise)
    mode, report = choose_mode(logits, KEYS, mode="auto")
    assert mode == wanted
    areas = {name: roc_auc_score(LABELS, values) for name, values in logits.items()}
    assert report[GAIN] == pytest.approx(areas[FOLD_AVERAGE] - areas[REFIT])
    assert report["auc"] == pytest.approx(areas[FOLD_AVERAGE])
    assert (report[f"{GAIN}_low"] > 0) == (mode == FOLD_AVERAGE)
    assert mode_words(report, mode).endswith(f"Ships: {wanted}.")
    for forced in (REFIT, FOLD_AVERAGE):
        assert choose_mode(logits, KEYS, mode=forced) == (forced, report)


def test_few_groups_show_nothing() -> None:
    rows = slice(0, 40)
    few = {name: values[rows] for name, values in logits_of(3.0, 0.1).items()}
    assert choose_mode(few, KEYS[rows], mode="auto")[0] == REFIT
