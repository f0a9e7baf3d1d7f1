"""Augmented copies of photographs: a random transform of `assay.vlm.augmentation` each, and where its danger goes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from assay.corridors.signs import sign_image
from assay.params.vlm import Augment
from assay.vlm.augmentation import Image, check_factor, check_image, choose_padding, jitter_hsv, rescale, rotate

TRANSFORMS = ("scale", "rotate", "colour", "sign")

# A sign is hung where shrinking by this factor or more leaves a border for it, of so many pixels of the sign at least.
SIGN_FACTOR, MIN_SIGN = 0.85, 8


def hang_signs(image: Image, factor: float, *, rng: np.random.Generator, signs: Sequence[str]) -> Image:
    """A shrunk and padded image with one or two signs, each whole within the border on the left or right.

    Args:
        factor: by which it was shrunk (see `rescale`); a border too narrow for a sign of MIN_SIGN pixels stays as it is.
        signs: names of `assay.corridors.signs.SIGNS`.
    """
    height, width = image.shape[:2]
    border = (width - max(round(width * factor), 1)) // 2
    if border < MIN_SIGN or height <= border:
        return image
    found = image.copy()
    for place in rng.permutation(2)[: int(rng.integers(1, 3))]:
        side = int(rng.integers(MIN_SIGN, border + 1))
        left = int(rng.integers(0, border - side + 1)) + place * (width - border)
        upper = int(rng.integers(0, height - side + 1))
        sign = sign_image(signs[int(rng.integers(len(signs)))], side=side)
        # As bright as its surroundings: in a dark corridor a white board is grey.
        light = np.clip(image[upper : upper + side, left : left + side].mean() / 128, 0.3, 1.0)
        found[upper : upper + side, left : left + side] = np.rint(sign * light).astype(np.uint8)
    return found


def transforms(settings: Augment) -> tuple[str, ...]:
    """The transforms in turn: without signs to hang, the last one is left out."""
    return TRANSFORMS if settings.signs else TRANSFORMS[:-1]


def _draw_factor(transform: str, rng: np.random.Generator, settings: Augment) -> float:
    """The factor of 'scale', and of 'sign', which leaves a border; one number of ``rng``."""
    low, high = settings.scale
    factor = float(rng.uniform(low, min(high, max(low, SIGN_FACTOR)) if transform == "sign" else high))
    check_factor(factor, name="scale")
    return factor


def draw(image: Image, transform: str, rng: np.random.Generator, settings: Augment) -> Image:
    """One random augmentation: ``transform`` of TRANSFORMS with options uniform in the ranges of ``settings``.

    Padding is chosen by `choose_padding`, with strips as deep as the padding; 'sign' shrinks the image and hangs signs in
    its border. The first number of ``rng`` decides factor or angle. ValueError if `transform` is unknown, or the image or a
    setting malformed.
    """
    height, width = check_image(image).shape[:2]
    protected = settings.protected
    if transform == "sign":
        factor = _draw_factor(transform, rng, settings)
        padded = rescale(image, factor, padding="sign", protected=protected)
        return hang_signs(padded, factor, rng=rng, signs=settings.signs)
    if transform == "scale":
        factor = _draw_factor(transform, rng, settings)
        # In the image's own pixels, of which the shrunk one shows `factor`.
        depth = (1 / factor - 1) / 2 * max(height, width)
        padding = choose_padding(image, protected=protected, border=_strip(depth))
        return rescale(image, factor, padding=padding, protected=protected)
    if transform == "rotate":
        degrees = float(rng.uniform(-settings.max_degrees, settings.max_degrees))
        cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
        overhang = max(width * cos + height * sin - width, width * sin + height * cos - height)
        padding = choose_padding(image, protected=protected, border=_strip(overhang / 2))
        return rotate(image, degrees, padding=padding, max_degrees=settings.max_degrees, protected=protected)
    if transform == "colour":
        spans = ((-settings.hue, settings.hue), settings.saturation, settings.value)
        hue, saturation, value = (float(rng.uniform(low, high)) for low, high in spans)
        return jitter_hsv(image, hue=hue, saturation=saturation, value=value, protected=protected)
    raise ValueError(f"transform must be one of {', '.join(TRANSFORMS)}, got {transform!r}")


def move_boxes(
    boxes: Sequence[Sequence[float]],
    transform: str,
    rng: np.random.Generator,
    settings: Augment,
    *,
    size: tuple[int, int],
) -> list[list[float]]:
    """Where boxes of an image lie in what `draw` makes of it with the same ``rng``: the upright boxes around them.

    Args:
        boxes: [left, upper, right, lower] in shares of the image's sides.
        size: (height, width) in pixels.

    Returns:
        The same, to three decimals; what has left the image is left out.
    """
    if transform == "colour":
        return [list(box) for box in boxes]
    degrees, factor = 0.0, 1.0
    if transform != "rotate":
        factor = _draw_factor(transform, rng, settings)
    else:
        degrees = float(rng.uniform(-settings.max_degrees, settings.max_degrees))
    height, width = size
    # About the middle of the pixels' area, half a pixel from that of their centres.
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, factor)
    found = []
    for left, upper, right, lower in boxes:
        corners = np.array([(x * width, y * height, 1.0) for x in (left, right) for y in (upper, lower)]) @ matrix.T
        (x0, y0), (x1, y1) = corners.min(axis=0) / (width, height), corners.max(axis=0) / (width, height)
        moved = [round(min(max(float(edge), 0.0), 1.0), 3) for edge in (x0, y0, x1, y1)]
        if moved[0] < moved[2] and moved[1] < moved[3]:
            found.append(moved)
    return found


def _strip(depth: float) -> int:
    """Strip for padding ``depth`` pixels deep: two lines more, one to mirror about, one that interpolation reads beyond."""
    return max(math.ceil(depth), 0) + 2
