"""Cost against error, as a plot."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pandas as pd

from assay.report.drawing import GUIDE, new_figure, save_png, styled

# A panel each: the column, what its axis says, and what one unit of the axis holds.
PANELS = {
    "macs": ("all multiply-accumulates, million a picture", 1e6),
    "server_macs": ("the server's multiply-accumulates, million a picture", 1e6),
    "bytes": ("bytes sent a picture", 1.0),
}


@styled
def save_frontier_png(path: Path, table: pd.DataFrame, *, title: str) -> None:
    """Frontier of quality against cost, a panel for each way of counting, one legend for all.

    A point for each network, the line of single networks, a line by share deferred for each chosen cascade and for its
    rivals; the other cascades are grey.

    ``table``: columns system, kind (network, line, cascade, chosen, rival), one per panel, balanced_error.
    """
    figure = new_figure(14, 5.4, title=title)
    axes = figure.subplots(1, len(PANELS), sharey=True)
    for panel, (column, (label, unit)) in zip(axes, PANELS.items(), strict=True):
        others = "other cascades"
        for _, rows in table[table["kind"] == "cascade"].groupby("system", sort=False):
            points = rows.sort_values(column)
            panel.plot(
                points[column] / unit, points["balanced_error"], color=GUIDE, alpha=0.35, linewidth=0.8, label=others
            )
            others = ""
        for name, rows in table[table["kind"] == "line"].groupby("system", sort=False):
            panel.plot(rows[column] / unit, rows["balanced_error"], color="black", linewidth=1, label=str(name))
        lines, markers = cycle(("o-", "s--", "v:")), cycle("^DP*Xphd<>")
        for kind in ("chosen", "rival", "network"):
            for name, rows in table[table["kind"] == kind].groupby("system", sort=False):
                points = rows.sort_values(column)
                style, size = (next(markers), 9) if kind == "network" else (next(lines), 4)
                panel.plot(points[column] / unit, points["balanced_error"], style, markersize=size, label=str(name))
        panel.set_xlabel(label)
    axes[0].set_ylabel("balanced error on test")
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside right center", fontsize=8)
    save_png(figure, path)
