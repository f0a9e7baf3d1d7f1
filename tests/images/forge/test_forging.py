"""Every family of forgery changes a crop, keeps its shape, and does the same for the same seed."""

from collections.abc import Callable
from itertools import product

import cv2
import numpy as np
import pytest
import torch

from assay.images.forge import forging
from assay.images.forge.autoencoder import Autoencoder, reconstruct

Forger = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def crop(seed: int, *, side: int = 64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(coarse + rng.normal(0, 10, coarse.shape), 0, 255).astype(np.uint8)


def _blend(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return forging.blend(
        image, rng, max_shift=0.06, max_scale=0.08, max_colour=0.06, opacity=[0.5, 1.0], area=[0.1, 0.5]
    )


def _splice(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return forging.splice(image, rng, donor=crop(99, side=len(image)), area=[0.1, 0.4], feather=0.04)


def _inpaint(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return forging.inpaint(image, rng, area=[0.05, 0.25], radius=3.0)


def _resample(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return forging.resample(image, rng, factor=[1.3, 2.0], kernels=["nearest", "bilinear", "lanczos"])


FORGERS: dict[str, Forger] = {"blend": _blend, "splice": _splice, "inpaint": _inpaint, "resample": _resample}


@pytest.mark.parametrize("family", FORGERS)
def test_a_forgery_is_a_changed_crop_of_the_same_shape_and_the_seed_decides(family: str) -> None:
    for side, seed in product((32, 64, 96), range(5)):
        image = crop(seed, side=side)
        before = image.copy()
        forged = FORGERS[family](image, np.random.default_rng(seed))
        assert forged.shape == image.shape
        assert forged.dtype == np.uint8
        np.testing.assert_array_equal(image, before)
        np.testing.assert_array_equal(forged, FORGERS[family](image, np.random.default_rng(seed)))
        assert any((forged != FORGERS[family](image, np.random.default_rng(other))).any() for other in range(6, 12))
        difference = np.abs(forged.astype(int) - image)
        assert (difference.max(axis=2) > 4).mean() > 0.005
        # The content stays: the two are of one scene.
        assert np.corrcoef(forged.ravel(), image.ravel())[0, 1] > (0.3 if family == "splice" else 0.7)


@pytest.mark.parametrize("seed", range(5))
def test_splice_changes_only_what_lies_under_its_soft_mask(seed: int) -> None:
    image, donor = crop(seed), crop(seed + 1000)
    forged = forging.splice(image, np.random.default_rng(seed), donor=donor, area=[0.1, 0.4], feather=0.04)
    mask = forging.ellipse_mask(64, np.random.default_rng(seed), area=[0.1, 0.4])
    soft = forging.soften(mask, width=0.04 * 64)
    assert (soft == 0).mean() > 0.05
    np.testing.assert_array_equal(forged[soft == 0], image[soft == 0])
    inside = soft > 0.999
    assert np.abs(forged[inside].astype(int) - donor[inside]).max(initial=0) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_inpaint_changes_only_the_hole(seed: int) -> None:
    image = crop(seed)
    forged = forging.inpaint(image, np.random.default_rng(seed), area=[0.05, 0.25], radius=3.0)
    hole = forging.ellipse_mask(64, np.random.default_rng(seed), area=[0.05, 0.25]) > 0
    np.testing.assert_array_equal(forged[~hole], image[~hole])
    # What stood in the hole does not shine through (OpenCV looks at it a little along the crop's border).
    other = image.copy()
    other[hole] = 255 - other[hole]
    again = forging.inpaint(other, np.random.default_rng(seed), area=[0.05, 0.25], radius=3.0)
    assert np.abs(again.astype(int) - forged).max() <= 8


@pytest.mark.parametrize("area", [[0.0, 0.0], [0.05, 0.1], [0.3, 0.3], [1.0, 1.0]])
def test_masks_have_the_area_asked_for(area: list[float]) -> None:
    for seed in range(30):
        mask = forging.ellipse_mask(64, np.random.default_rng(seed), area=area)
        assert mask.dtype == np.float32
        assert set(np.unique(mask)) == {0.0, 1.0}
        if area[0] < 0.5:
            assert area[0] - 0.04 <= mask.mean() <= area[1] + 0.04


def test_mixing_is_linear_and_exact_at_the_ends() -> None:
    base, other = crop(1), crop(2)
    np.testing.assert_array_equal(forging.mix(base, other, np.zeros((64, 64), np.float32)), base)
    np.testing.assert_array_equal(forging.mix(base, other, np.ones((64, 64), np.float32)), other)
    half = forging.mix(base, other, np.full((64, 64), 0.5, np.float32))
    assert np.abs(half - (base.astype(float) + other) / 2).max() <= 0.5


@pytest.mark.parametrize("kernel", sorted(forging.KERNELS))
def test_resampling_takes_away_fine_detail(kernel: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    forged = forging.resample(image, np.random.default_rng(0), factor=[2.0, 2.0], kernels=[kernel])
    assert forged.std() < 0.8 * image.std()


def test_a_reconstruction_has_no_frame() -> None:
    torch.manual_seed(0)
    grey = np.full((1, 64, 64, 3), 128, dtype=np.uint8)
    found = reconstruct(Autoencoder(width=8, latent=4), grey).astype(int)
    assert found.std() > 0
    # Steps of 4 pixels are all that tells one place of a grey crop from another, up to the edges.
    assert abs(found[:, 4:] - found[:, :-4]).max() <= 1
    assert abs(found[:, :, 4:] - found[:, :, :-4]).max() <= 1
