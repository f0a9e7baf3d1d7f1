"""PNG writers: real images, the same bytes every time, nothing drawn from malformed input."""

from functools import partial

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import auc, roc_auc_score, roc_curve

from assay.metrics.calibration_error import reliability_table
from assay.report import counts_plots, plots, text_plots, vlm_plots
from assay.report.frontier import save_frontier_png

RNG = np.random.default_rng(0)
PROBS = RNG.random(400)
LABELS = (RNG.random(400) < PROBS).astype(int)
CURVE = pd.DataFrame({"fpr": [0.0, 0.2, 1.0], "tpr": [0.0, 0.7, 1.0]})
IMAGE = RNG.integers(0, 256, (16, 12, 3), dtype=np.uint8)
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "train_loss": [0.7, 0.5, 0.4],
        "val_loss": [0.7, 0.6, 0.65],
        "train_auc": [0.6, 0.8, 0.9],
        "val_auc": [np.nan, 0.75, 0.7],
    }
)
GRID = pd.DataFrame(
    {
        "model": ["a", "a", "b", "b"],
        "quality": [90, 50, 90, 50],
        "scale": [1.0, 1.0, 1.0, 0.5],
        "auc": [0.9, 0.8, np.nan, 0.6],
    }
)
HEATMAP = {"value": "auc", "rows": "quality", "columns": "scale", "facet": "model"}
COUNTS = RNG.integers(1, 90, 200)
MATRIX = RNG.integers(0, 30, (4, 4))
FINE_TUNING = pd.DataFrame(
    {
        "network": ["a", "a", "b", "b"],
        "epoch": [0.5, 1.0, 0.5, 1.0],
        "loss": [0.9, np.nan, 0.8, np.nan],
        "eval_loss": [np.nan, 0.7, np.nan, 0.6],
        "eval_accuracy": [np.nan, 0.6, np.nan, 0.7],
    }
)
LENGTHS = pd.DataFrame(
    {"characters": ["1-9", "10-"], "n": [9, 7], "accuracy": [0.5, 0.7], "accuracy_low": 0.4, "accuracy_high": 0.9}
)
SYSTEM = {
    f"{name}{end}": value
    for name in ("accuracy", "high_recall", "high_precision")
    for end, value in (("", 0.5), ("_low", 0.4), ("_high", 0.6))
}


def frontier_table(num_points):
    rows = []
    for number in range(4):
        cost, error = 1e6 * (number + 1), 0.3 / (number + 1)
        kinds = {"a > b": "chosen", "a > b, random deferral": "rival", "a > c": "cascade", "line": "line"}
        rows += [(name, kind, cost, 0.9 * cost, 1000 * number, error) for name, kind in kinds.items()]
    rows += [(f"network {n}", "network", 1e6 * (n + 1), 1e6 * n, 1000, 0.2) for n in range(num_points)]
    return pd.DataFrame(rows, columns=["system", "kind", "macs", "server_macs", "bytes", "balanced_error"])


def save_mistakes(path, *, count):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = path.parent.parent / "image.png"
    Image.fromarray(IMAGE).save(image)
    mistakes = pd.DataFrame({"picture": [image] * count, "true": "low", "predicted": "high"})
    vlm_plots.save_mistakes_png(path, mistakes, title="t")


# What has a `title` gets one, below.
WRITERS = {
    "roc": partial(plots.save_roc_png, curves={"m": CURVE}, aucs={"m": (0.8, 0.7, 0.9)}),
    "reliability": partial(
        plots.save_reliability_png,
        tables={"before": reliability_table(PROBS**3, LABELS), "after": reliability_table(PROBS, LABELS)},
    ),
    "confusion": partial(plots.save_confusion_png, matrix=[[8, 2], [0, 0]], class_names=["real", "forged"]),
    "contact_sheet": partial(
        plots.save_contact_sheet,
        rows=[[IMAGE, IMAGE], [IMAGE]],
        row_titles=["real", "forged"],
        column_titles=["x", "y"],
    ),
    "heatmap": partial(plots.save_heatmap_grid_png, table=GRID, **HEATMAP),
    "distribution": partial(
        counts_plots.save_distribution_png,
        counts={"train": COUNTS, "test": COUNTS[:50]},
        edges={"quantile": [1, 20, 90]},
    ),
    "predicted": partial(
        counts_plots.save_predicted_png, truth=COUNTS, predictions={f"m{n}": COUNTS + n for n in range(5)}
    ),
    "confusions": partial(
        counts_plots.save_confusions_png, matrices={"a": MATRIX, "b": MATRIX}, labels={"a": "wxyz", "b": "wxyz"}
    ),
    "queue": partial(
        counts_plots.save_queue_png,
        loads=[0.5, 0.9],
        waits={"ours": np.array([1.0, 2.0]), "first_come": np.array([2.0, 9.0])},
        tails={"ours": {0.9: 40.0}, "first_come": {0.9: 30.0}},
    ),
    "coverage": partial(
        counts_plots.save_coverage_png,
        parts={f"intervals.{name}": {"coverage": 0.9, "coverage_low": 0.8, "coverage_high": 0.95} for name in "ab"},
        level=0.9,
    ),
    "curves": partial(counts_plots.save_curves_png, histories={"a": ([1, 2, 3], [2.0, 1.5, 1.0]), "b": ([], [])}),
    "fine_tuning": partial(text_plots.save_fine_tuning_png, history=FINE_TUNING),
    "lengths": partial(text_plots.save_lengths_png, table=LENGTHS, overall=0.6),
    "losses": partial(vlm_plots.save_losses_png, histories=[FINE_TUNING.dropna(subset="loss"), FINE_TUNING.iloc[:0]]),
    "systems": partial(vlm_plots.save_systems_png, reports={"base": SYSTEM, "fused": SYSTEM}),
    "frontier": partial(save_frontier_png, table=frontier_table(9)),
    "frontier_alone": partial(save_frontier_png, table=frontier_table(0)),
}
WRITERS = {name: partial(write, title="t") for name, write in WRITERS.items()} | {
    "training": partial(plots.save_training_png, history=HISTORY),
    "mistakes": partial(save_mistakes, count=8),
    "no_mistakes": partial(save_mistakes, count=0),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_png_is_written_whole_with_bytes_that_depend_on_the_data_alone(name, tmp_path):
    first, second = tmp_path / "one" / "plot.png", tmp_path / "two" / "plot.png"
    before = dict(matplotlib.rcParams)
    WRITERS[name](first)
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red"}):  # a user's matplotlibrc
        WRITERS[name](second)
    assert first.read_bytes() == second.read_bytes()
    assert list(first.parent.iterdir()) == [first]
    with Image.open(first) as image:
        assert image.format == "PNG"
        assert min(image.size) >= 120
        assert len(np.unique(np.asarray(image.convert("L")))) > 10
        assert "Software" not in image.info


def test_roc_points_keep_ends_order_and_area():
    probs = np.random.default_rng(1).random(4000)
    labels = np.random.default_rng(2).random(4000) < probs
    points = plots.roc_points(labels, probs)
    assert len(points) <= plots.MAX_POINTS < len(roc_curve(labels, probs)[0])
    assert points.iloc[[0, -1]].to_numpy().tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert (points.diff().dropna() >= 0).all(axis=None)
    assert auc(points["fpr"], points["tpr"]) == pytest.approx(roc_auc_score(labels, probs), abs=0.001)
    few = plots.roc_points(LABELS[:50], PROBS[:50])
    assert auc(few["fpr"], few["tpr"]) == pytest.approx(roc_auc_score(LABELS[:50], PROBS[:50]), abs=1e-12)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda p: plots.save_roc_png(p, {}, title="t", aucs={}), "curves is empty"),
        (lambda p: plots.save_roc_png(p, {"m": CURVE}, title="t", aucs={}), r"aucs lacks \['m'\]"),
        (lambda p: plots.save_reliability_png(p, {}, title="t"), "tables is empty"),
        (lambda p: plots.save_confusion_png(p, np.eye(3), class_names=["a"], title="t"), "matrix has shape"),
        (lambda p: plots.save_training_png(p, HISTORY.iloc[:0]), "history is empty"),
        (lambda p: plots.save_training_png(p, HISTORY.drop(columns="val_auc")), r"lacks columns \['val_auc'\]"),
        (lambda p: plots.save_contact_sheet(p, [[]], row_titles=["a"], title="t"), "rows is empty"),
        (lambda p: plots.save_contact_sheet(p, [[IMAGE]], row_titles=[], title="t"), "row_titles has 0"),
        (
            lambda p: plots.save_contact_sheet(p, [[IMAGE]], row_titles=["a"], column_titles=[], title="t"),
            "column_titles has 0",
        ),
        (lambda p: plots.save_contact_sheet(p, [[IMAGE / 255]], row_titles=["a"], title="t"), "float64"),
        (lambda p: plots.save_heatmap_grid_png(p, GRID.drop(columns="auc"), title="t", **HEATMAP), "lacks columns"),
        (lambda p: plots.save_heatmap_grid_png(p, pd.concat([GRID, GRID]), title="t", **HEATMAP), "twice"),
        (lambda p: plots.roc_points([1, 1], [0.2, 0.3]), "only class 1"),
    ],
)
def test_malformed_input_is_named_and_nothing_written(draw, message, tmp_path):
    path = tmp_path / "figure.png"
    with pytest.raises(ValueError, match=message):
        draw(path)
    assert not path.exists()
