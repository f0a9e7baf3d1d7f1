"""Augmentation of corridor photographs that keeps the label: scale, rotation, and colour away from the danger hues.

Images are uint8 RGB arrays [H, W, 3]; every function returns a new one of the same shape. Hue is the angle of the HSV
hexcone (Smith 1978, "Color gamut transform pairs"): red 0, yellow 60, green 120, blue 240 degrees; chroma is
max(R, G, B) - min(R, G, B), in levels of 0 to 255.

A DANGER pixel has chroma >= MIN_CHROMA and a hue in a protected range (low, high) of degrees, both ends included,
wrapping where low > high: (345, 65) holds the red, orange and yellow of fire and warning signs. Colour jitter neither
makes nor loses a danger pixel, and padding paints none but those of signs: a sign that hangs in the border warns of a
danger and is none, as in the rule of the rendered scenes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
HueRanges = Sequence[Sequence[float]]
Padding = Literal["edge", "reflect", "sign"]

# Below this chroma (6 % of full scale) a pixel looks grey, and rounding alone moves its hue by more than 60 / 16 degrees.
MIN_CHROMA = 16

# Above the noise that a camera and JPEG leave on a plain wall (1 to 2 levels). This and the next two are our choice.
PLAIN_DETAIL = 3.0

# A step of grey level that shows as the outline of an object: a door frame, a box or a cable duct against a wall.
STRONG_EDGE = 32.0

# Of fewer lines, shrinking may leave one, which has no reflection.
MIN_REFLECTED = 8

# Signs hang on the repeated border.
_BORDERS = {"edge": cv2.BORDER_REPLICATE, "reflect": cv2.BORDER_REFLECT_101, "sign": cv2.BORDER_REPLICATE}


def hue_and_chroma(image: Image) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int16]]:
    """Hue in degrees float64 [H, W] (0 where grey) and chroma in levels int16 [H, W]."""
    # Float, as OpenCV's uint8 HSV knows only every second degree.
    hue = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[..., 0].astype(np.float64)
    levels = image.astype(np.int16)
    return hue, levels.max(axis=2) - levels.min(axis=2)


def find_danger(image: Image, *, protected: HueRanges) -> npt.NDArray[np.bool_]:
    """Which pixels [H, W] are danger pixels, as the module defines them."""
    hue, chroma = hue_and_chroma(check_image(image))
    return (chroma >= MIN_CHROMA) & _within(hue, _check_ranges(protected))


def jitter_hsv(image: Image, *, hue: float, saturation: float, value: float, protected: HueRanges) -> Image:
    """Shift the hue by degrees (-180 to 180) and scale saturation and value by factors > 0, leaving the danger hues alone.

    1. A hue in a protected range stays. Any other moves by `hue`, but stops 60 / chroma degrees short of the first
       protected range in its way (a pixel that starts nearer stays).
    2. A danger pixel keeps a chroma of at least MIN_CHROMA, so that fading or darkening does not hide a sign.
    3. The chroma of a pixel below MIN_CHROMA does not grow: grey walls do not become coloured.
    4. Where rounding to uint8 would still make or lose a danger pixel, or lift a grey one to MIN_CHROMA, it stays as it was.

    Hence `find_danger` is the same before and after, pixel by pixel, and 0, 1 and 1 return the same image. Rounding moves
    a hue by at most 60 / C degrees, C the chroma in levels after the jitter: with r = (mid - min) / C the hue is 60 r from
    a multiple of 60, and rounding errors of at most 1/2 in max, mid and min change r by
    |e_mid - (1 - r) e_min - r e_max| / C <= 1 / C. So a danger pixel's hue moves by 3.75 degrees at most, and a vivid
    sign's (C >= 120) by half a degree.

    ValueError if the image or an option is malformed; `protected` holds pairs (low, high) within 0 to 360, or nothing.
    """
    check_image(image)
    if not abs(hue) <= 180:
        raise ValueError(f"hue must lie in -180 to 180 degrees, got {hue}; shifts beyond wrap around")
    check_factor(saturation, name="saturation")
    check_factor(value, name="value")
    ranges = _check_ranges(protected)
    before, chroma = hue_and_chroma(image)
    inside = _within(before, ranges)
    danger = inside & (chroma >= MIN_CHROMA)
    new_saturation, new_value = _scale_tone(image, chroma, danger, saturation=saturation, value=value)
    margin = 60 / np.maximum(new_saturation * new_value * 255, 1)
    moved = np.where(inside, before, before + _free_shift(before, ranges, shift=hue, margin=margin)) % 360
    hsv = np.stack([moved, new_saturation, new_value], axis=2).astype(np.float32)
    jittered = np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).clip(0, 255).astype(np.uint8)
    after, new_chroma = hue_and_chroma(jittered)
    coloured = new_chroma >= MIN_CHROMA
    changed = ((coloured & _within(after, ranges)) != danger) | (coloured & (chroma < MIN_CHROMA))
    return np.where(changed[..., None], image, jittered)


def _scale_tone(
    image: Image, chroma: np.ndarray, danger: np.ndarray, *, saturation: float, value: float
) -> tuple[np.ndarray, np.ndarray]:
    """New saturation and value, float64 [H, W] in 0 to 1, under rules 2 and 3 of `jitter_hsv` (chroma = their product)."""
    old_value = image.max(axis=2) / 255
    old_chroma = chroma / 255
    # One level above the bound, so that rounding does not undo it; never above what the pixel had.
    floor = np.where(danger, np.minimum(old_chroma, (MIN_CHROMA + 1) / 255), 0)
    new_value = np.clip(old_value * value, floor, 1)
    positive = np.maximum(new_value, np.finfo(np.float32).tiny)
    new_saturation = np.clip(old_chroma / np.maximum(old_value, 1 / 255) * saturation, floor / positive, 1)
    grey = chroma < MIN_CHROMA
    return np.where(grey, np.minimum(new_saturation, old_chroma / positive), new_saturation), new_value


def _free_shift(hue: np.ndarray, ranges: HueRanges, *, shift: float, margin: np.ndarray) -> np.ndarray:
    """How far each ``hue`` [H, W] may go of ``shift`` degrees, stopping ``margin`` short of the first range on its way."""
    room = np.full(hue.shape, abs(shift))
    for low, high in ranges:
        distance = (low - hue) % 360 if shift >= 0 else (hue - high) % 360
        room = np.minimum(room, np.maximum(distance - margin, 0))
    return math.copysign(1, shift) * room


def _within(hue: np.ndarray, ranges: HueRanges) -> npt.NDArray[np.bool_]:
    """Whether each hue in degrees lies in one of the ranges."""
    inside = np.zeros(hue.shape, dtype=bool)
    for low, high in ranges:
        inside |= (hue - low) % 360 <= (high - low if low <= high else high - low + 360)
    return inside


def choose_padding(image: Image, *, protected: HueRanges, border: int) -> Padding:
    """'reflect' or 'edge' (repeat the outermost line) to pad an image with, by what lies along its border.

    The strips are the four bands of `border` pixels along the sides, what a reflection of that depth would show twice.
    'reflect' keeps the look of a texture. It is chosen unless one of these holds:

    1. the height or width is below MIN_REFLECTED pixels: too little to reflect;
    2. a strip holds a danger pixel: a mirrored hazard would be a second one, and change the label;
    3. the strips are plain, so that a repeated line looks as natural: the standard deviation over all four of the grey
       level less its mean over the surrounding 5 x 5 pixels is below PLAIN_DETAIL levels (slow shading is plain);
    4. a strip holds a strong object edge along its side, which would come out doubled: somewhere the grey levels,
       averaged over a run of 1/8 of the side's length (8 pixels at least) along the side, change by STRONG_EDGE levels
       or more within 2 pixels across it. Averaging drops texture; an edge that runs out of the image, as the lines
       of a corridor do, merely gets a kink and does not count.

    ValueError if the image, `protected` or `border` (>= 1) is malformed.
    """
    danger = find_danger(image, protected=protected)
    if border < 1:
        raise ValueError(f"border must be at least 1 pixel, got {border}; pass the depth of the padding")
    if min(danger.shape) < MIN_REFLECTED:
        return "edge"
    strips = np.ones(danger.shape, dtype=bool)
    strips[border:-border, border:-border] = False
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = grey - cv2.blur(grey, (5, 5), borderType=cv2.BORDER_REFLECT_101)
    if (danger & strips).any() or detail[strips].std() < PLAIN_DETAIL:
        return "edge"
    sides = (grey, grey[::-1], grey.T, grey.T[::-1])
    return "edge" if any(_edge_strength(side[:border]) >= STRONG_EDGE for side in sides) else "reflect"


def _edge_strength(strip: np.ndarray) -> float:
    """Largest change within 2 lines of ``strip`` [depth, length], averaged over runs along the lines."""
    length = strip.shape[1]
    run = min(max(length // 8, 8), length)
    means = cv2.blur(np.ascontiguousarray(strip), (run, 1))[:, run // 2 : length - run + run // 2 + 1]
    gap = min(2, len(means) - 1)
    return float(np.abs(means[gap:] - means[: len(means) - gap]).max())


def rescale(image: Image, factor: float, *, padding: Padding, protected: HueRanges = ()) -> Image:
    """The image enlarged (factor > 1, its centre is kept) or shrunk and padded around (factor < 1), at the same size.

    Padded pixels that are danger pixels by `protected` are turned grey: a sign cut by the border must not be drawn out.
    Shrinks by area averaging, to whole pixels; enlarges bilinearly about the centre.

    ValueError if `factor` is not positive and finite, the image malformed, or 'reflect' has one pixel to reflect.
    """
    height, width = check_image(image).shape[:2]
    check_factor(factor, name="factor")
    if factor == 1:
        return image.copy()
    if factor > 1:
        return _warp(image, factor=factor, border=cv2.BORDER_REPLICATE)
    inner_h, inner_w = max(round(height * factor), 1), max(round(width * factor), 1)
    if padding == "reflect" and (inner_h == 1 < height or inner_w == 1 < width):
        raise ValueError(f"factor {factor} leaves {inner_h} x {inner_w} pixels, nothing to reflect; pad by 'edge'")
    top, left = (height - inner_h) // 2, (width - inner_w) // 2
    bottom, right = height - inner_h - top, width - inner_w - left
    small = cv2.resize(image, (inner_w, inner_h), interpolation=cv2.INTER_AREA)
    padded = cv2.copyMakeBorder(small, top, bottom, left, right, _BORDERS[padding])
    outside = np.ones((height, width), dtype=bool)
    outside[top : top + inner_h, left : left + inner_w] = False
    return _without_danger(padded, outside, protected)


def rotate(image: Image, degrees: float, *, padding: Padding, max_degrees: float, protected: HueRanges = ()) -> Image:
    """The image turned counter-clockwise about its centre by ``degrees``, bilinearly, corners padded as in `rescale`.

    ValueError if |degrees| exceeds `max_degrees`, the image is malformed, or 'reflect' has one pixel to reflect.
    """
    height, width = check_image(image).shape[:2]
    if not abs(degrees) <= max_degrees:
        raise ValueError(f"degrees must lie within +-{max_degrees} (max_degrees), got {degrees}; turn it less")
    if degrees == 0:
        return image.copy()
    if padding == "reflect" and min(height, width) < 2:
        raise ValueError(f"image of {height} x {width} pixels cannot be reflected when turned; pad by 'edge'")
    turned = _warp(image, degrees=degrees, border=_BORDERS[padding])
    cover = _warp(np.full((height, width), 255, dtype=np.uint8), degrees=degrees, border=cv2.BORDER_CONSTANT)
    return _without_danger(turned, cover < 255, protected)


def _warp(image: np.ndarray, *, border: int, degrees: float = 0, factor: float = 1) -> np.ndarray:
    """The image turned and enlarged about its centre, bilinearly."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, factor)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)


def _without_danger(image: Image, outside: npt.NDArray[np.bool_], protected: HueRanges) -> Image:
    """The image, its danger pixels among ``outside`` [H, W] turned to the grey of their brightness."""
    painted = outside & find_danger(image, protected=protected)
    return np.where(painted[..., None], cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], image)


def check_image(image: Image) -> Image:
    """The image; ValueError unless uint8 [H >= 1, W >= 1, 3]."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image must be uint8 RGB [H, W, 3], got {image.dtype} {list(image.shape)}; convert it first")
    return image


def check_factor(factor: float, *, name: str) -> None:
    if not 0 < factor < math.inf:
        raise ValueError(f"{name} must be a positive finite factor, got {factor}; 1 changes nothing")


def _check_ranges(protected: HueRanges) -> HueRanges:
    """The ranges; ValueError unless each is a pair within 0 to 360."""
    wrong = [tuple(pair) for pair in protected if len(pair) != 2 or not all(0 <= end <= 360 for end in pair)]
    if wrong:
        raise ValueError(
            f"protected must hold (low, high) in degrees within 0 to 360, got {wrong[0]}; wrap as (345, 65)"
        )
    return protected
