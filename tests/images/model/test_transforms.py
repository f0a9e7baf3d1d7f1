"""Augmentation that is off does nothing; normalisation is torchvision's; residuals are those of the published filters."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate
from torchvision.transforms import v2

from assay.core.params import load
from assay.images.model.backbones import DataConfig
from assay.images.model.transforms import SRM_LIMIT, Normalize, normalizer, train_transform
from assay.params.images import Augment, Images

PROBABILITIES = ("horizontal_flip", "jitter_probability", "affine_probability", "blur_probability", "jpeg_probability")
STRENGTHS = ("brightness", "contrast", "saturation", "hue", "degrees", "translate", "scale")


def augment(**changes: object) -> Augment:
    base = load(Images).train_stage1.augment
    return base.model_copy(update=dict.fromkeys(PROBABILITIES, 0.0) | changes)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_neither_probability_zero_nor_strength_zero_does_anything(image: torch.Tensor) -> None:
    assert torch.equal(train_transform(augment())(image), image)
    always = dict.fromkeys(("jitter_probability", "affine_probability", "blur_probability"), 1.0)
    weak = augment(**dict.fromkeys(STRENGTHS, 0.0), **always, blur_sigma=[0.0, 0.0])
    assert torch.equal(train_transform(weak)(image), image)


def test_a_blur_range_may_start_at_zero(image: torch.Tensor) -> None:
    torch.manual_seed(3)
    changed = train_transform(augment(blur_probability=1.0, blur_sigma=[0.0, 9.0]))(image)
    assert changed.shape == image.shape
    assert changed.float().std() < image.float().std()


@pytest.mark.parametrize("name", PROBABILITIES)
def test_each_transform_changes_images_and_keeps_their_type(image: torch.Tensor, name: str) -> None:
    torch.manual_seed(1)
    changed = train_transform(augment(**{name: 1.0}, blur_sigma=[0.6, 1.0]))(image)
    assert (changed.shape, changed.dtype) == (image.shape, torch.uint8)
    assert not torch.equal(changed, image)


def test_normalize_equals_torchvision() -> None:
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    theirs = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))])(images)
    ours = Normalize(mean, std)(images)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def residual_input() -> torch.nn.Module:
    return normalizer(DataConfig(8, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear", "srm"))


def test_residuals_are_those_of_the_published_filters(image: torch.Tensor) -> None:
    """Zhou et al. 2018, written down once more, by SciPy."""
    second = np.array([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]]) / 4
    row = [-1, 2, -2, 2, -1]
    fifth = np.array([row, [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], row]) / 12
    kernels = [second, fifth, np.array([[1, -2, 1]]) / 2]
    image = image // 20 + 100
    grey = v2.functional.rgb_to_grayscale(image)[0].numpy().astype(np.float64)
    wanted = np.stack([correlate(grey, kernel, mode="mirror") for kernel in kernels])
    module = residual_input()
    np.testing.assert_allclose(module.residuals(image[None])[0].numpy(), wanted, rtol=1e-6, atol=1e-5)
    cut = torch.from_numpy(wanted).clamp(-SRM_LIMIT, SRM_LIMIT)
    assert 0.1 < (cut.abs() < SRM_LIMIT).float().mean() < 0.9, "both sides of the limit are seen"
    scaled = (cut / SRM_LIMIT + 1) / 2
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(module(image[None])[0], ((scaled - mean) / std).float(), rtol=1e-5, atol=1e-5)
    assert module(image[None]).is_contiguous(memory_format=torch.channels_last)
    assert not list(module.parameters()), "nothing in it is trained"


def test_residuals_see_neither_brightness_nor_a_slope_and_are_exact(image: torch.Tensor) -> None:
    module = residual_input()
    slope = torch.arange(0, 64, 2, dtype=torch.uint8).expand(1, 3, 32, 32) + 50
    assert not module.residuals(slope)[:, :, 2:-2, 2:-2].any()
    batch = torch.stack([image, image.flip(-1), image.flip(-2)])
    whole = module(batch)
    assert all(torch.equal(module(one[None])[0], part) for one, part in zip(batch, whole, strict=True))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(batch), whole)
