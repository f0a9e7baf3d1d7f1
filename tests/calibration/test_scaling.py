"""Temperature and vector scaling for several classes: known values, bounds, what each leaves as it is, and the choice."""

import math

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from assay.calibration.scaling import (
    MAX_TEMPERATURE,
    MIN_GROUPS,
    MIN_TEMPERATURE,
    Scaling,
    choose_scaling,
    fit_log_temperatures,
    fit_temperature_scaling,
    fit_vector_scaling,
    held_out_gain,
    mean_nll,
)
from assay.calibration.temperature import fit_temperature, temperature_interval, two_columns


def sample(n, *, scale=(1.0, 1.0, 1.0), bias=(0.0, 0.0, 0.0), seed=0):
    """Log-probabilities that softmax(scale * z + bias) makes right, and labels drawn from that."""
    rng = np.random.default_rng(seed)
    log_probs = log_softmax(2.0 * rng.standard_normal((n, len(scale))), axis=1)
    probs = Scaling(tuple(scale), tuple(bias)).probs(log_probs)
    return log_probs, (probs.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_planted_temperature_is_found_again(temperature):
    log_probs, labels = sample(6000, scale=(1 / temperature,) * 3)
    assert fit_temperature_scaling(log_probs, labels, name="x") == pytest.approx(temperature, rel=0.06)


def test_each_row_of_weights_is_a_fit_on_repeated_rows():
    log_probs, labels = sample(200, scale=(0.5, 0.5, 0.5))
    counts = np.random.default_rng(1).integers(0, 3, (4, 200))
    found = fit_log_temperatures(log_probs, labels, weights=counts)
    for row, value in zip(counts, found, strict=True):
        (again,) = fit_log_temperatures(np.repeat(log_probs, row, axis=0), np.repeat(labels, row))
        assert value == pytest.approx(again, abs=1e-9)


@pytest.mark.parametrize("scale", [0.5, 1.0, 5.0])
@pytest.mark.parametrize(("sign", "bound"), [(1, MIN_TEMPERATURE), (-1, MAX_TEMPERATURE)])
def test_rows_without_an_inner_optimum_end_at_a_bound_whatever_their_scale_and_warn(scale, sign, bound):
    """A search that ends where the slope is small would give 0.13, 0.23 and 1.0 for the separable ones."""
    scores = sign * scale * np.array([[1.5, -1.5], [-1.5, 1.5]] * 4)
    with pytest.warns(UserWarning, match="temperature of the pool reached its bound"):
        assert fit_temperature_scaling(log_softmax(scores, axis=1), np.array([0, 1] * 4), name="the pool") == bound


def test_vector_scaling_of_two_classes_is_platts():
    log_probs, labels = sample(1500, scale=(0.6, 0.6), bias=(0.0, 0.9))
    odds = (log_probs[:, 1] - log_probs[:, 0])[:, None]
    platt = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000).fit(odds, labels)
    found = fit_vector_scaling(log_probs, labels).probs(log_probs)
    # Two scales on two log-probabilities can do a little more than a slope on their difference.
    assert mean_nll(np.log(found), labels) <= mean_nll(platt.predict_log_proba(odds), labels) + 1e-6
    assert np.abs(found[:, 1] - platt.predict_proba(odds)[:, 1]).max() < 0.05


def test_vector_scaling_finds_what_was_planted_and_matches_the_class_shares():
    log_probs, labels = sample(40_000, scale=(0.5, 1.0, 1.5), bias=(-1.0, 0.0, 1.0))
    found = fit_vector_scaling(log_probs, labels)
    assert found.scale == pytest.approx((0.5, 1.0, 1.5), abs=0.05)
    assert found.bias == pytest.approx((-1.0, 0.0, 1.0), abs=0.05)
    # The likelihood equation of the biases.
    assert found.probs(log_probs).mean(axis=0) == pytest.approx(np.bincount(labels) / len(labels), abs=1e-3)


def test_a_class_that_calib_lacks_keeps_a_probability_above_zero():
    log_probs, labels = sample(500)
    found = fit_vector_scaling(log_probs[labels < 2], labels[labels < 2])
    assert 0 < found.probs(log_probs)[:, 2].max() < 0.01
    assert np.isfinite(found.log_probs(np.array([[0.0, -np.inf, -np.inf]]))).all()


def test_a_temperature_keeps_the_classes_and_a_vector_moves_them():
    log_probs, _ = sample(300)
    plain = Scaling.of_temperature(2.5, num_classes=3).log_probs(log_probs)
    assert (plain.argmax(axis=1) == log_probs.argmax(axis=1)).all()
    assert plain == pytest.approx(log_softmax(log_probs / 2.5, axis=1))
    moved = Scaling((1.0, 1.0, 1.0), (0.0, 0.0, 2.0)).log_probs(log_probs)
    assert (moved.argmax(axis=1) == 2).mean() > (log_probs.argmax(axis=1) == 2).mean() + 0.2


@pytest.mark.parametrize(
    ("bias", "num_groups", "choice", "shipped"),
    [
        ((-1.0, 0.0, 1.0), 60, "auto", "vector"),
        ((0.0, 0.0, 0.0), 60, "auto", "temperature"),
        ((-1.0, 0.0, 1.0), MIN_GROUPS - 1, "auto", "temperature"),
        ((0.0, 0.0, 0.0), 60, "vector", "vector"),
        ((-1.0, 0.0, 1.0), 60, "temperature", "temperature"),
    ],
)
def test_vector_ships_where_it_gains_on_held_out_groups(bias, num_groups, choice, shipped):
    log_probs, labels = sample(600, scale=(0.5, 0.5, 0.5), bias=bias, seed=3)
    scaling, record = choose_scaling(log_probs, labels, np.arange(600) % num_groups, choice=choice, name="x")
    assert record["scaling"] == shipped
    assert (len(set(scaling.scale)) == 1 and set(scaling.bias) == {0.0}) == (shipped == "temperature")
    assert Scaling(tuple(record["scale"]), tuple(record["bias"])) == scaling
    assert (record["vector_gain"] is None) == (choice != "auto" or num_groups < MIN_GROUPS)


def test_a_vector_that_separates_the_rows_is_no_fit():
    """Few rows that a bias alone parts: every held-out row gains, and a new one on the wrong side would cost dearly."""
    odds, labels = np.r_[np.linspace(0.1, 1.9, 20), np.linspace(2.1, 4, 20)], np.repeat([0, 1], 20)
    log_probs = log_softmax(two_columns(odds), axis=1)
    options = {"groups": np.arange(40), "name": "few rows"}
    _, record = choose_scaling(log_probs, labels, choice="auto", **options)
    assert record["vector_gain"] > record["vector_gain_error"]
    assert record["scaling"] == "temperature"
    with pytest.warns(UserWarning, match="vector scaling of few rows separates the classes of its 40 rows"):
        assert choose_scaling(log_probs, labels, choice="vector", **options)[1]["scaling"] == "vector"


def test_another_number_of_classes_is_named():
    with pytest.raises(ValueError, match="scale has 2 and bias 2 values for 3 classes"):
        Scaling.of_temperature(1.0, num_classes=2).log_probs(np.zeros((4, 3)))


def test_the_standard_error_of_a_gain_grows_with_the_rows_of_a_group():
    log_probs, labels = sample(200, bias=(-0.4, 0.0, 0.4))
    single = held_out_gain(log_probs, labels, np.arange(200))
    repeated = held_out_gain(np.repeat(log_probs, 5, axis=0), np.repeat(labels, 5), np.repeat(np.arange(200), 5))
    assert repeated == pytest.approx(single, rel=0.35)


def test_an_interval_over_groups_holds_the_fit_and_widens_where_groups_agree_within():
    logits = np.random.default_rng(0).normal(0, 2, 900)
    labels = (np.random.default_rng(1).random(900) < 1 / (1 + np.exp(-logits / 1.5))).astype(int)
    fit, scores = fit_temperature(logits, labels), two_columns(logits)
    single = temperature_interval(scores, labels, np.arange(900))
    repeated = temperature_interval(np.tile(scores, (4, 1)), np.tile(labels, 4), np.tile(np.arange(900), 4))
    alone = temperature_interval(np.tile(scores, (4, 1)), np.tile(labels, 4), np.arange(3600))
    for found in (single, repeated, alone):
        assert found["temperature_low"] < fit.temperature < found["temperature_high"]
    width = [math.log(found["temperature_high"] / found["temperature_low"]) for found in (single, repeated, alone)]
    assert width[1] == pytest.approx(width[0], rel=0.25)
    assert width[2] == pytest.approx(width[0] / 2, rel=0.25)
