"""ECE against torchmetrics, its table and its noise floor."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from torchmetrics.functional.classification import binary_calibration_error

from assay.metrics.calibration_error import (
    NoiseFloor,
    ece_noise_floor,
    expected_calibration_error,
    reliability_table,
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


@pytest.mark.parametrize(("n", "floor"), [(200, 0.081), (1000, 0.038), (5000, 0.017)])
def test_noise_floor_has_the_published_size(n, floor):
    probs = np.random.default_rng(3).beta(0.8, 0.8, n)
    found = ece_noise_floor(probs, seed=0)
    assert found.mean == pytest.approx(floor, rel=0.08)
    assert found.p95 > found.mean


def test_noise_floor_is_the_ece_of_calibrated_draws(monkeypatch):
    probs = np.random.default_rng(4).random(300)
    rng = np.random.default_rng(5)
    draws = [ece(probs, (rng.random(300) < probs).astype(int)) for _ in range(600)]
    found = ece_noise_floor(probs, seed=0)
    assert found.mean == pytest.approx(np.mean(draws), abs=5 * np.std(draws) / np.sqrt(600))
    assert found.p95 == pytest.approx(np.quantile(draws, 0.95), rel=0.05)
    assert ece_noise_floor(probs, seed=0) == found
    assert ece_noise_floor(probs, seed=1) != found
    monkeypatch.setattr("assay.metrics.calibration_error.CHUNK_VALUES", 1000)
    assert ece_noise_floor(probs, seed=0).mean == pytest.approx(found.mean, abs=1e-12)


def test_certain_probs_leave_no_noise():
    assert ece_noise_floor([0.0, 1.0, 1.0], seed=0) == NoiseFloor(mean=0.0, p95=0.0)


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
        ece_noise_floor(probs, seed=0, **options)
