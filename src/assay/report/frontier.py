"""Cost against error, as a plot."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pandas as pd

from assay.report.drawing import new_figure, save_png, styled


@styled
def save_frontier_png(path: Path, table: pd.DataFrame, *, title: str) -> None:
    """Frontier of a cascade: lines for the cascade and random deferral (with its 95 % band), a point per single system.

    ``table``: columns system, cost (MACs an image), balanced_error, low, high.
    """
    figure = new_figure(7, 4.6, title=title)
    axes = figure.subplots()
    line = table[table["system"] == "cascade"].sort_values("cost")
    axes.plot(line["cost"] / 1e6, line["balanced_error"], "o-", color="#0072b2", label="cascade, by budget")
    chance = table[table["system"] == "random deferral"].sort_values("cost")
    axes.plot(chance["cost"] / 1e6, chance["balanced_error"], "--", color="#777777", label="random deferral")
    axes.fill_between(chance["cost"] / 1e6, chance["low"], chance["high"], color="#777777", alpha=0.2, linewidth=0)
    markers = cycle("s^Dv*P")
    for name, row in table.groupby("system", sort=False):
        if name not in ("cascade", "random deferral"):
            axes.plot(row["cost"] / 1e6, row["balanced_error"], next(markers), markersize=8, label=str(name))
    # Without a point a logarithmic axis has nothing to stand on.
    if table["balanced_error"].notna().any():
        axes.set_xscale("log")
    axes.set_xlabel("cost (million multiply-accumulates a picture, log scale)")
    axes.set_ylabel("balanced error on test")
    axes.set_ylim(bottom=0)
    axes.grid(which="both")
    axes.legend(fontsize=8)
    save_png(figure, path)
