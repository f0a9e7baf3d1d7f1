"""Plots as PNG, drawn without pyplot (no global state, no display) and with deterministic bytes.

Every `save_*` writes one PNG at `path`, whole or not at all. Colours are Okabe and Ito's (2008), which stay apart
under the common colour-vision deficiencies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from assay.metrics.discrimination import check_labels, check_values
from assay.report.drawing import GUIDE, new_figure, save_png, styled

MAX_POINTS = 200  # of a curve


def _not_empty(size: int, *, name: str) -> None:
    if size == 0:
        raise ValueError(f"{name} is empty; pass at least one entry to draw")


def _need_columns(table: pd.DataFrame, columns: set[str], *, name: str) -> None:
    """ValueError if `table` is empty or lacks a column."""
    _not_empty(len(table), name=name)
    missing = sorted(columns - set(table.columns))
    if missing:
        raise ValueError(f"{name} lacks columns {missing}, it has {list(table.columns)}; add or rename them")


def roc_points(labels: npt.ArrayLike, probs: npt.ArrayLike) -> pd.DataFrame:
    """Corners of the ROC curve as columns fpr and tpr, both ascending from 0 to 1.

    At most `MAX_POINTS`, kept evenly along FPR + TPR, ends included. `labels` int [n], 1 = forged; `probs` float [n] may
    be any score that rises with the positive class. ValueError if an input is malformed or there is one class only.
    """
    from sklearn.metrics import roc_curve

    truth = check_labels(labels)
    scores = check_values(probs, name="probs", size=truth.size)
    if truth.min() == truth.max():
        raise ValueError(f"labels holds only class {truth[0]}; a ROC curve needs both")
    fpr, tpr, _ = roc_curve(truth, scores)
    if fpr.size > MAX_POINTS:
        along = fpr + tpr  # rises strictly, unlike fpr alone
        kept = np.unique(np.searchsorted(along, np.linspace(0.0, along[-1], MAX_POINTS)))
        fpr, tpr = fpr[kept], tpr[kept]
    return pd.DataFrame({"fpr": fpr, "tpr": tpr})


@styled
def save_roc_png(
    path: Path,
    curves: Mapping[str, pd.DataFrame],
    *,
    title: str,
    aucs: Mapping[str, tuple[float, float, float]],
) -> None:
    """ROC curves in one panel; the legend gives each AUC as (value, low, high) from `aucs`.

    Raises ValueError if there is no curve or a curve has no entry in `aucs`.
    """
    _not_empty(len(curves), name="curves")
    missing = sorted(set(curves) - set(aucs))
    if missing:
        raise ValueError(f"aucs lacks {missing}; give (auc, low, high) for every curve")
    figure = new_figure(5.4, 5.4, title=title)
    axes = figure.subplots()
    for name, curve in curves.items():
        auc, low, high = aucs[name]
        axes.plot(curve["fpr"], curve["tpr"], linewidth=1.8, label=f"{name}: {auc:.3f} [{low:.3f}, {high:.3f}]")
    axes.plot([0, 1], [0, 1], color=GUIDE, linestyle=":", label="chance")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    axes.legend(loc="lower right", title="AUC [95 % interval]", alignment="left")
    save_png(figure, path)


@styled
def save_reliability_png(path: Path, tables: Mapping[str, pd.DataFrame], *, title: str) -> None:
    """Reliability diagrams side by side, row counts underneath; tables come from `reliability_table`.

    Raises ValueError if there is none.
    """
    _not_empty(len(tables), name="tables")
    figure = new_figure(max(3.8 * len(tables), 4.6), 5.0, title=title)
    panels = figure.subplots(2, len(tables), sharex=True, sharey="row", height_ratios=[3.4, 1], squeeze=False)
    for column, (name, table) in enumerate(tables.items()):
        above, below = panels[:, column]
        above.plot([0, 1], [0, 1], color=GUIDE, linestyle=":")
        share = table["share_positive"]
        bars = np.stack([share - table["share_low"], table["share_high"] - share]).clip(min=0.0)
        above.errorbar(table["mean_prob"], share, yerr=bars, marker="o", markersize=4, linewidth=1.2, capsize=2)
        above.set(title=name, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        # A bin of one single value (all probs exactly 1) still needs a bar one can see.
        width = (table["bin_high"] - table["bin_low"]).clip(lower=0.008)
        below.bar(table["bin_low"], table["count"], width=width, align="edge", edgecolor="white", linewidth=0.5)
        below.set_xlabel("predicted probability")
    panels[0, 0].set_ylabel("share of positives (95 % limits)")
    panels[1, 0].set_ylabel("rows")
    save_png(figure, path)


@styled
def save_confusion_png(path: Path, matrix: npt.ArrayLike, *, class_names: Sequence[str], title: str) -> None:
    """Confusion matrix [k, k] of counts (rows = truth), each cell with its share of the row.

    Raises ValueError if the matrix is not square or `class_names` does not fit.
    """
    counts = np.asarray(matrix)
    size = len(class_names)
    if size == 0 or counts.shape != (size, size):
        raise ValueError(f"matrix has shape {counts.shape} but class_names has {size}; pass a name per row")
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = 2.6 + 0.85 * size
    figure = new_figure(side, side - 0.4, title=title)
    axes = figure.subplots()
    rows = zip(counts, shares, strict=True)
    texts = [[f"{n:,}\n{share:.1%}" for n, share in zip(*row, strict=True)] for row in rows]
    _draw_cells(axes, shares, texts, limits=(0.0, 1.0))
    axes.set_xticks(range(size), class_names)
    axes.set_yticks(range(size), class_names, rotation=90, va="center")
    axes.set(xlabel="decision", ylabel="truth")
    save_png(figure, path)


@styled
def save_training_png(path: Path, history: pd.DataFrame) -> None:
    """Loss and AUC per epoch; the epoch of the best validation AUC is marked in both panels.

    `history` has columns epoch, train_loss, val_loss, train_auc, val_auc; ValueError if it is empty or lacks one.
    """
    _need_columns(history, {"epoch", "train_loss", "val_loss", "train_auc", "val_auc"}, name="history")
    scores = history["val_auc"].to_numpy(dtype=np.float64)
    best = None if np.isnan(scores).all() else history["epoch"].iloc[int(np.nanargmax(scores))]
    figure = new_figure(8.0, 3.6, title="Training" if best is None else f"Training (best epoch: {best})")
    for axes, name, label in zip(figure.subplots(1, 2), ("loss", "auc"), ("loss", "AUC"), strict=True):
        for part, marker in (("train", "o"), ("val", "s")):
            axes.plot(history["epoch"], history[f"{part}_{name}"], marker=marker, markersize=4, label=part)
        if best is not None:
            axes.axvline(best, color=GUIDE, linestyle="--", linewidth=1, label="best epoch")
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    save_png(figure, path)


@styled
def save_contact_sheet(
    path: Path,
    rows: Sequence[Sequence[npt.NDArray[np.uint8]]],
    *,
    row_titles: Sequence[str],
    column_titles: Sequence[str] | None = None,
    title: str,
) -> None:
    """Images in a grid: one titled row per entry of `rows`, each a list of uint8 RGB arrays [h, w, 3].

    Raises ValueError if there is no image, a title is missing or an image is not uint8 RGB.
    """
    width = max((len(row) for row in rows), default=0)
    _not_empty(width, name="rows")
    if len(row_titles) != len(rows):
        raise ValueError(f"row_titles has {len(row_titles)} entries but rows has {len(rows)}; name every row")
    if column_titles is not None and len(column_titles) != width:
        raise ValueError(f"column_titles has {len(column_titles)} entries but the widest row has {width}")
    figure = new_figure(1.0 + 1.4 * width, 0.5 + 1.45 * len(rows), title=title)
    grid = figure.subplots(len(rows), width, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for row, images in enumerate(rows):
        grid[row, 0].set_ylabel(row_titles[row])
        for column, image in enumerate(images):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f"rows holds an image {image.dtype} {image.shape}; pass uint8 arrays [h, w, 3]")
            grid[row, column].imshow(image, interpolation="nearest")
    for axes, name in zip(grid[0], column_titles or (), strict=False):
        axes.set_title(name)
    save_png(figure, path)


@styled
def save_heatmap_grid_png(
    path: Path, table: pd.DataFrame, *, value: str, rows: str, columns: str, facet: str, title: str
) -> None:
    """One heat map per value of `facet`, side by side on one colour scale, each cell with its number.

    `value`, `rows`, `columns` and `facet` name columns of `table`, which has one row per cell; order is kept, and cells
    that are absent or NaN stay blank. ValueError if the table is empty, lacks a column or gives a cell twice.
    """
    _need_columns(table, {value, rows, columns, facet}, name="table")
    if table.duplicated([facet, rows, columns]).any():
        raise ValueError(f"table gives a cell of ({facet}, {rows}, {columns}) twice; average or drop first")
    facets, down, across = (list(table[name].unique()) for name in (facet, rows, columns))
    figure = new_figure(1.9 + len(facets) * (0.5 + 0.62 * len(across)), 1.6 + 0.42 * len(down), title=title)
    panels = figure.subplots(1, len(facets), sharey=True, squeeze=False)[0]
    limits = (float(table[value].min()), float(table[value].max()))
    for axes, name in zip(panels, facets, strict=True):
        part = table[table[facet] == name].pivot_table(index=rows, columns=columns, values=value)
        cells = part.reindex(index=down, columns=across).to_numpy(dtype=np.float64)
        texts = [["" if np.isnan(cell) else f"{cell:.2f}" for cell in line] for line in cells]
        mesh = _draw_cells(axes, cells, texts, limits=limits)
        axes.set(title=f"{facet} = {name}", xlabel=columns)
        axes.set_xticks(range(len(across)), [str(item) for item in across])
        axes.set_yticks(range(len(down)), [str(item) for item in down])
    panels[0].set_ylabel(rows)
    figure.colorbar(mesh, ax=panels, label=value, shrink=0.9)
    save_png(figure, path)


def _draw_cells(
    axes: Axes, cells: npt.NDArray[np.float64], texts: Sequence[Sequence[str]], *, limits: tuple[float, float]
) -> Any:
    """Draw [rows, columns] as coloured cells with a text each; returns the image for a colour bar."""
    low, high = limits
    image = axes.imshow(cells, cmap="Blues", vmin=low, vmax=high, aspect="auto")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            dark = cells[row, column] > low + 0.6 * (high - low)
            axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    return image
