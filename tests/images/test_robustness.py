"""Degradations: nothing where nothing is asked for, less detail where it is."""

from __future__ import annotations

import numpy as np
import pytest

from assay.images.scoring import degrade

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
IDENTITY: dict[str, float] = {"blur_sigma": 0.0, "resize": 1.0, "jpeg_quality": 100}


def test_the_untouched_cell_is_the_image() -> None:
    assert np.array_equal(degrade(IMAGE, **IDENTITY), IMAGE)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"blur_sigma": 1.4}, {"resize": 0.5}, {"jpeg_quality": 50}])
def test_each_degradation_loses_detail_and_keeps_the_colour_order(change: dict[str, float]) -> None:
    red = IMAGE // 4
    red[..., 0] += 150
    worse = degrade(red, **(IDENTITY | change))  # type: ignore[arg-type]
    assert (worse.shape, worse.dtype) == (red.shape, np.uint8)
    assert not np.array_equal(worse, red)
    means = worse.reshape(-1, 3).mean(axis=0)
    assert means[0] > means[1:].max() + 100
