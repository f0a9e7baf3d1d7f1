"""The bake-off: AUC within folds against scikit-learn, and what is shipped of candidates whose true AUC is known."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from assay.images.stacking.bake_off import choose, fold_auc, measure
from assay.images.stacking.meta_model import CANDIDATES
from assay.metrics.binary import Resampled, resample

GROUPS, ROWS, FOLDS = 20, 200, 5


def scored(rng: np.random.Generator, noise: list[float]) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Labels, a probability per candidate, groups: scenes differ in level, each candidate adds noise of its own."""
    group = np.repeat(np.arange(GROUPS), ROWS)
    labels = np.arange(GROUPS * ROWS) % 2
    signal = 1.5 * labels + 0.5 * rng.normal(size=GROUPS)[group] + rng.normal(size=labels.size)
    return labels, [expit(signal + scale * rng.normal(size=labels.size)) for scale in noise], group


def measured(labels: np.ndarray, probs: list[np.ndarray], group: np.ndarray) -> dict[str, Resampled]:
    within = fold_auc(group % FOLDS)
    found = [resample(labels, values, group, metrics=within) for values in probs]
    return dict(zip(CANDIDATES, found, strict=True))


def test_a_true_gain_of_0016_is_found_and_none_is_not() -> None:
    rng, worse, better = np.random.default_rng(0), 0.52, 0.3
    runs = [measured(*scored(rng, [worse, *[better] * 4])) for _ in range(40)]
    gains = [run["lightgbm"].point["fold_auc"] - run["single"].point["fold_auc"] for run in runs]
    assert np.mean(gains) == pytest.approx(0.016, abs=0.002)
    assert sum(choose(run, metric="fold_auc", ship="auto")[0] == "single" for run in runs) <= 2
    null = [choose(measured(*scored(rng, [worse] * 5)), metric="fold_auc", ship="auto")[0] for _ in range(100)]
    assert null.count("single") >= 95, "the best of five is the best by chance"


def test_auc_within_folds_is_the_weighted_mean_of_scikit_learns_and_knows_no_scale_of_a_fold() -> None:
    labels, (probs,), group = scored(np.random.default_rng(1), [0.5])
    fold = group % FOLDS
    weights = np.random.default_rng(2).integers(0, 3, size=(4, len(labels))).astype(float)
    weights[1, fold == 2] = 0
    weights[2] = labels
    found = fold_auc(fold)(labels, probs, weights=weights)["fold_auc"]
    for number, row in enumerate(weights):
        areas, pairs = [], []
        for part in (fold == k for k in range(FOLDS)):
            count = row[part & (labels == 1)].sum() * row[part & (labels == 0)].sum()
            if count:
                areas.append(roc_auc_score(labels[part], probs[part], sample_weight=row[part]))
                pairs.append(count)
        wanted = np.average(areas, weights=pairs) if pairs else np.nan
        np.testing.assert_allclose(found[number], wanted)
    moved = expit(np.log(probs / (1 - probs)) + fold)
    np.testing.assert_allclose(fold_auc(fold)(labels, moved)["fold_auc"], fold_auc(fold)(labels, probs)["fold_auc"])
    assert roc_auc_score(labels, moved) < roc_auc_score(labels, probs) - 0.05, "the pooled AUC does"


def with_values(**aucs: tuple[float, float]) -> dict[str, Resampled]:
    """Candidates with an AUC and how far it moves when one of ten groups is left out; the sides alternate."""
    signs = np.resize([1.0, -1.0], 10)
    values = {name: aucs.get(name, (0.5, 0.0)) for name in CANDIDATES}
    return {
        n: Resampled(100, 10, 9.0, {"fold_auc": a}, {"fold_auc": a + move * signs}) for n, (a, move) in values.items()
    }


@pytest.mark.parametrize(
    ("aucs", "wanted"),
    [
        ({"lightgbm": (0.9, 0.001)}, "lightgbm"),
        ({"lightgbm": (0.9, 0.01), "logistic": (0.89, 0.0)}, "logistic"),
        # Both are as unsure, and of the same groups: their difference is not.
        ({"lightgbm": (0.9, 0.01), "logistic": (0.89, 0.0095)}, "lightgbm"),
        ({"lightgbm": (0.9, 0.01), "mean_logit": (0.89, 0.0), "logistic": (0.895, 0.0)}, "mean_logit"),
        ({"single": (0.9, 0.001), "lightgbm": (0.89, 0.001)}, "single"),
        (dict.fromkeys(CANDIDATES, (0.9, 0.0)), "single"),
        ({"lightgbm": (0.9, float("nan"))}, "single"),
    ],
)
def test_the_simplest_that_the_best_does_not_beat_is_shipped_unless_one_is_forced(aucs, wanted):
    name, gains = choose(with_values(**aucs), metric="fold_auc", ship="auto")
    assert name == wanted
    best = max(CANDIDATES, key=lambda key: aucs.get(key, (0.5, 0))[0])
    assert gains[best]["best_gain"] == 0
    assert all(gains[key]["best_gain"] == pytest.approx(0.9 - aucs.get(key, (0.5, 0))[0]) for key in CANDIDATES)
    assert all(choose(with_values(**aucs), metric="fold_auc", ship=forced)[0] == forced for forced in CANDIDATES)


def test_too_few_groups_ship_the_simplest() -> None:
    labels, probs, group = scored(np.random.default_rng(0), [3.0, *[0.0] * 4])
    few = group < 4
    values = {n: measure(labels[few], p[few], group[few], group[few]) for n, p in zip(CANDIDATES, probs, strict=True)}
    assert {"fold_auc", "auc", "nll"} <= values["single"].point.keys()
    name, gains = choose(values, metric="fold_auc", ship="auto")
    assert name == "single"
    assert gains["single"]["best_gain"] > 0.1
    assert np.isnan(gains["single"]["best_gain_low"])
