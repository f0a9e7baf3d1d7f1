"""Pictures of the counts line: written whole, the same for the same data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from assay.report import counts_plots as plots

RNG = np.random.default_rng(0)
COUNTS = RNG.integers(1, 90, 200)
MATRIX = RNG.integers(0, 30, (4, 4))
WRITERS: dict[str, Callable[[Path], None]] = {
    "distribution": lambda path: plots.save_distribution_png(
        path, {"train": COUNTS, "test": COUNTS[:50]}, {"quantile": [1, 20, 90]}, title="t"
    ),
    "predicted": lambda path: plots.save_predicted_png(
        path, COUNTS, {f"m{n}": COUNTS + RNG.integers(0, 1) for n in range(5)}, title="t"
    ),
    "confusions": lambda path: plots.save_confusions_png(
        path, {"a": MATRIX, "b": MATRIX}, {"a": list("wxyz"), "b": list("wxyz")}, title="t"
    ),
    "curves": lambda path: plots.save_curves_png(path, {"a": ([1, 2, 3], [2.0, 1.5, 1.0]), "b": ([], [])}, title="t"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_picture_is_written_with_the_same_bytes_twice(name: str, tmp_path: Path) -> None:
    first, second = tmp_path / "one" / "a.png", tmp_path / "two" / "a.png"
    WRITERS[name](first)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red"}):  # a user's matplotlibrc
        WRITERS[name](second)
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == ["a.png"]
    with Image.open(first) as image:
        assert min(image.size) > 150
        assert len(np.unique(np.asarray(image.convert("L")))) > 10
