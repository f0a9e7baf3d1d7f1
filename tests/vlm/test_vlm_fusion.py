"""Correction by a second model of the high class: what it leaves as it is, and its strength found again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax

from assay.vlm.fusion import choose_second, correct, corrected, fit_fusion, fit_strength
from assay.vlm.scores import with_pool

HIGH = 2
PARTS = {"calib": slice(0, 600), "tune": slice(600, 1200)}


def table(n: int = 200, num_classes: int = 4, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return softmax(2 * rng.standard_normal((n, num_classes)), axis=1), rng.uniform(0, 1, n)


def draw_labels(probs: np.ndarray, *, seed: int) -> np.ndarray:
    uniform = np.random.default_rng(seed).uniform(size=(len(probs), 1))
    return (uniform > probs.cumsum(axis=1)[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_strength_zero_is_the_identity_bit_for_bit_in_a_new_array(dtype):
    probs, high_probs = table()
    probs = probs.astype(dtype)
    probs[0] = [0, 0, 1, 0]
    got = correct(probs, high_probs, high=HIGH, neutral=0.4, strength=0)
    assert np.array_equal(got.view(np.uint64), probs.astype(np.float64).view(np.uint64))
    assert not np.shares_memory(got, probs)


@pytest.mark.parametrize("strength", [0.1, 1.0, 5.0])
def test_it_is_the_factor_of_the_module_then_a_renormalisation(strength):
    probs, high_probs = table()
    # A row at the neutral point stays.
    high_probs[0] = 0.4
    factor = ((high_probs / (1 - high_probs)) / (0.4 / 0.6)) ** strength
    expected = probs.copy()
    expected[:, HIGH] *= factor
    expected /= expected.sum(axis=1, keepdims=True)
    got = correct(probs, high_probs, high=HIGH, neutral=0.4, strength=strength)
    assert np.allclose(got, expected, rtol=1e-9)
    assert np.allclose(got.sum(axis=1), 1, atol=1e-12)
    assert np.allclose(got[0], probs[0], atol=1e-15)


@given(
    row=st.lists(st.floats(1e-6, 1), min_size=2, max_size=5),
    pair=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    strength=st.floats(0, 20),
)
@settings(max_examples=150, deadline=None)
def test_monotone_in_the_second_model_and_other_ratios_kept(row, pair, strength):
    base = np.array(row) / np.sum(row)
    got = correct(np.stack([base, base]), np.sort(pair), high=0, neutral=0.3, strength=strength)
    assert got[1, 0] >= got[0, 0] - 1e-12
    others = base[1:] / base[1:].sum()
    for moved in got:
        # Where the rest is next to nothing its ratios are beyond float64's normal range.
        if moved[1:].sum() > 1e-290:
            assert np.allclose(moved[1:] / moved[1:].sum(), others, rtol=1e-6)


def test_certain_rows_and_certain_second_models_stay_finite():
    probs = np.repeat([[1.0, 0, 0], [0, 0, 1.0], [0.5, 0.5, 0]], 3, axis=0)
    high_probs = np.tile([0.0, 0.5, 1.0], 3)
    for strength in (1e-3, 1.0, 50.0, 1e6):
        got = correct(probs, high_probs, high=HIGH, neutral=0.5, strength=strength)
        assert np.isfinite(got).all()
        assert np.allclose(got.sum(axis=1), 1)
    labels = np.tile([0, 1, 2], 3)
    assert 0 <= fit_strength(probs, high_probs, labels, high=HIGH, neutral=0.5, max_strength=1e6) <= 1e6


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"probs": np.ones(5)}, "probs must be"),
        ({"probs": np.ones((0, 3))}, "probs must be"),
        ({"probs": np.full((5, 3), 0.5)}, "rows of probs"),
        ({"probs": np.full((5, 3), np.nan)}, "probs must lie"),
        ({"high_probs": np.full(4, 0.5)}, "high_probs must be"),
        ({"high_probs": np.full(5, 1.5)}, "high_probs must lie"),
        ({"high": 3}, "high must be"),
        ({"neutral": 1.0}, "neutral must"),
        ({"strength": -0.1}, "strength must"),
        ({"strength": np.nan}, "strength must"),
        ({"strength": np.inf}, "strength must"),
    ],
)
def test_malformed_inputs_are_named(change, field):
    good = {"probs": np.full((5, 3), 1 / 3), "high_probs": np.full(5, 0.5), "high": 2, "neutral": 0.5, "strength": 1.0}
    correct(**good)
    with pytest.raises(ValueError, match=f"^{field}"):
        correct(**(good | change))


@pytest.mark.parametrize("planted", [0.4, 1.0, 1.7])
def test_a_planted_strength_is_found_again_and_nothing_in_a_contrary_or_constant_model(planted):
    probs, high_probs = table(60_000, seed=1)
    truth = correct(probs, high_probs, high=HIGH, neutral=0.4, strength=planted)
    labels = draw_labels(truth, seed=2)
    found = fit_strength(probs, high_probs, labels, high=HIGH, neutral=0.4, max_strength=5.0)
    assert found == pytest.approx(planted, abs=0.05)
    assert fit_strength(probs, high_probs, labels, high=HIGH, neutral=0.4, max_strength=0.3) == 0.3
    for other in (1 - high_probs, np.full(len(labels), 0.6)):
        assert fit_strength(probs, other, labels, high=HIGH, neutral=0.6, max_strength=5.0) == 0.0


@pytest.mark.parametrize("seed", range(2))
def test_it_agrees_with_a_grid_over_the_likelihood(seed):
    probs, high_probs = table(400, seed=seed)
    labels = draw_labels(correct(probs, high_probs, high=HIGH, neutral=0.4, strength=0.8), seed=seed)

    def nll(strength: float) -> float:
        corrected = correct(probs, high_probs, high=HIGH, neutral=0.4, strength=strength)
        return float(-np.log(corrected[np.arange(len(labels)), labels]).mean())

    grid = np.linspace(0, 3, 601)
    losses = [nll(strength) for strength in grid]
    # Convex: the second differences are never negative but for rounding.
    assert np.diff(losses, 2).min() > -1e-12
    found = fit_strength(probs, high_probs, labels, high=HIGH, neutral=0.4, max_strength=3.0)
    assert abs(found - grid[np.argmin(losses)]) <= 0.0051
    assert nll(found) <= min(losses) + 1e-8


def test_noise_and_what_the_base_already_knows_get_next_to_nothing():
    of_noise, of_known = [], []
    for seed in range(12):
        probs, noise = table(5000, seed=seed)
        labels, known = draw_labels(probs, seed=100 + seed), probs[:, HIGH]
        of_noise.append(fit_strength(probs, noise, labels, high=HIGH, neutral=0.5, max_strength=5.0))
        of_known.append(fit_strength(probs, known, labels, high=HIGH, neutral=float(known.mean()), max_strength=5.0))
    # About half the noise fits fall on the wrong side of 0, which is exactly 0.
    assert of_noise.count(0.0) >= 2
    assert np.mean(of_noise) < 0.02
    assert np.mean(of_known) < 0.03


def test_the_second_model_that_knows_most_is_chosen_on_tune_and_calibrated_on_calib():
    rng = np.random.default_rng(0)
    probs, _ = table(1200)
    labels = draw_labels(probs, seed=1)
    truth = (labels == HIGH).astype(float)
    logits = {name: share * (2 * truth - 1) + rng.standard_normal(1200) for name, share in (("deaf", 0), ("keen", 2))}
    # The first model hears half of what decides.
    raw = {"base": np.log(softmax(0.5 * np.log(probs), axis=1))}
    raw |= {
        f"high_risk/{name}": np.log(np.stack([expit(-found), expit(found)], axis=1)) for name, found in logits.items()
    }
    half = {role: {name: value[part] for name, value in raw.items()} for role, part in PARTS.items()}
    classes = {role: labels[part] for role, part in PARTS.items()}
    options = {
        "systems": ["base"],
        "seconds": list(logits),
        "high": HIGH,
        "max_strength": 4.0,
        "scaling": "temperature",
    }
    scalings, fusions = fit_fusion(half["calib"], half["tune"], classes, np.arange(600), **options)
    assert {name: fusion["second"] for name, fusion in fusions.items()} == {"deaf": "deaf", "keen": "keen"}
    assert fusions["deaf"]["strength"] < 0.1 < 0.5 < fusions["keen"]["strength"]
    assert scalings["base"].scale[0] > 1.5
    chosen = {
        choice: choose_second(half["tune"], classes["tune"], scalings, fusions, choice=choice)
        for choice in ("auto", "deaf")
    }
    assert chosen == {"auto": "keen", "deaf": "deaf"}
    base = scalings["base"].probs(half["tune"]["base"])
    found = corrected(base, half["tune"]["high_risk/keen"], fusions["keen"])
    wrong = [((values.argmax(axis=1) == HIGH) != (classes["tune"] == HIGH)).mean() for values in (base, found)]
    assert wrong[1] < 0.8 * wrong[0]


def test_second_models_that_err_apart_are_best_together_and_one_alone_has_no_pool():
    rng = np.random.default_rng(1)
    probs, _ = table(1200)
    labels = draw_labels(probs, seed=1)
    signal = 3 * (labels == HIGH) - 1.5
    raw = {"base": np.log(probs)}
    for name in ("left", "right"):
        logits = signal + 1.5 * rng.standard_normal(1200)
        raw[f"high_risk/{name}"] = np.log(np.stack([expit(-logits), expit(logits)], axis=1))
    found = with_pool(raw)
    assert set(found) == {*raw, "high_risk/mean"}
    odds = {name: np.diff(values)[:, 0] for name, values in found.items() if name.startswith("high_risk/")}
    np.testing.assert_allclose(odds["high_risk/mean"], (odds["high_risk/left"] + odds["high_risk/right"]) / 2)
    np.testing.assert_allclose(np.exp(found["high_risk/mean"]).sum(axis=1), 1)
    half = {role: {name: value[part] for name, value in found.items()} for role, part in PARTS.items()}
    classes = {role: labels[part] for role, part in PARTS.items()}
    options = {"systems": ["base"], "seconds": ["left", "right", "mean"], "high": HIGH, "max_strength": 4.0}
    fitted = fit_fusion(half["calib"], half["tune"], classes, np.arange(600), **options, scaling="temperature")
    assert choose_second(half["tune"], classes["tune"], *fitted, choice="auto") == "mean"
    members = {name: fusion["members"] for name, fusion in fitted[1].items()}
    assert members == {"left": ["left"], "right": ["right"], "mean": ["left", "right"]}
    assert set(with_pool({name: raw[name] for name in ("base", "high_risk/left")})) == {"base", "high_risk/left"}
