"""Platt scaling against unregularised logistic regression, and what it repairs that a temperature cannot."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from assay.calibration.platt import apply_platt, fit_platt
from assay.calibration.temperature import fit_temperature
from assay.metrics.discrimination import probability_metrics


def sample(n, *, slope, bias, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.5, 2.0, n)
    return logits, (rng.random(n) < expit(slope * logits + bias)).astype(int)


@pytest.mark.parametrize(("slope", "bias"), [(1.0, 0.0), (0.3, -1.5), (2.5, 2.0), (-0.7, 0.4)])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_equals_unregularised_logistic_regression(slope, bias, scale):
    logits, labels = sample(1500, slope=slope, bias=bias)
    fit = fit_platt(scale * logits, labels)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(logits[:, None], labels)
    assert fit.slope * scale == pytest.approx(oracle.coef_[0, 0], rel=1e-5)
    assert fit.bias == pytest.approx(oracle.intercept_[0], rel=1e-5, abs=1e-6)


def test_apply_and_nll_agree():
    logits, labels = sample(800, slope=0.5, bias=-1.0)
    fit = fit_platt(logits, labels)
    probs = apply_platt(logits, fit)
    assert probs == pytest.approx(expit(fit.slope * logits + fit.bias))
    assert probability_metrics(labels, probs)["nll"][0] == pytest.approx(fit.nll, rel=1e-9)
    # With plain targets maximum likelihood matches the base rate exactly; with smoothed ones it does not.
    assert probs.mean() == pytest.approx(labels.mean(), abs=1e-9)


def test_repairs_a_prior_shift_that_temperature_cannot():
    logits, labels = sample(5000, slope=1.0, bias=-2.0)
    platt, temperature = fit_platt(logits, labels), fit_temperature(logits, labels)
    assert platt.bias == pytest.approx(-2.0, abs=0.2)
    assert platt.nll < temperature.nll_after - 0.05


def test_separable_data_warn():
    with pytest.warns(UserWarning, match="separates the classes"):
        fit = fit_platt([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1])
    assert fit.slope > 1.0


def test_constant_logits_give_the_base_rate():
    fit = fit_platt([3.0] * 4, [0, 0, 0, 1])
    assert fit.slope == 0.0
    assert apply_platt([[3.0]], fit) == pytest.approx(np.array([[0.25]]))


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [([1.0, 2.0], [0, 0], "only class 0"), ([1.0, np.nan], [0, 1], "logits holds nan")],
)
def test_malformed_input_is_named(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_platt(logits, labels)
