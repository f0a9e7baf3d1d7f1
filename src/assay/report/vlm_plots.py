"""Plots of the vlm line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from assay.data.decode import decode_rgb
from assay.report.drawing import COLOURS, new_figure, save_png, styled
from assay.report.plots import save_contact_sheet

MISTAKES_A_ROW = 6
MAX_PIXELS = 50_000_000
METRICS = {"accuracy": "accuracy", "high_recall": "recall of high risk", "high_precision": "precision of high risk"}


@styled
def save_losses_png(path: Path, histories: Sequence[pd.DataFrame], *, title: str) -> None:
    """Training loss over the epochs, a panel per table and a colour per network; columns network, epoch, loss."""
    shown = [history for history in histories if len(history)]
    figure = new_figure(3.4 * max(1, len(shown)), 3.4, title=title)
    for axes, history in zip(figure.subplots(1, max(1, len(shown)), squeeze=False)[0], shown, strict=False):
        for (name, rows), colour in zip(history.groupby("network", sort=False), COLOURS * 5, strict=False):
            axes.plot(rows["epoch"], rows["loss"], color=colour, linewidth=1, label=name)
        axes.set(xlabel="epoch", ylabel="loss", yscale="log")
        axes.legend(fontsize=7)
    save_png(figure, path)


@styled
def save_systems_png(path: Path, reports: Mapping[str, Mapping[str, float]], *, title: str) -> None:
    """Accuracy, recall and precision of high risk with their intervals, for each system."""
    figure = new_figure(9, 0.8 + 0.32 * len(reports), title=title)
    names = list(reports)[::-1]
    for axes, (metric, label) in zip(figure.subplots(1, len(METRICS), sharey=True), METRICS.items(), strict=True):
        for place, name in enumerate(names):
            report = reports[name]
            low, high = (report[f"{metric}_{end}"] for end in ("low", "high"))
            axes.plot([low, high], [place, place], color=COLOURS[0], linewidth=2)
            axes.plot(report[metric], place, "o", color=COLOURS[0])
        axes.set(xlabel=label, xlim=(-0.02, 1.02))
        axes.set_yticks(range(len(names)), names)
    save_png(figure, path)


@styled
def save_marks_png(path: Path, marks: pd.DataFrame, *, title: str) -> None:
    """Images with what a gate amplifies (red) and damps (blue) over them, a row per outcome.

    ``marks``: columns picture, outcome, rows, columns, and marks, -1..1, of the image's tokens row by row.
    """
    kinds = list(dict.fromkeys(marks["outcome"]))
    if not kinds:
        save_png(new_figure(4, 1, title=f"{title}: it has no gate"), path)
        return
    width = int(marks["outcome"].value_counts().max())
    figure = new_figure(1.6 * width, 1.4 * len(kinds) + 0.6, title=f"{title} (red) and damps (blue)")
    panels = figure.subplots(len(kinds), width, squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for line, (kind, rows) in zip(panels, marks.groupby("outcome", sort=False), strict=True):
        line[0].set_title(kind, fontsize=8, loc="left")
        for axes, row in zip(line, rows.to_dict("records"), strict=False):
            image = decode_rgb(row["picture"], max_pixels=MAX_PIXELS)
            axes.imshow(image)
            grid = np.reshape(row["marks"], (row["rows"], row["columns"]))
            extent = (0, image.shape[1], image.shape[0], 0)
            axes.imshow(grid, cmap="coolwarm", vmin=-1, vmax=1, alpha=0.45, extent=extent, interpolation="bilinear")
    save_png(figure, path)


@styled
def save_mistakes_png(path: Path, mistakes: pd.DataFrame, *, title: str) -> None:
    """The images of ``mistakes`` (columns picture, true, predicted), a row per kind of mistake, most frequent first."""
    kinds = mistakes.groupby(["true", "predicted"], sort=False).size().sort_values(ascending=False, kind="stable")
    rows, titles = [], []
    for true, predicted in kinds.index:
        found = mistakes[(mistakes["true"] == true) & (mistakes["predicted"] == predicted)].head(MISTAKES_A_ROW)
        rows.append([decode_rgb(image, max_pixels=MAX_PIXELS) for image in found["picture"]])
        titles.append(f"{true}\nas {predicted}")
    if rows:
        save_contact_sheet(path, rows, row_titles=titles, title=title)
    else:
        save_png(new_figure(4, 1, title=f"{title}: none"), path)
