"""How every plot looks and is written: one style, no pyplot, and bytes that depend on nothing but the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.style
from cycler import cycler
from matplotlib.figure import Figure

from assay.core.io import atomic_path

DPI = 120
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GUIDE = "#8A8A8A"

# On top of matplotlib's own defaults, so that no user's matplotlibrc changes a figure.
_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.titlesize": 12,
    "font.size": 9,
    "grid.alpha": 0.6,
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
}
styled = matplotlib.style.context(["default", _STYLE])


def new_figure(width: float, height: float, *, title: str) -> Figure:
    """An empty figure of `width` x `height` inches with a title."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    figure.suptitle(title, wrap=True)
    return figure


def save_png(figure: Figure, path: Path) -> None:
    """Write the PNG whole or not at all, without the software tag, whose version number would change the bytes."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
