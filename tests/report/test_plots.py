"""PNG writers: real images, the same bytes every time, nothing drawn from malformed input."""

from __future__ import annotations

import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import auc, roc_auc_score

from assay.metrics.calibration_error import reliability_table
from assay.report import plots

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
HEATMAP = {"value": "auc", "rows": "quality", "columns": "scale", "facet": "model", "title": "t"}

WRITERS = {
    "roc": lambda path: plots.save_roc_png(path, {"m": CURVE}, title="t", aucs={"m": (0.8, 0.7, 0.9)}),
    "reliability": lambda path: plots.save_reliability_png(
        path,
        {"before": reliability_table(PROBS**3, LABELS), "after": reliability_table(PROBS, LABELS)},
        title="t",
    ),
    "confusion": lambda path: plots.save_confusion_png(
        path, [[8, 2], [0, 0]], class_names=["real", "forged"], title="t"
    ),
    "training": lambda path: plots.save_training_png(path, HISTORY),
    "contact_sheet": lambda path: plots.save_contact_sheet(
        path, [[IMAGE, IMAGE], [IMAGE]], row_titles=["real", "forged"], column_titles=["x", "y"], title="t"
    ),
    "heatmap": lambda path: plots.save_heatmap_grid_png(path, GRID, **HEATMAP),
}


@pytest.mark.parametrize("name", WRITERS)
def test_writes_a_png_with_something_on_it(name, tmp_path):
    path = tmp_path / "figure.png"
    WRITERS[name](path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 150
        assert len(np.unique(np.asarray(image.convert("L")))) > 10
        assert "Software" not in image.info


@pytest.mark.parametrize("name", WRITERS)
def test_bytes_depend_on_nothing_but_the_data(name, tmp_path):
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    WRITERS[name](first)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red"}):  # a user's matplotlibrc
        WRITERS[name](second)
    assert first.read_bytes() == second.read_bytes()


def test_pictures_change_with_the_data(tmp_path):
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    plots.save_training_png(first, HISTORY)
    plots.save_training_png(second, HISTORY.assign(val_loss=0.5))
    assert first.read_bytes() != second.read_bytes()


@pytest.mark.parametrize("name", WRITERS)
def test_a_picture_is_written_whole_into_a_folder_that_is_made(name, tmp_path):
    WRITERS[name](tmp_path / "new" / "figure.png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["figure.png"]


def test_pyplot_stays_out():
    code = "import sys, assay.report.plots; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_style_is_put_back(tmp_path):
    before = dict(matplotlib.rcParams)
    WRITERS["roc"](tmp_path / "roc.png")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("max_points", [2, 20, 10_000])
def test_roc_points_keep_ends_and_order(max_points):
    points = plots.roc_points(LABELS, PROBS, max_points=max_points)
    assert len(points) <= max_points
    assert points.iloc[0].tolist() == [0.0, 0.0]
    assert points.iloc[-1].tolist() == [1.0, 1.0]
    assert (points.diff().dropna() >= 0).all(axis=None)


def test_roc_points_keep_the_area():
    exact = roc_auc_score(LABELS, PROBS)
    thick, thin = (plots.roc_points(LABELS, PROBS, max_points=size) for size in (10_000, 30))
    assert auc(thick["fpr"], thick["tpr"]) == pytest.approx(exact, abs=1e-12)
    assert auc(thin["fpr"], thin["tpr"]) == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda p: plots.save_roc_png(p, {}, title="t", aucs={}), "curves is empty"),
        (lambda p: plots.save_roc_png(p, {"m": CURVE}, title="t", aucs={}), r"aucs lacks \['m'\]"),
        (lambda p: plots.save_reliability_png(p, {}, title="t"), "tables is empty"),
        (lambda p: plots.save_confusion_png(p, np.eye(3), class_names=["a"], title="t"), "matrix has shape"),
        (lambda p: plots.save_training_png(p, HISTORY.iloc[:0]), "history is empty"),
        (
            lambda p: plots.save_training_png(p, HISTORY.drop(columns="val_auc")),
            r"lacks columns \['val_auc'\]",
        ),
        (lambda p: plots.save_contact_sheet(p, [[]], row_titles=["a"], title="t"), "rows is empty"),
        (lambda p: plots.save_contact_sheet(p, [[IMAGE]], row_titles=[], title="t"), "row_titles has 0"),
        (
            lambda p: plots.save_contact_sheet(p, [[IMAGE]], row_titles=["a"], column_titles=[], title="t"),
            "column_titles has 0",
        ),
        (lambda p: plots.save_contact_sheet(p, [[IMAGE / 255]], row_titles=["a"], title="t"), "float64"),
        (lambda p: plots.save_heatmap_grid_png(p, GRID.drop(columns="auc"), **HEATMAP), "lacks columns"),
        (lambda p: plots.save_heatmap_grid_png(p, pd.concat([GRID, GRID]), **HEATMAP), "twice"),
    ],
)
def test_malformed_input_is_named_and_nothing_written(draw, message, tmp_path):
    path = tmp_path / "figure.png"
    with pytest.raises(ValueError, match=message):
        draw(path)
    assert not path.exists()


def test_roc_points_need_both_classes_and_two_points():
    with pytest.raises(ValueError, match="only class 1"):
        plots.roc_points([1, 1], [0.2, 0.3])
    with pytest.raises(ValueError, match="max_points"):
        plots.roc_points([0, 1], [0.2, 0.3], max_points=1)
