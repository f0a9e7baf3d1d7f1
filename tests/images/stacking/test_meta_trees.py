"""Boosted trees as arrays: LightGBM's output to the bit, and no array that leads a walk astray."""

from dataclasses import replace

import lightgbm
import numpy as np
import pytest
from safetensors.numpy import load, save

from assay.images.stacking.meta import lightgbm_classifier
from assay.images.stacking.trees import Trees, trees_of_tensors, trees_of_text


def fitted(num_rows: int, num_features: int, **settings) -> tuple[lightgbm.Booster, np.ndarray]:
    rng = np.random.default_rng(num_rows)
    features = rng.normal(size=(num_rows, num_features)).astype(np.float32)
    features[:, 0] = features[:, 0].round()  # equal values, and zeros
    labels = (features[:, 0] + rng.normal(size=num_rows) > 0).astype(int)
    return lightgbm_classifier(seed=0, threads=1, **settings).fit(features, labels).booster_, features


@pytest.mark.parametrize(
    ("num_rows", "num_features", "settings"),
    [
        (600, 40, {"n_estimators": 60, "num_leaves": 13, "max_depth": 4, "colsample_bytree": 0.4}),
        (400, 2, {"n_estimators": 20, "num_leaves": 7, "subsample": 0.5, "reg_alpha": 0.3, "reg_lambda": 9.0}),
        (400, 1, {"n_estimators": 300, "learning_rate": 0.5, "num_leaves": 31, "min_child_samples": 1}),
        (30, 2, {"n_estimators": 5}),  # too few rows for a split: leaves alone
    ],
)
def test_the_output_is_lightgbms_to_the_bit(num_rows, num_features, settings):
    booster, features = fitted(num_rows, num_features, **settings)
    trees = trees_of_text(booster.model_to_string())
    rng = np.random.default_rng(1)
    others = rng.normal(size=(3000, num_features)) * 3
    # On the thresholds themselves and beside them, around zero, and what no training row holds.
    edges = np.concatenate([trees.threshold, [0.0, 1e-35, -1e-35, 2e-35, 5e-324, np.inf, -np.inf, np.nan]])
    others[:1000] = rng.choice(np.concatenate([edges, np.nextafter(edges, 0)]), size=(1000, num_features))
    for kind in (np.float32, np.float64):
        with np.errstate(over="ignore"):
            asked = np.concatenate([features, others]).astype(kind)
        expected = booster.predict(asked)
        assert np.array_equal(trees.probs(asked), expected)
        assert np.array_equal(np.concatenate([trees.probs(row[None]) for row in asked[:50]]), expected[:50])
    again = trees_of_tensors(load(save(trees.tensors())))
    assert np.array_equal(again.probs(asked), expected)


@pytest.fixture(scope="module")
def trees() -> Trees:
    return trees_of_text(fitted(400, 3, n_estimators=10, num_leaves=7)[0].model_to_string())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("left", value) for value in (-(2**63), -71, 0, 59, 60, 2**63 - 1)),
        *(("right", value) for value in (-71, 0, 60)),
        *(("roots", value) for value in (-71, 60)),
        *(("feature", value) for value in (-1, 3, 2**62)),
        *((name, value) for name in ("threshold", "leaf") for value in (np.nan, np.inf)),
    ],
)
def test_a_number_that_leads_astray_is_refused_by_the_name_of_its_array(trees, name, value):
    assert (len(trees.feature), len(trees.leaf)) == (60, 70)
    values = getattr(trees, name).copy()
    values[-1 if name != "roots" else 3] = value
    with pytest.raises(ValueError, match=f"trees: {name} .*run dvc repro train_meta"):
        replace(trees, **{name: values})


def test_any_arrays_are_refused_or_judge_within_their_bounds(trees):
    """One to three numbers changed at random, as in a file that someone else has touched."""
    rng, tensors, refused = np.random.default_rng(0), trees.tensors(), 0
    asked = rng.normal(size=(20, 3))
    for _ in range(1000):
        changed = {name: values.copy() for name, values in tensors.items()}
        for _ in range(rng.integers(1, 4)):
            name = rng.choice(sorted(changed))
            changed[name][rng.integers(len(changed[name]))] = rng.integers(-80, 80)
        try:
            found = trees_of_tensors(changed).probs(asked)
        except ValueError:
            refused += 1
            continue
        assert ((found >= 0) & (found <= 1)).all()
    assert 300 < refused < 950


@pytest.mark.parametrize("change", [{"left": None}, {"more": np.zeros(1)}, {"leaf": np.zeros((2, 2))}, {"roots": 1.0}])
def test_arrays_of_another_form_are_refused(trees, change):
    tensors = trees.tensors() | {
        name: np.full(2, value) if isinstance(value, float) else value for name, value in change.items()
    }
    with pytest.raises(ValueError, match="trees: "):
        trees_of_tensors({name: value for name, value in tensors.items() if value is not None})


def test_rows_of_another_width_are_refused(trees):
    with pytest.raises(ValueError, match="the trees read 3 columns"):
        trees.probs(np.zeros((1, 2)))
