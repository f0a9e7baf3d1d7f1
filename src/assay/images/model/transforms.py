"""Training augmentation and normalisation.

Augmentation works on uint8 images one by one (each gets its own draw), normalisation on whole batches, last.
"""

from __future__ import annotations

import torch
from torchvision.transforms import v2

from assay.params.images import Augment

NO_BLUR = 1e-3


def train_transform(settings: Augment) -> v2.Transform:
    """The training transforms whose probability is above 0, for uint8 [3, S, S].

    They draw from torch's global generator: seed it to repeat a draw.
    """
    steps: list[v2.Transform] = []
    if settings.horizontal_flip > 0:
        steps.append(v2.RandomHorizontalFlip(settings.horizontal_flip))
    if settings.jitter_probability > 0:
        jitter = v2.ColorJitter(settings.brightness, settings.contrast, settings.saturation, settings.hue)
        steps.append(v2.RandomApply([jitter], settings.jitter_probability))
    if settings.affine_probability > 0:
        affine = v2.RandomAffine(
            settings.degrees,
            translate=(settings.translate, settings.translate),
            scale=(1 - settings.scale, 1 + settings.scale),
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        steps.append(v2.RandomApply([affine], settings.affine_probability))
    if settings.blur_probability > 0 and settings.blur_sigma[1] > 0:
        # torchvision takes no sigma of 0; this one already leaves every pixel as it is.
        sigma = [max(value, NO_BLUR) for value in settings.blur_sigma]
        steps.append(v2.RandomApply([v2.GaussianBlur(5, sigma)], settings.blur_probability))
    if settings.jpeg_probability > 0:
        steps.append(v2.RandomApply([v2.JPEG(settings.jpeg_quality)], settings.jpeg_probability))
    return v2.Compose(steps) if steps else v2.Identity()


class Normalize(torch.nn.Module):
    """uint8 [n, 3, S, S] -> float32 with the network's mean and std (of values in 0..1), channels last in memory."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return ((images.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
