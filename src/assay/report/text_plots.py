"""Plots of the text line."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from assay.report.drawing import COLOURS, GUIDE, new_figure, save_png, styled


@styled
def save_fine_tuning_png(path: Path, history: pd.DataFrame, *, title: str) -> None:
    """Loss of train and val, and accuracy on val, over the epochs; a colour per network.

    Columns network, epoch, loss, eval_loss, eval_accuracy; a row holds what was logged together.
    """
    figure = new_figure(9, 3.8, title=title)
    left, right = figure.subplots(1, 2)
    for (name, rows), colour in zip(history.groupby("network", sort=False), COLOURS * 5, strict=False):
        trained, judged = rows.dropna(subset="loss"), rows.dropna(subset="eval_loss")
        left.plot(trained["epoch"], trained["loss"], color=colour, linewidth=1, alpha=0.5)
        left.plot(judged["epoch"], judged["eval_loss"], color=colour, label=name)
        right.plot(judged["epoch"], judged["eval_accuracy"], color=colour, label=name)
    left.set(xlabel="epoch", ylabel="loss (train thin, val thick)")
    right.set(xlabel="epoch", ylabel="accuracy on val")
    right.legend(fontsize=8)
    save_png(figure, path)


@styled
def save_lengths_png(path: Path, table: pd.DataFrame, *, overall: float, title: str) -> None:
    """Accuracy with its interval in each range of lengths; columns characters, n, accuracy, accuracy_low, accuracy_high."""
    figure = new_figure(6.4, 3.8, title=title)
    axes = figure.subplots()
    places = range(len(table))
    errors = [table["accuracy"] - table["accuracy_low"], table["accuracy_high"] - table["accuracy"]]
    axes.errorbar(places, table["accuracy"], yerr=errors, fmt="o", capsize=4, color=COLOURS[0])
    axes.axhline(overall, color=GUIDE, linestyle="--", linewidth=1, label="all texts")
    names = [f"{row.characters}\nn = {row.n:.0f}" for row in table.itertuples()]
    axes.set_xticks(places, names)
    axes.set(xlabel="characters", ylabel="accuracy")
    axes.legend()
    save_png(figure, path)
