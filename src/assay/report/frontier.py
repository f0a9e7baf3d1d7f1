"""Cost against error, as a plot."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pandas as pd

from assay.report.drawing import new_figure, save_png, styled


@styled
def save_frontier_png(path: Path, table: pd.DataFrame, *, title: str) -> None:
    """Frontier of a cascade: a line for each system that has several budgets, a point for each that has none.

    ``table``: columns system, budget, cost (MACs an image), balanced_error.
    """
    figure = new_figure(7, 4.6, title=title)
    axes = figure.subplots()
    lines, markers = cycle(("o-", "s-", "--", ":")), cycle("^Dv*P")
    for name, rows in table.groupby("system", sort=False):
        routed = rows["budget"].notna().all()
        points = rows.sort_values("cost")
        style = next(lines) if routed else next(markers)
        label = f"{name}, by budget" if routed else str(name)
        axes.plot(points["cost"] / 1e6, points["balanced_error"], style, markersize=5 if routed else 8, label=label)
    # Without a point a logarithmic axis has nothing to stand on.
    if table["balanced_error"].notna().any():
        axes.set_xscale("log")
    axes.set_xlabel("cost (million multiply-accumulates a picture, log scale)")
    axes.set_ylabel("balanced error on test")
    axes.grid(which="both")
    axes.legend(fontsize=8)
    save_png(figure, path)
