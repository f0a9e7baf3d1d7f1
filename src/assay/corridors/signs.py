"""Signs as pictures, drawn by code: on the walls of scenes, and in the border of padded pictures. No sign is a danger."""

from __future__ import annotations

import cv2
import numpy as np

BOARD = (240, 240, 236)
BLACK, WHITE, YELLOW, ORANGE = (25, 25, 25), (245, 245, 245), (250, 210, 20), (245, 120, 15)
RED, GREEN = (205, 25, 25), (15, 130, 65)
FLAME = ((0.5, 0.22), (0.64, 0.48), (0.6, 0.72), (0.4, 0.72), (0.36, 0.48))
ARROW = ((0.2, 0.42), (0.55, 0.42), (0.55, 0.24), (0.84, 0.5), (0.55, 0.76), (0.55, 0.58), (0.2, 0.58))
SQUARE = ((0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94))
TRIANGLE, INNER = ((0.5, 0.04), (0.97, 0.93), (0.03, 0.93)), ((0.5, 0.17), (0.88, 0.87), (0.12, 0.87))
DIAMOND = ((0.5, 0.02), (0.98, 0.5), (0.5, 0.98), (0.02, 0.5))
BAR = ((0.18, 0.41), (0.82, 0.41), (0.82, 0.59), (0.18, 0.59))
SLASH = ((0.16, 0.26), (0.26, 0.16), (0.84, 0.74), (0.74, 0.84))
CIGARETTE = ((0.25, 0.47), (0.75, 0.47), (0.75, 0.55), (0.25, 0.55))


def _disc(radius: float) -> tuple[tuple[float, float], ...]:
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return tuple((0.5 + radius * float(np.cos(a)), 0.5 + radius * float(np.sin(a))) for a in angles)


# Polygons in shares of the side, from back to front, each with its colour.
SIGNS: dict[str, tuple[tuple[tuple[tuple[float, float], ...], tuple[int, int, int]], ...]] = {
    "sign_warning": ((TRIANGLE, BLACK), (INNER, YELLOW), (tuple((x, y + 0.12) for x, y in FLAME), BLACK)),
    "sign_exit": ((SQUARE, GREEN), (ARROW, WHITE)),
    "sign_fire_point": ((SQUARE, RED), (FLAME, WHITE)),
    "sign_no_entry": ((_disc(0.46), RED), (BAR, WHITE)),
    "sign_hot": ((DIAMOND, ORANGE), (FLAME, BLACK)),
    "sign_no_smoking": ((_disc(0.46), RED), (_disc(0.34), WHITE), (CIGARETTE, BLACK), (SLASH, RED)),
}


def sign_image(kind: str, *, side: int) -> np.ndarray:
    """One of SIGNS on its white board, uint8 RGB [side, side, 3].

    Raises:
        ValueError: no such sign.
    """
    if kind not in SIGNS:
        raise ValueError(f"kind: got {kind!r}; use one of {', '.join(SIGNS)}")
    # Drawn large and averaged, so that edges are as smooth as a photograph's.
    scale = 4 * side
    canvas = np.full((scale, scale, 3), BOARD, dtype=np.uint8)
    for polygon, colour in SIGNS[kind]:
        cv2.fillPoly(canvas, [np.round(np.array(polygon) * scale).astype(np.int32)], colour)
    return cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
