"""Temperature scaling against scikit-learn, its invariants and its bounds."""

import warnings

import numpy as np
import pytest
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from assay.calibration.scaling import MAX_TEMPERATURE, MIN_TEMPERATURE
from assay.calibration.temperature import apply_temperature, fit_temperature
from assay.metrics.calibration_error import expected_calibration_error
from assay.metrics.discrimination import confusion_matrix, probability_metrics, ranking_metrics


def sample(n, *, sharpness, seed=0):
    """Logits `sharpness` times the true log-odds, hence with the true temperature `sharpness`."""
    rng = np.random.default_rng(seed)
    true_logits = rng.normal(0.0, 2.0, n)
    labels = (rng.random(n) < expit(true_logits)).astype(int)
    return sharpness * true_logits, labels


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_equals_sklearn(sharpness):
    logits, labels = sample(2000, sharpness=sharpness)
    # A regression whose decision value is its input; frozen, it is calibrated once on all rows.
    identity = LogisticRegression().fit(logits[:, None], labels)
    identity.coef_, identity.intercept_ = np.ones((1, 1)), np.zeros(1)
    model = CalibratedClassifierCV(FrozenEstimator(identity), method="temperature").fit(logits[:, None], labels)
    beta = model.calibrated_classifiers_[0].calibrators[0].beta_
    # scikit-learn stores the inverse, and widens a decision value z to the pair (-z, z), which differs by 2 z.
    assert fit_temperature(logits, labels).temperature == pytest.approx(1.0 / (2.0 * beta), rel=1e-6)


@pytest.mark.parametrize(("objective", "sharpness"), [("nll", 0.4), ("ece", 0.4), ("ece", 3.0)])
def test_recovers_the_true_temperature(objective, sharpness):
    logits, labels = sample(10_000, sharpness=sharpness)
    fit = fit_temperature(logits, labels, objective=objective)
    assert fit.temperature == pytest.approx(sharpness, rel=0.08)
    assert not fit.at_bound


def test_reports_the_nll_before_and_after():
    logits, labels = sample(3000, sharpness=3.0)
    fit = fit_temperature(logits, labels)

    def nll(temperature):
        return probability_metrics(labels, apply_temperature(logits, temperature))["nll"][0]

    assert (fit.nll_before, fit.nll_after) == pytest.approx((nll(1.0), nll(fit.temperature)), rel=1e-9)
    assert fit.nll_after < min(nll(1.0), nll(0.99 * fit.temperature), nll(1.01 * fit.temperature))


def test_ece_objective_beats_nll_on_ece():
    logits, labels = sample(800, sharpness=3.0, seed=2)

    def ece(temperature):
        return expected_calibration_error(apply_temperature(logits, temperature), labels, binning="mass")[0]

    by_ece = ece(fit_temperature(logits, labels, objective="ece").temperature)
    assert by_ece < ece(fit_temperature(logits, labels).temperature)
    assert by_ece <= min(ece(temperature) for temperature in np.geomspace(0.01, 100, 1001)) + 1e-6


def test_ece_objective_is_not_fooled_by_balanced_labels():
    # All probs at 0.5 have an equal-width ECE of 0 here: that minimum must not win.
    logits, labels = sample(4000, sharpness=2.0)
    logits, labels = np.r_[logits, -logits], np.r_[labels, 1 - labels]
    assert expected_calibration_error(apply_temperature(logits, 1e9), labels)[0] < 1e-6
    assert fit_temperature(logits, labels, objective="ece").temperature == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("scale", [0.2, 7.0])
def test_temperature_scales_with_the_logits(scale):
    logits, labels = sample(1500, sharpness=2.0)
    once = fit_temperature(logits, labels)
    scaled = fit_temperature(scale * logits, labels)
    assert scaled.temperature == pytest.approx(scale * once.temperature, rel=1e-6)
    assert scaled.nll_after == pytest.approx(once.nll_after, rel=1e-12)


def test_float32_logits_are_fitted_in_float64_without_a_warning():
    logits, labels = sample(1500, sharpness=3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single, double = fit_temperature(logits.astype(np.float32), labels), fit_temperature(logits, labels)
    assert single.temperature == pytest.approx(double.temperature, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 3.7])
def test_ranking_and_decisions_stay(temperature):
    logits, labels = sample(1000, sharpness=1.0)
    logits[:5] = 0.0  # exactly on the threshold
    before, after = apply_temperature(logits, 1.0), apply_temperature(logits, temperature)
    assert after == pytest.approx(expit(logits / temperature))
    assert ranking_metrics(labels, before)["auc"][0] == ranking_metrics(labels, after)["auc"][0]
    assert (confusion_matrix(labels, before) == confusion_matrix(labels, after)).all()


SEPARABLE = np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("logits", "labels", "objective", "bound", "message"),
    [
        (0.5 * SEPARABLE, SEPARABLE > 0, "nll", MIN_TEMPERATURE, "separate the classes"),
        (20 * SEPARABLE, SEPARABLE > 0, "nll", MIN_TEMPERATURE, "separate the classes"),
        (20 * SEPARABLE, SEPARABLE > 0, "ece", MIN_TEMPERATURE, "separate the classes"),
        ([-1.0, -2.0, 1.0, 2.0], [1, 1, 0, 0], "nll", MAX_TEMPERATURE, "no information"),
        ([0.0, 0.0], [0, 1], "nll", MAX_TEMPERATURE, "no information"),
    ],
)
def test_data_without_an_inner_optimum_reach_a_bound_and_warn(logits, labels, objective, bound, message):
    with pytest.warns(UserWarning, match=message):
        fit = fit_temperature(logits, labels, objective=objective)
    assert fit.temperature == pytest.approx(bound)
    assert fit.at_bound


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.inf, np.nan])
def test_a_temperature_must_be_positive_and_finite(temperature):
    with pytest.raises(ValueError, match="temperature must be positive"):
        apply_temperature([1.0], temperature)


@pytest.mark.parametrize(
    ("logits", "labels", "objective", "message"),
    [
        ([1.0, 2.0], [1, 1], "nll", "only class 1"),
        ([1.0], [0, 1], "nll", "logits has 1 values for 2 rows"),
        ([1.0, np.inf], [0, 1], "nll", "logits holds inf"),
        ([1.0, 2.0], [0, 1], "brier", "objective must be"),
    ],
)
def test_malformed_input_is_named(logits, labels, objective, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, labels, objective=objective)
