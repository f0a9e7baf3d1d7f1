"""Every family of forgery changes a crop, keeps its shape, and does the same for the same seed."""

from collections.abc import Callable
from itertools import product

import cv2
import numpy as np
import pytest
import torch

from assay.images.forge import forging
from assay.images.forge.autoencoder import Autoencoder, reconstruct
from assay.images.forge.superres import superresolve

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


def _clone(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return forging.clone(image, rng, donor=crop(99, side=len(image)), area=[0.1, 0.4])


def _patchmatch(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return forging.patchmatch(image, rng, area=[0.05, 0.25], patch=3)


FORGERS: dict[str, Forger] = {
    "blend": _blend,
    "clone": _clone,
    "inpaint": _inpaint,
    "patchmatch": _patchmatch,
    "resample": _resample,
    "splice": _splice,
}


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
        assert np.corrcoef(forged.ravel(), image.ravel())[0, 1] > (0.3 if family in ("splice", "clone") else 0.7)


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
def test_clone_keeps_the_donors_gradients_and_the_colours_around(seed: int) -> None:
    image, donor = crop(seed), crop(seed + 1000)
    forged = forging.clone(image, np.random.default_rng(seed), donor=donor, area=[0.1, 0.4])
    mask = forging.ellipse_mask(64, np.random.default_rng(seed), area=[0.1, 0.4]) > 0
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    framed = np.zeros_like(mask)
    framed[top : top + height, left : left + width] = True
    np.testing.assert_array_equal(forged[~framed], image[~framed])
    # OpenCV solves for the whole frame: what lies in it beside the mask comes out nearly as it was.
    changed = np.abs(forged.astype(int) - image)
    assert 8 * changed[framed & ~mask].mean() < changed[mask].mean()
    # Well inside, where one pixel differs from the next as it does in the donor, whatever the colour.
    inner = cv2.erode(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    steps = [np.diff(picture.astype(float), axis=1)[inner[:, 1:]] for picture in (forged, donor, image)]
    assert np.corrcoef(steps[0].ravel(), steps[1].ravel())[0, 1] > 0.9
    assert abs(np.corrcoef(steps[0].ravel(), steps[2].ravel())[0, 1]) < 0.3


@pytest.mark.parametrize("seed", range(3))
def test_patchmatch_fills_the_hole_with_what_stands_around_it_whatever_was_there(seed: int) -> None:
    image = crop(seed)
    hole = forging.ellipse_mask(64, np.random.default_rng(seed), area=[0.05, 0.25]) > 0
    forged = _patchmatch(image, np.random.default_rng(seed))
    np.testing.assert_array_equal(forged[~hole], image[~hole])
    other = image.copy()
    other[hole] = 255 - other[hole]
    np.testing.assert_array_equal(_patchmatch(other, np.random.default_rng(seed)), forged)


def test_superresolution_is_the_network_of_the_paper() -> None:
    """By hand for a network that passes its input on, and as a function of what is made smaller alone."""
    rng = np.random.default_rng(0)
    shapes = {"F_m1": (8, 3, 3), "F_0": (8, 8, 3), "GFF_1": (8, 16, 1), "GFF_2": (8, 8, 3), "UPN1": (8, 8, 5)}
    shapes |= dict.fromkeys(("F_1_1", "F_2_1"), (4, 8, 3)) | dict.fromkeys(("LFF_1", "LFF_2"), (8, 12, 1))
    shapes |= {"UPN2": (6, 8, 3), "UPN3": (12, 6, 3), "SR": (3, 12, 3)}
    weights: dict[str, torch.Tensor] = {}
    for name, (out, given, kernel) in shapes.items():
        weights[f"{name}.weight"] = torch.zeros(out, given, kernel, kernel)
        weights[f"{name}.bias"] = torch.zeros(out)
        # The first three channels of every layer on the way are those of the picture.
        for channel in range(3 if name not in ("F_1_1", "F_2_1", "LFF_1", "LFF_2", "GFF_2") else 0):
            weights[f"{name}.weight"][channel, channel, kernel // 2, kernel // 2] = 1.0
    crops = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    small = np.stack([cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA) for image in crops])
    np.testing.assert_array_equal(superresolve(weights, crops), small.repeat(2, axis=1).repeat(2, axis=2))
    for name, (out, given, kernel) in shapes.items():
        weights[f"{name}.weight"] = torch.from_numpy(rng.normal(0, 0.3, (out, given, kernel, kernel))).float()
    found = superresolve(weights, crops)
    assert (found.shape, found.dtype) == (crops.shape, np.uint8)
    alike = crops.reshape(2, 16, 2, 16, 2, 3)[:, :, ::-1, :, ::-1].reshape(crops.shape)
    np.testing.assert_array_equal(superresolve(weights, alike), found)
    # Every layer counts, and edges reach no further than the margin that is cut off.
    for name in shapes:
        assert (superresolve(weights | {f"{name}.weight": weights[f"{name}.weight"] / 2}, crops) != found).any(), name


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
