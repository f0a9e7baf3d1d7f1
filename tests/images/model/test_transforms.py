"""Augmentation that is off does nothing; normalisation is torchvision's."""

import pytest
import torch
from torchvision.transforms import v2

from assay.core.params import load
from assay.images.model.transforms import Normalize, train_transform
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
