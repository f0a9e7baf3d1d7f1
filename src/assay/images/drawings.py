"""Pictures that are no photographs, drawn here: what the warning of unlike pictures is measured on."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from assay.images.forge.families import encode_jpeg

PER_KIND = 25
# Drawn large and made small, as a screenshot or a scan would be; JPEG as most pictures that travel.
SIDE, JPEG_QUALITY = 256, 90
Generator = np.random.Generator


def _colour(rng: Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


def _paper(rng: Generator) -> np.ndarray:
    """A blank light page."""
    return np.full((SIDE, SIDE, 3), rng.integers(225, 256), dtype=np.uint8)


def _chart(rng: Generator) -> np.ndarray:
    """Bars over an axis."""
    image, count, colour = _paper(rng), int(rng.integers(4, 12)), _colour(rng)
    width = (SIDE - 40) // count
    for number in range(count):
        left, top = 30 + number * width, int(rng.integers(20, SIDE - 40))
        cv2.rectangle(image, (left, top), (left + width * 2 // 3, SIDE - 25), colour, -1)
    cv2.line(image, (25, SIDE - 25), (SIDE - 10, SIDE - 25), (0, 0, 0), 2)
    cv2.line(image, (25, 10), (25, SIDE - 25), (0, 0, 0), 2)
    return image


def _page(rng: Generator) -> np.ndarray:
    """Lines of letters."""
    image, scale = _paper(rng), float(rng.uniform(0.4, 0.9))
    letters = np.array(list("abcdefghiklmnoprstuvw     "))
    for line in range(20, SIDE - 10, round(28 * scale)):
        text = "".join(rng.choice(letters, int(rng.integers(10, 40))))
        cv2.putText(image, text, (10, line), cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 20), 1, cv2.LINE_AA)
    return image


def _shapes(rng: Generator) -> np.ndarray:
    """Discs and triangles in flat colours on a flat ground."""
    image = np.full((SIDE, SIDE, 3), _colour(rng), dtype=np.uint8)
    for _ in range(int(rng.integers(4, 14))):
        centre = tuple(rng.integers(0, SIDE, 2).tolist())
        cv2.circle(image, centre, int(rng.integers(8, 60)), _colour(rng), -1, cv2.LINE_AA)
        cv2.fillPoly(image, [rng.integers(0, SIDE, (3, 2)).astype(np.int32)], _colour(rng), cv2.LINE_AA)
    return image


def _gradient(rng: Generator) -> np.ndarray:
    """A smooth run from one colour to another."""
    angle, (start, end) = rng.uniform(0, 2 * np.pi), rng.uniform(0, 255, (2, 3))
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    share = np.clip(rows * np.sin(angle) + columns * np.cos(angle) + 0.5, 0, 1)[..., None]
    return (start + share * (end - start)).round().astype(np.uint8)


def _noise(rng: Generator) -> np.ndarray:
    """Independent pixels, or blocks of them."""
    block = int(rng.choice([1, 2, 4]))
    small = rng.integers(0, 256, (SIDE // block, SIDE // block, 3)).astype(np.uint8)
    return cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)


KINDS: dict[str, Callable[[Generator], np.ndarray]] = {
    "chart": _chart,
    "page": _page,
    "shapes": _shapes,
    "gradient": _gradient,
    "noise": _noise,
}


def drawings(*, side: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """`PER_KIND` pictures of each kind: uint8 [n, side, side, 3], and the kinds [n]."""
    images, kinds = [], []
    for number, (kind, draw) in enumerate(KINDS.items()):
        rng = np.random.default_rng([seed, number])
        for _ in range(PER_KIND):
            small = cv2.resize(draw(rng), (side, side), interpolation=cv2.INTER_AREA)
            code = np.frombuffer(encode_jpeg(small, quality=JPEG_QUALITY), np.uint8)
            images.append(cv2.cvtColor(cv2.imdecode(code, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))
            kinds.append(kind)
    return np.stack(images), kinds
