"""The frontier as a picture: readable, repeatable, with any number of single systems."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from assay.report.frontier import save_frontier_png


def frontier_table(num_points: int) -> pd.DataFrame:
    rows = []
    for number in range(4):
        cost, error = 1e6 * (number + 1), 0.3 / (number + 1)
        rows.append(("cascade", cost, error, np.nan, np.nan))
        rows.append(("random deferral", cost, error + 0.05, error, error + 0.1))
    rows += [(f"network {number}", 1e6 * (number + 1), 0.2, np.nan, np.nan) for number in range(num_points)]
    return pd.DataFrame(rows, columns=["system", "cost", "balanced_error", "low", "high"])


@pytest.mark.parametrize("num_points", [0, 4, 9])
def test_the_png_can_be_read_and_is_the_same_each_time(tmp_path: Path, num_points: int) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        save_frontier_png(path, frontier_table(num_points), title="Cost against error")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(paths[0]) as picture:
        picture.load()
        assert picture.size == (840, 552)
        assert "Software" not in picture.info
        colours = {colour for _, colour in picture.convert("RGB").getcolors(10**6) or []}
    assert (0, 0x72, 0xB2) in colours, "the cascade's line is drawn"


def test_points_change_the_picture(tmp_path: Path) -> None:
    for number in (0, 1):
        save_frontier_png(tmp_path / f"{number}.png", frontier_table(number), title="t")
    assert (tmp_path / "0.png").read_bytes() != (tmp_path / "1.png").read_bytes()
