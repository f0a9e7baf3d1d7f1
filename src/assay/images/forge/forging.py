"""Forgeries made from real crops, one pure function per family.

Each takes a uint8 RGB crop [S, S, 3] and a numpy Generator and returns a uint8 crop of the same shape. It shows the same
content at the same place as the real one and goes through the same JPEG step, so that only the forgery differs.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

KERNELS = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR, "lanczos": cv2.INTER_LANCZOS4}


def ellipse_mask(side: int, rng: np.random.Generator, *, area: Sequence[float]) -> np.ndarray:
    """A filled, turned ellipse that lies inside the crop: float32 [side, side] of 0 and 1.

    ``area`` is the range of its share of the crop. An ellipse within a square covers at most pi/4 of it.
    """
    share = min(rng.uniform(area[0], area[1]), 0.75)
    aspect = rng.uniform(0.6, 1.6)
    half = np.sqrt(share * side * side / np.pi)
    axes = np.minimum([half * np.sqrt(aspect), half / np.sqrt(aspect)], side / 2)
    reach = float(axes.max())
    low, high = min(reach, side / 2), max(side - reach, side / 2)
    centre = rng.uniform(low, high, size=2)
    mask = np.zeros((side, side), dtype=np.float32)
    middle, radii = (int(centre[0]), int(centre[1])), (max(1, int(axes[0])), max(1, int(axes[1])))
    angle = float(rng.uniform(0, 180))
    cv2.ellipse(mask, middle, radii, angle, startAngle=0, endAngle=360, color=1.0, thickness=cv2.FILLED)
    return mask


def soften(mask: np.ndarray, *, width: float) -> np.ndarray:
    """The mask with a Gaussian edge of standard deviation ``width`` pixels."""
    return cv2.GaussianBlur(mask, (0, 0), width) if width > 0.2 else mask


def mix(base: np.ndarray, other: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``other`` where the mask is 1, ``base`` where it is 0."""
    blended = base + (other.astype(np.float32) - base) * mask[:, :, None]
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def blend(
    crop: np.ndarray,
    rng: np.random.Generator,
    *,
    max_shift: float,
    max_scale: float,
    max_colour: float,
    opacity: Sequence[float],
    area: Sequence[float],
) -> np.ndarray:
    """Self-blended image: a shifted, rescaled, colour-shifted copy laid over the crop under a soft mask.

    Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022.
    """
    side = crop.shape[0]
    scale = 1 + rng.uniform(-max_scale, max_scale)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), 0, scale)
    matrix[:, 2] += rng.uniform(-max_shift, max_shift, size=2) * side
    moved = cv2.warpAffine(crop, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    colour = rng.uniform(-max_colour, max_colour, size=3) * 255
    contrast = 1 + rng.uniform(-max_colour, max_colour)
    mean = moved.mean(axis=(0, 1))
    source = np.clip((moved - mean) * contrast + mean + colour, 0, 255)
    mask = soften(ellipse_mask(side, rng, area=area), width=rng.uniform(0.01, 0.06) * side)
    return mix(crop, source, mask * rng.uniform(opacity[0], opacity[1]))


def splice(
    crop: np.ndarray, rng: np.random.Generator, *, donor: np.ndarray, area: Sequence[float], feather: float
) -> np.ndarray:
    """A region from elsewhere, ``donor`` (uint8, same shape), pasted with a feathered edge.

    Dong, Wang and Tan, "CASIA Image Tampering Detection Evaluation Database", ChinaSIP 2013: from the same photograph or
    from another one.
    """
    side = crop.shape[0]
    return mix(crop, donor, soften(ellipse_mask(side, rng, area=area), width=feather * side))


def clone(crop: np.ndarray, rng: np.random.Generator, *, donor: np.ndarray, area: Sequence[float]) -> np.ndarray:
    """A region from elsewhere, ``donor`` (uint8, same shape), whose gradients are joined to the colours around it.

    Perez, Gangnet and Blake, "Poisson Image Editing", SIGGRAPH 2003 (OpenCV's seamlessClone).
    """
    mask = ellipse_mask(crop.shape[0], rng, area=area).astype(np.uint8)
    left, top, width, height = cv2.boundingRect(mask)
    # OpenCV puts the middle of the region's frame at this point: where the region came from.
    middle = (left + width // 2, top + height // 2)
    return cv2.seamlessClone(donor, crop, 255 * mask, middle, cv2.NORMAL_CLONE)


def patchmatch(crop: np.ndarray, rng: np.random.Generator, *, area: Sequence[float], patch: int) -> np.ndarray:
    """A region removed and filled with pieces of ``2 patch + 1`` pixels from the rest of the crop.

    Barnes, Shechtman, Finkelstein and Goldman, "PatchMatch: A Randomized Correspondence Algorithm for Structural Image
    Editing", SIGGRAPH 2009 (PyPatchMatch).

    Raises:
        ValueError: PyPatchMatch is there without its compiled half.
    """
    from patchmatch import patch_match

    if not patch_match.patchmatch_available:
        raise ValueError(
            "forge.families has patchmatch, and PyPatchMatch could not load its library (no wheel for this system?): "
            "install a wheel of it, or drop patchmatch"
        )
    mask = ellipse_mask(crop.shape[0], rng, area=area).astype(np.uint8)
    # It keeps a seed of its own, from which every call starts.
    patch_match.set_random_seed(int(rng.integers(2**31)))
    return patch_match.inpaint(crop, mask, patch_size=patch)


def inpaint(crop: np.ndarray, rng: np.random.Generator, *, area: Sequence[float], radius: float) -> np.ndarray:
    """A region removed and filled from its surroundings.

    Telea, "An Image Inpainting Technique Based on the Fast Marching Method", J. Graphics Tools 9(1), 2004 (OpenCV).
    """
    mask = ellipse_mask(crop.shape[0], rng, area=area).astype(np.uint8)
    return cv2.inpaint(crop, mask, radius, cv2.INPAINT_TELEA)


def resample(
    crop: np.ndarray, rng: np.random.Generator, *, factor: Sequence[float], kernels: Sequence[str]
) -> np.ndarray:
    """The crop made smaller by an area average, then larger again by one of ``kernels``.

    Popescu and Farid, "Exposing Digital Forgeries by Detecting Traces of Resampling", IEEE TSP 53(2), 2005.
    """
    side = crop.shape[0]
    small = max(2, round(side / rng.uniform(factor[0], factor[1])))
    kernel = KERNELS[kernels[int(rng.integers(len(kernels)))]]
    reduced = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
    return cv2.resize(reduced, (side, side), interpolation=kernel)
