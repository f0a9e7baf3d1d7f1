"""What scoring makes of test images: baselines, degraded copies, flat keys."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assay.images.forge.forging import KERNELS, resample
from assay.images.model.store import open_store, open_writer
from assay.images.scoring import SAME_OPERATION, baseline_probs, degrade, degraded_logits
from assay.metrics.binary import flatten

IDENTITY: dict[str, float] = {"blur_sigma": 0.0, "resize": 1.0, "jpeg_quality": 100}


def test_undefined_metrics_become_null() -> None:
    assert flatten({"t": {"auc": math.nan, "n": 3}}) == {"t.auc": None, "t.n": 3}


def test_baselines_know_the_train_role_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = [f"s{number}" for number in range(60)]
    with open_writer(tmp_path, side=16, sample_ids=ids) as writer:
        writer.append(rng.integers(0, 256, (60, 16, 16, 3), dtype=np.uint8))
    frame = pd.DataFrame({"sample_id": ids, "label": [1, 1, 0] * 20, "width": 16, "height": 16, "format": "PNG"})
    frame = frame.assign(file_bytes=rng.integers(500, 900, 60), jpeg_quality=-1)
    train, test = frame.iloc[:30], frame.iloc[30:]
    store = open_store(tmp_path)
    probs = baseline_probs(train, test, store, seed=0)
    flipped = baseline_probs(train, test.assign(label=1 - test["label"]), store, seed=0)
    assert np.allclose(probs["majority"], 2 / 3)
    assert all(np.array_equal(probs[name], flipped[name]) for name in probs)


@pytest.mark.parametrize("change", [{"blur_sigma": 1.4}, {"resize": 0.5}, {"jpeg_quality": 50}])
def test_each_degradation_loses_detail_and_keeps_the_colour_order(change: dict[str, float]) -> None:
    red = np.random.default_rng(0).integers(0, 64, (32, 32, 3), dtype=np.uint8)
    red[..., 0] += 150
    assert np.array_equal(degrade(red, **IDENTITY), red)  # type: ignore[arg-type]
    worse = degrade(red, **(IDENTITY | change))  # type: ignore[arg-type]
    assert (worse.shape, worse.dtype) == (red.shape, np.uint8)
    assert not np.array_equal(worse, red)
    means = worse.reshape(-1, 3).mean(axis=0)
    assert means[0] > means[1:].max() + 100


def test_the_grid_enlarges_as_no_forgery_does_and_measures_none_that_is_its_own_operation() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    worse = degrade(image, **(IDENTITY | {"resize": 0.5}))  # type: ignore[arg-type]
    for kernel in KERNELS:
        forged = resample(image, np.random.default_rng(0), factor=[2.0, 2.0], kernels=[kernel])
        assert not np.array_equal(worse, forged)
    rows = pd.DataFrame({"generator": ["real", SAME_OPERATION]})
    with pytest.raises(AssertionError):
        degraded_logits(None, rows, None, settings=None)  # type: ignore[arg-type]
