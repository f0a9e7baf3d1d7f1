"""Plots of the counts line: how counts are distributed, and what was predicted of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from assay.report.drawing import COLOURS, GUIDE, new_figure, save_png, styled


@styled
def save_distribution_png(
    path: Path, counts: Mapping[str, np.ndarray], edges: Mapping[str, Sequence[float]], *, title: str
) -> None:
    """Counts of each role as a share of it, log-spaced, with the edges of each kind of bins as ticks below."""
    figure = new_figure(7.5, 4.8, title=title)
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    largest = max(float(values.max()) for values in counts.values())
    bins = np.unique(np.round(np.geomspace(1, largest + 1, 36)))
    for (role, values), colour in zip(counts.items(), COLOURS, strict=False):
        weights = np.full(len(values), 1 / len(values))
        top.hist(values, bins=bins, weights=weights, histtype="step", color=colour, label=f"{role} (n = {len(values)})")
    for row, (kind, marks) in enumerate(edges.items()):
        below.plot(marks, np.full(len(marks), row), "|", markersize=14, color=COLOURS[row])
        below.text(0.01, row, kind, transform=below.get_yaxis_transform(), va="center", fontsize=8)
    top.set_ylabel("share of the rows")
    top.legend()
    below.set_ylim(-0.7, len(edges) - 0.3)
    below.set_yticks([])
    below.set_xscale("log")
    below.set_xlabel("count (log scale); ticks: edges of the bins")
    save_png(figure, path)


def _panels(figure: Figure, count: int, *, rows: int, columns: int, shared: bool) -> list[Axes]:
    """The first ``count`` axes of a grid, the scales ``shared`` or not; the others are hidden."""
    grid = figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared).ravel()
    for axes in grid[count:]:
        axes.set_visible(False)
    return list(grid[:count])


@styled
def save_predicted_png(path: Path, truth: np.ndarray, predictions: Mapping[str, np.ndarray], *, title: str) -> None:
    """Predicted against true count, one panel per system, both axes logarithmic, the diagonal for reference."""
    columns = min(4, len(predictions))
    rows = -(-len(predictions) // columns)
    figure = new_figure(2.9 * columns, 2.9 * rows + 0.5, title=title)
    panels = _panels(figure, len(predictions), rows=rows, columns=columns, shared=True)
    top = float(max(truth.max(), *(values.max() for values in predictions.values()))) * 1.1
    for axes, (name, values) in zip(panels, predictions.items(), strict=True):
        axes.plot([1, top], [1, top], color="#777777", linewidth=0.8)
        axes.plot(truth, values, ".", markersize=2.5, alpha=0.35, color=COLOURS[0])
        axes.set(xscale="log", yscale="log", xlim=(0.9, top), ylim=(0.9, top))
        axes.set_title(name, fontsize=9)
    figure.supxlabel("true count", fontsize=9)
    figure.supylabel("predicted count", fontsize=9)
    save_png(figure, path)


@styled
def save_confusions_png(
    path: Path, matrices: Mapping[str, np.ndarray], labels: Mapping[str, Sequence[str]], *, title: str
) -> None:
    """Confusion matrices side by side; each row is a share of the true class, the number in a cell its count."""
    columns = min(3, len(matrices))
    rows = -(-len(matrices) // columns)
    figure = new_figure(4.6 * columns, 4.4 * rows + 0.4, title=title)
    panels = _panels(figure, len(matrices), rows=rows, columns=columns, shared=False)
    for axes, (name, matrix) in zip(panels, matrices.items(), strict=True):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.grid(False)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (i, j), number in np.ndenumerate(matrix):
            axes.text(j, i, str(number), ha="center", va="center", fontsize=6, color="w" if shares[i, j] > 0.5 else "k")
        names = list(labels[name])
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=6)
        axes.set_yticks(range(len(names)), names, fontsize=6)
        axes.set_title(name, fontsize=9)
        axes.set(xlabel="predicted", ylabel="true")
    save_png(figure, path)


@styled
def save_curves_png(
    path: Path, histories: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, title: str
) -> None:
    """Training loss (each in units of its own loss) against the share of the training that has passed."""
    figure = new_figure(7, 4.2, title=title)
    axes = figure.subplots()
    for (name, (steps, losses)), colour in zip(histories.items(), COLOURS, strict=False):
        if len(steps):
            axes.plot(np.asarray(steps) / max(steps), np.asarray(losses) / losses[0], color=colour, label=name)
    axes.set(xlabel="share of the steps", ylabel="training loss over its first value")
    axes.legend(fontsize=8)
    save_png(figure, path)


@styled
def save_queue_png(
    path: Path,
    loads: Sequence[float],
    waits: Mapping[str, np.ndarray],
    tails: Mapping[str, Mapping[float, float]],
    *,
    title: str,
) -> None:
    """Mean wait against load as a share of that of ``first_come``, and the 99th percentile with ageing at some loads."""
    figure = new_figure(9.5, 4.2, title=title)
    left, right = figure.subplots(1, 2)
    first = waits["first_come"]
    colours = dict(zip(waits, COLOURS * 2, strict=False))
    for name, values in waits.items():
        left.plot(loads, values / first, color=colours[name], label=name)
    left.set(xlabel="load of the server", ylabel="mean wait over that of first come", ylim=(0, 1.05))
    left.legend(fontsize=8)
    for name, points in tails.items():
        right.plot(list(points), list(points.values()), "o-", markersize=4, color=colours[name], label=name)
    right.set(xlabel="load of the server", ylabel="99th percentile of the waits, with ageing", yscale="log")
    save_png(figure, path)


@styled
def save_coverage_png(path: Path, parts: Mapping[str, Mapping[str, float]], *, level: float, title: str) -> None:
    """Share of the counts that intervals hold in each part of the rows, with its interval, and what they were made for."""
    figure = new_figure(6.5, 0.45 * len(parts) + 1.6, title=title)
    axes = figure.subplots()
    names = [part.rpartition(".")[2].replace("_", " ") for part in parts]
    for row, report in enumerate(parts.values()):
        axes.plot([report["coverage_low"], report["coverage_high"]], [row, row], color=COLOURS[0])
        axes.plot(report["coverage"], row, "o", markersize=5, color=COLOURS[0])
    axes.axvline(level, color=GUIDE, linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="share of the counts within their intervals", ylim=(len(names) - 0.5, -0.5))
    save_png(figure, path)
