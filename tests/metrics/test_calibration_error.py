"""ECE against torchmetrics, its table, the smooth ECE against its authors' package, and the test over groups."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import norm
from torchmetrics.functional.classification import binary_calibration_error

from assay.metrics.calibration_error import (
    CalibrationTest,
    calibration_test,
    expected_calibration_error,
    reliability_table,
    smooth_calibration_error,
)


def torch_ece(probs, labels, num_bins):
    return binary_calibration_error(torch.tensor(probs), torch.tensor(labels), n_bins=num_bins, norm="l1").item()


def ece(probs, labels, **options):
    (error,) = expected_calibration_error(probs, labels, **options)
    return error


def sample(n, seed=0, sharpness=1.0):
    rng = np.random.default_rng(seed)
    probs = rng.random(n)
    labels = (rng.random(n) < probs).astype(int)
    return expit(sharpness * np.log(probs / (1 - probs))), labels


@pytest.mark.parametrize("num_bins", [1, 4, 15, 16])
@pytest.mark.parametrize("on_edges", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_equal_width_equals_torchmetrics(num_bins, on_edges, seed):
    probs, labels = sample(500, seed, sharpness=2.0)
    if on_edges and 16 % num_bins == 0:  # sixteenths are exact in binary, so every value lies on an edge
        probs = np.round(16 * probs) / 16
    assert ece(probs, labels, num_bins=num_bins) == pytest.approx(torch_ece(probs, labels, num_bins), abs=1e-12)


@pytest.mark.parametrize("binning", ["width", "mass"])
def test_weights_mean_repetition_within_the_bins_of_the_full_sample(binning):
    probs, labels = sample(90, sharpness=3.0)
    counts = np.random.default_rng(1).integers(0, 3, (4, 90))
    errors = expected_calibration_error(probs, labels, binning=binning, weights=counts)
    inner = np.linspace(0, 1, 16)[1:-1] if binning == "width" else np.quantile(probs, np.linspace(0, 1, 16)[1:-1])
    index = np.digitize(probs, inner)
    for row, count in enumerate(counts):
        gaps = [abs((count * (probs - labels))[index == b].sum()) for b in range(15)]
        assert errors[row] == pytest.approx(sum(gaps) / count.sum())
    assert ece(probs, labels, binning=binning, weights=np.ones((1, 90))) == ece(probs, labels, binning=binning)


@pytest.mark.parametrize("binning", ["width", "mass"])
def test_table_adds_up_to_the_ece(binning):
    probs, labels = sample(700, sharpness=2.0)
    probs[:40] = 1.0
    table = reliability_table(probs, labels, binning=binning)
    gaps = (table["share_positive"] - table["mean_prob"]).abs() * table["count"]
    assert gaps.sum() / 700 == pytest.approx(ece(probs, labels, binning=binning))
    assert table["count"].sum() == 700
    assert (table["count"] > 0).all()
    assert table["mean_prob"].between(table["bin_low"], table["bin_high"]).all()
    assert (table["share_low"] <= table["share_positive"]).all()
    assert (table["share_positive"] <= table["share_high"]).all()


def test_equal_mass_bins_hold_equal_mass():
    probs, labels = sample(1500)
    assert reliability_table(probs, labels, binning="mass")["count"].tolist() == [100] * 15


def test_equal_mass_survives_constant_and_tied_probs():
    assert ece([0.3] * 10, [1] + [0] * 9, binning="mass") == pytest.approx(0.2)
    probs = np.r_[np.zeros(50), 0.25, 0.5, np.ones(50)]
    table = reliability_table(probs, probs > 0.3, binning="mass")
    assert table["count"].sum() == 102
    assert (table["count"] > 0).all()


@pytest.mark.parametrize(
    ("seed", "n", "sharpness", "value"),
    [(0, 200, 1, 0.0482), (1, 1000, 1, 0.0349), (2, 1000, 2, 0.1002), (3, 3000, 0.5, 0.0816)],
)
def test_smooth_ece_equals_its_authors(seed, n, sharpness, value):
    """Values of relplot 1.0.3 without scaling by the logit, whose search ends within 0.001."""
    rng = np.random.default_rng(seed)
    probs = rng.random(n)
    labels = (rng.random(n) < probs).astype(int)
    probs = expit(sharpness * np.log(probs / (1 - probs)))
    assert smooth_calibration_error(probs, labels)[0] == pytest.approx(value, abs=0.0012)


@pytest.mark.parametrize("prob", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("positive", [0, 10, 40])
def test_smooth_ece_of_one_probability_is_its_distance_from_the_share(prob, positive):
    labels = np.arange(40) < positive
    assert smooth_calibration_error(np.full(40, prob), labels)[0] == pytest.approx(abs(prob - positive / 40), abs=1e-5)


def test_smooth_ece_hardly_notices_what_moves_a_row_over_a_bins_edge():
    """Two values beside an edge: in one bin their errors cancel, in two they add up."""
    labels = np.tile([0, 1, 1, 1, 0, 0, 0, 1], 50)
    apart, together = (np.tile(np.repeat([1 / 3 - gap, 1 / 3 + 1e-4], 4), 50) for gap in (1e-4, -1e-5))
    binned = [ece(probs, labels, num_bins=3) for probs in (apart, together)]
    smooth = [smooth_calibration_error(probs, labels)[0] for probs in (apart, together)]
    assert abs(binned[0] - binned[1]) > 0.05
    assert smooth[0] == pytest.approx(smooth[1], abs=0.002)


def test_smooth_ece_takes_weights_as_repetition():
    probs, labels = sample(120, sharpness=3.0)
    counts = np.random.default_rng(1).integers(0, 3, (5, 120))
    found = smooth_calibration_error(probs, labels, weights=counts)
    again = [smooth_calibration_error(np.repeat(probs, row), np.repeat(labels, row))[0] for row in counts]
    assert found == pytest.approx(again, abs=1e-6)


def scenes(rng, *, num_groups, rows, correlation):
    """Probabilities that are right over all groups, labels whose rows go together within one, and the groups."""
    groups = np.repeat(np.arange(num_groups), rows)
    values = 1.2 * rng.standard_normal(groups.size) + 0.8 * rng.standard_normal(num_groups)[groups]
    shared, own = rng.standard_normal(num_groups)[groups], rng.standard_normal(groups.size)
    labels = values + np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own > 0
    return norm.cdf(values), labels.astype(int), groups


@pytest.mark.parametrize(("num_groups", "correlation"), [(9, 0.0), (9, 0.3), (30, 0.3)])
def test_a_calibrated_predictor_is_rejected_no_more_often_than_promised(num_groups, correlation):
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(200):
        probs, labels, groups = scenes(rng, num_groups=num_groups, rows=20, correlation=correlation)
        rejected += calibration_test(probs, labels, groups, binning="mass", seed=0).p_value <= 0.05
    # At 5 %, 99.5 % of such counts are at most 19.
    assert rejected <= 19


@pytest.mark.parametrize("num_groups", [9, 40])
def test_an_overconfident_predictor_is_rejected(num_groups):
    rng, found = np.random.default_rng(0), []
    for _ in range(20):
        probs, labels, groups = scenes(rng, num_groups=num_groups, rows=60, correlation=0.1)
        found.append(calibration_test(norm.cdf(2.5 * norm.ppf(probs)), labels, groups, seed=0).p_value)
    assert np.mean(np.array(found) <= 0.05) > 0.7


def test_every_sign_pattern_of_a_small_table():
    """Three groups in one bin with sums of 0.6, 0.6 and -0.3: |sum| is 0.9, 1.5, 0.3 and 0.3 for the four patterns."""
    probs, labels, groups = [0.4, 0.4, 0.3], [1, 1, 0], ["a", "b", "c"]
    found = calibration_test(probs, labels, groups, num_bins=1, binning="mass", seed=0)
    assert found.p_value == 0.5
    assert found.chance == pytest.approx((0.9 + 1.5 + 0.3 + 0.3) / 4 / 3)


def test_more_patterns_than_are_drawn_do_not_change_the_answer_much(monkeypatch):
    probs, labels, groups = scenes(np.random.default_rng(3), num_groups=12, rows=30, correlation=0.2)
    exact = calibration_test(probs, labels, groups, seed=0)
    monkeypatch.setattr("assay.metrics.calibration_error.EXACT_GROUPS", 3)
    drawn = calibration_test(probs, labels, groups, seed=0)
    assert drawn.p_value == pytest.approx(exact.p_value, abs=0.05)
    assert drawn.chance == pytest.approx(exact.chance, rel=0.03)
    monkeypatch.setattr("assay.metrics.calibration_error.CHUNK_VALUES", 1000)
    assert calibration_test(probs, labels, groups, seed=0) == drawn


@pytest.mark.parametrize(("n", "chance"), [(200, 0.081), (1000, 0.038), (5000, 0.017)])
def test_with_single_rows_as_groups_chance_is_that_of_independent_labels(n, chance):
    probs = np.random.default_rng(3).beta(0.8, 0.8, n)
    labels = np.random.default_rng(4).random(n) < probs
    assert calibration_test(probs, labels, np.arange(n), seed=0).chance == pytest.approx(chance, rel=0.1)


def test_certain_probs_leave_nothing_to_chance():
    assert calibration_test([0.0, 1.0, 1.0], [0, 1, 1], [0, 1, 2], seed=0) == CalibrationTest(1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("probs", "options", "message"),
    [
        ([0.2, 0.4], {"num_bins": 0}, "num_bins"),
        ([0.2, 0.4], {"binning": "size"}, "binning must be"),
        ([-2.0, 3.0], {}, "probs must lie in"),
    ],
)
def test_bad_input_is_named(probs, options, message):
    for call in (expected_calibration_error, reliability_table):
        with pytest.raises(ValueError, match=message):
            call(probs, [0, 1], **options)
    with pytest.raises(ValueError, match=message):
        calibration_test(probs, [0, 1], [0, 1], seed=0, **options)
