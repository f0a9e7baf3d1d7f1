"""Regression and ordinal metrics against scikit-learn and scipy, with ties and multiplicities."""

import warnings
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr
from sklearn import metrics as sk

from assay.metrics.binary import summarise
from assay.metrics.ordinal import class_confusion, ordinal_metrics, regression_metrics

REGRESSION = ["mse", "rmse", "mae", "r2", "spearman", "kendall"]
ORDINAL = ["accuracy", "macro_f1", "quadratic_kappa", "within_one"]


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def draw_counts(draw, n):
    """A generator and three rows of multiplicities that keep the first two samples."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = rng.integers(0, 4, (3, n))
    counts[:, :2] += 1
    return rng, counts


@st.composite
def regression_samples(draw):
    """Targets and predictions on coarse to fine grids, constant in no resample."""
    n = draw(st.integers(2, 40))
    rng, counts = draw_counts(draw, n)
    steps = draw(st.sampled_from([2, 6, 1000]))
    targets = np.r_[0, 1, rng.integers(0, steps, n - 2)] / 8
    predictions = np.r_[rng.permutation(2), rng.integers(0, steps, n - 2)] / 8
    return targets, predictions, counts


@st.composite
def ordinal_samples(draw):
    """Classes of which some may occur in one array only or nowhere, with two different labels in each resample."""
    n = draw(st.integers(2, 40))
    rng, counts = draw_counts(draw, n)
    num_classes = draw(st.integers(2, 7))
    labels = np.r_[0, 1, rng.integers(0, draw(st.integers(1, num_classes)), n - 2)]
    return labels, rng.integers(0, num_classes, n), num_classes, counts


def regression_oracle(targets, predictions):
    return {
        "mse": sk.mean_squared_error(targets, predictions),
        "rmse": sk.root_mean_squared_error(targets, predictions),
        "mae": sk.mean_absolute_error(targets, predictions),
        "r2": sk.r2_score(targets, predictions),
        "spearman": spearmanr(targets, predictions).statistic,
        "kendall": kendalltau(targets, predictions).statistic,
    }


def ordinal_oracle(labels, predictions, num_classes):
    return {
        "accuracy": sk.accuracy_score(labels, predictions),
        "macro_f1": sk.f1_score(labels, predictions, average="macro", zero_division=0),
        "quadratic_kappa": sk.cohen_kappa_score(labels, predictions, weights="quadratic", labels=range(num_classes)),
        "within_one": np.mean(np.abs(labels - predictions) <= 1),
    }


def assert_equal(ours, row, theirs):
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert ours[name][row] == pytest.approx(value, rel=1e-9, abs=1e-12), name


@settings(max_examples=60, deadline=None)
@given(regression_samples())
def test_regression_metrics_equal_sklearn_and_scipy_on_repeated_rows(sample):
    targets, predictions, counts = sample
    ours = regression_metrics(targets, predictions, weights=counts)
    for row, count in enumerate(counts):
        assert_equal(ours, row, regression_oracle(np.repeat(targets, count), np.repeat(predictions, count)))


@settings(max_examples=60, deadline=None)
@given(ordinal_samples())
def test_ordinal_metrics_equal_sklearn_on_repeated_rows(sample):
    labels, predictions, num_classes, counts = sample
    ours = ordinal_metrics(labels, predictions, num_classes=num_classes, weights=counts)
    for row, count in enumerate(counts):
        theirs = ordinal_oracle(np.repeat(labels, count), np.repeat(predictions, count), num_classes)
        # Over the classes of the whole sample, whatever the resample holds.
        classes = np.unique(np.r_[labels, predictions])
        options = {"labels": classes, "average": "macro", "zero_division": 0}
        theirs["macro_f1"] = sk.f1_score(np.repeat(labels, count), np.repeat(predictions, count), **options)
        assert_equal(ours, row, theirs)


def test_large_unweighted_samples_equal_the_oracles():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=2000)
    predictions = np.round(targets + rng.normal(size=2000), 1)
    labels = rng.integers(0, 5, 2000)
    called = np.clip(labels + rng.integers(-2, 3, 2000), 0, 4)
    for ours, theirs in (
        (regression_metrics(targets, predictions), regression_oracle(targets, predictions)),
        (ordinal_metrics(labels, called, num_classes=5), ordinal_oracle(labels, called, 5)),
    ):
        assert all(value.shape == (1,) and value.dtype == np.float64 for value in ours.values())
        assert_equal(ours, 0, theirs)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_constant_targets_or_predictions_leave_only_the_errors_defined(size):
    constant, varied = np.full(size, 0.1), np.linspace(0.3, 0.5, size)
    for targets, predictions, undefined in (
        (constant, varied, {"r2", "spearman", "kendall"}),
        (np.r_[0.2, varied], np.full(size + 1, 0.1), {"spearman", "kendall"}),
    ):
        values = regression_metrics(targets, predictions)
        assert {name for name, value in values.items() if np.isnan(value[0])} == undefined


def test_a_constant_resample_is_nan_and_leaves_the_others():
    weights = np.array([[3, 0, 0], [0, 2, 2], [1, 1, 1]])
    values = regression_metrics([0.1, 0.7, 0.9], [0.2, 0.5, 0.4], weights=weights)
    for name in ("r2", "spearman", "kendall"):
        assert np.isnan(values[name]).tolist() == [True, False, False], name
    assert values["mae"] == pytest.approx([0.1, 0.35, 0.8 / 3])


def test_one_class_everywhere_leaves_only_kappa_undefined():
    values = ordinal_metrics([2, 2], [2, 2], num_classes=3)
    assert [values[name][0] for name in ("accuracy", "macro_f1", "within_one")] == [1.0, 1.0, 1.0]
    assert np.isnan(values["quadratic_kappa"][0])


def test_class_confusion_has_truth_in_rows_and_keeps_empty_classes():
    labels, predictions = np.array([0, 0, 2, 2, 2]), np.array([0, 1, 2, 0, 0])
    matrix = class_confusion(labels, predictions, num_classes=4)
    assert np.issubdtype(matrix.dtype, np.integer)
    assert (matrix == sk.confusion_matrix(labels, predictions, labels=range(4))).all()


@pytest.mark.parametrize(
    ("metrics", "names"), [(regression_metrics, REGRESSION), (partial(ordinal_metrics, num_classes=5), ORDINAL)]
)
def test_summarise_gives_every_metric_an_interval(metrics, names):
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 5, 150)
    predictions = np.clip(labels + rng.integers(-2, 3, 150), 0, 4)
    summary = summarise(labels, predictions, np.arange(150) // 2, metrics=metrics)
    assert list(summary) == ["n", "n_groups", *(f"{name}{end}" for name in names for end in ("", "_low", "_high"))]
    for name in names:
        assert summary[f"{name}_low"] < summary[name] < summary[f"{name}_high"], name


@pytest.mark.parametrize(
    ("targets", "predictions", "weights", "message"),
    [
        ([0.0, 1.0], [0.1], None, "predictions has 1 values for 2 rows"),
        ([], [], None, "targets must be 1-D and non-empty"),
        ([0.0, np.nan], [0.1, 0.2], None, "targets holds nan"),
        ([0.0, 1.0], [0.1, np.inf], None, "predictions holds inf"),
        ([0.0, 1.0], [0.1, 0.2], [[2.0, -1.0]], "non-negative"),
        ([0.0, 1.0], [0.1, 0.2], [[2.0, 0.5]], "weights must be whole numbers, got 0.5"),
    ],
)
def test_malformed_regression_input_is_named(targets, predictions, weights, message):
    with pytest.raises(ValueError, match=message):
        regression_metrics(targets, predictions, weights=weights)


@pytest.mark.parametrize("function", [ordinal_metrics, class_confusion])
@pytest.mark.parametrize(
    ("labels", "predictions", "num_classes", "message"),
    [
        ([0, 1], [0], 2, "predictions has 1 values for 2 rows"),
        ([], [], 2, "labels must be 1-D and non-empty"),
        ([0, 2], [0, 1], 2, r"labels must lie in 0 .. 1, got 2"),
        ([0, 1], [0, -1], 2, r"predictions must lie in 0 .. 1, got -1"),
        ([0, 0], [0, 0], 1, "num_classes must be at least 2, got 1"),
        ([0.0, 1.0], [0, 1], 2, "labels must be integers, got dtype float64"),
        ([0, 1], [0.2, 0.9], 2, "predictions must be integers"),
    ],
)
def test_malformed_classes_are_named(function, labels, predictions, num_classes, message):
    with pytest.raises(ValueError, match=message):
        function(labels, predictions, num_classes=num_classes)
