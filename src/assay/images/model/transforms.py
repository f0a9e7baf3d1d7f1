"""How a stored image comes to a network: its size, training augmentation and normalisation.

Augmentation works on uint8 images one by one (each gets its own draw), normalisation on whole batches, last: of the colours,
or of the noise residuals in their place (`normalizer`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torchvision.transforms import v2

from assay.params.images import Augment

if TYPE_CHECKING:
    from assay.images.model.backbones import DataConfig

NO_BLUR = 1e-3
# Three high-pass filters of the spatial rich model (Fridrich and Kodovsky 2012, "Rich Models for Steganalysis of Digital
# Images"), as Zhou et al. 2018 ("Learning Rich Features for Image Manipulation Detection") take them for forgeries: what is
# left of a picture's grey values when their neighbours have said what they can. Whole numbers, and what divides them.
SRM_KERNELS = (
    ((0, 0, 0, 0, 0), (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0, 0, 0, 0, 0)),
    ((-1, 2, -2, 2, -1), (2, -6, 8, -6, 2), (-2, 8, -12, 8, -2), (2, -6, 8, -6, 2), (-1, 2, -2, 2, -1)),
    ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, -2, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
)
SRM_DIVISORS = (4.0, 12.0, 2.0)
# Residuals are cut off at so many grey levels: beyond are edges of things, which say little about noise. Three in four of
# the embedded pictures' residuals lie within (Fridrich and Kodovsky: 2 steps of a quantiser of 1 to 2 levels).
SRM_LIMIT = 3.0


def resize(images: torch.Tensor, side: int) -> torch.Tensor:
    """uint8 [n, 3, S, S] as uint8 [n, 3, side, side], bilinear and antialiased.

    The one way from the side of the pixel store to a network's own, in training, scoring and prediction alike: a network
    that looks at other pixels than it was trained on says something else.
    """
    return images if images.shape[-1] == side else v2.functional.resize(images, [side, side], antialias=True)


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


class Residuals(Normalize):
    """uint8 [n, 3, S, S] -> the three `SRM_KERNELS` of its grey picture as float32 [n, 3, S, S]; nothing in it is trained.

    Residuals of -`SRM_LIMIT` to `SRM_LIMIT` take the place of values of 0 to 255 and are normalised like these, so that a
    network that was pretrained on colours finds values of the size that it knows. Filters of whole numbers over whole grey
    levels give the same sums to the last bit on any device, in bfloat16 and TF32, too. Beyond the border the picture is its
    own mirror image: zeros there would be an edge all around.
    """

    kernels: torch.Tensor
    divisors: torch.Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__(mean, std)
        self.register_buffer("kernels", torch.tensor(SRM_KERNELS).float().unsqueeze(1), persistent=False)
        self.register_buffer("divisors", torch.tensor(SRM_DIVISORS).view(1, 3, 1, 1), persistent=False)

    def residuals(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [n, 3, S, S] -> float32 [n, 3, S, S], in grey levels, not cut off."""
        grey = v2.functional.rgb_to_grayscale(images).float()
        padded = torch.nn.functional.pad(grey, (2, 2, 2, 2), mode="reflect")
        return torch.nn.functional.conv2d(padded, self.kernels).float() / self.divisors

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        cut = self.residuals(images).clamp(-SRM_LIMIT, SRM_LIMIT)
        return super().forward(127.5 * (cut / SRM_LIMIT + 1))


INPUTS = {"rgb": Normalize, "srm": Residuals}


def normalizer(config: DataConfig) -> Normalize:
    """What a network of this data config is shown of a batch of images."""
    return INPUTS[config.input](config.mean, config.std)
