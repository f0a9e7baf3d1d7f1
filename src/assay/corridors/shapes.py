"""Polygons for the things that miniworld has no mesh for: boxes, patches on the floor, flames, panels on walls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from assay.corridors.scenes import Scene, Thing

RGB = {
    "red": (0.80, 0.12, 0.10),
    "blue": (0.15, 0.25, 0.70),
    "green": (0.10, 0.45, 0.20),
    "grey": (0.45, 0.45, 0.47),
    "white": (0.92, 0.92, 0.90),
    "brown": (0.42, 0.27, 0.15),
    "violet": (0.38, 0.2, 0.5),
    "orange": (0.9, 0.42, 0.08),
    "frame": (0.15, 0.13, 0.12),
    "dark": (0.13, 0.13, 0.16),
    "skin": (0.72, 0.52, 0.42),
}
SQUARE = ((0, 0), (1, 0), (1, 1), (0, 1))
FRAME = 0.05
WHITE = (1.0, 1.0, 1.0)
YELLOW, ORANGE, RED = (1.0, 0.9, 0.25), (1.0, 0.5, 0.05), (0.85, 0.12, 0.02)
# Heights above the floor, far enough apart for the depth buffer, in the order in which patches may lie on another.
LIFT = {"carpet": 0.01, "water": 0.02, "fire": 0.03}
# Flames of each look: (place along z, place along x, height), each a share of the fire's size.
TONGUES = {
    "lava_1": ((-0.38, 0.2, 0.55), (-0.15, -0.1, 0.9), (0.08, 0.25, 1.0), (0.25, -0.2, 0.75), (0.42, 0.1, 0.5)),
    "lava_2": ((-0.3, 0.1, 0.8), (-0.05, -0.2, 0.65), (0.15, 0.2, 0.95), (0.35, -0.1, 1.0)),
}
# A person from the feet upwards: lower and upper edge, breadth, depth (shares of the figure), and a colour, "" for its look.
FIGURE = ((0.0, 0.48, 0.7, 0.8, "dark"), (0.44, 0.84, 1.0, 1.0, ""), (0.84, 1.0, 0.42, 0.7, "skin"))


@dataclass(frozen=True)
class Face:
    """A flat convex polygon: corners [N, 3] in metres, texture coordinates [N, 2], colours [N, 3] in 0..1.

    `lit` is whether light and shade change its colour; `flush` whether it lies on a wall or floor; `texture` "" is
    plain colour.
    """

    vertices: np.ndarray
    spots: np.ndarray
    colours: np.ndarray
    normal: tuple[float, float, float]
    texture: str = ""
    lit: bool = True
    flush: bool = False


def faces_of(scene: Scene, thing: Thing) -> list[Face]:
    """The polygons of a box, patch, fire or panel, in the scene's coordinates."""
    if thing.kind in ("carton", "cabinet"):
        return box(thing)
    if thing.kind == "person":
        return person(thing)
    if thing.kind == "fire":
        return [patch(thing), *flames(thing)]
    if thing.kind in ("water", "carpet"):
        return [patch(thing)]
    return panel(scene, thing)


def _face(
    vertices: Sequence[Sequence[float]],
    spots: Sequence[Sequence[float]],
    normal: tuple[float, float, float],
    look: str,
    *,
    lit: bool = True,
    flush: bool = False,
) -> Face:
    corners = np.array(vertices, dtype=float)
    colours = np.tile(RGB.get(look, WHITE), (len(corners), 1))
    texture = "" if look in RGB else look
    return Face(corners, np.array(spots, dtype=float), colours, normal, texture, lit, flush)


def box(thing: Thing, *, base: float = 0.0) -> list[Face]:
    """The four sides and the top of a box that stands `base` metres above the floor."""
    width, depth = thing.extent
    x0, x1, z0, z1 = thing.x - width / 2, thing.x + width / 2, thing.z - depth / 2, thing.z + depth / 2
    top = base + thing.height
    ring = [(x0, z0), (x1, z0), (x1, z1), (x0, z1)]
    normals = [(0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (-1.0, 0.0, 0.0)]
    faces = [
        _face([(a, base, b), (c, base, d), (c, top, d), (a, top, b)], SQUARE, normal, thing.look)
        for (a, b), (c, d), normal in zip(ring, ring[1:] + ring[:1], normals, strict=True)
    ]
    return [*faces, _face([(x, top, z) for x, z in ring], SQUARE, (0.0, 1.0, 0.0), thing.look)]


def person(thing: Thing) -> list[Face]:
    """A standing figure of boxes: legs, trunk in the colour of the clothes, head."""
    faces = []
    for low, high, breadth, depth, look in FIGURE:
        part = replace(
            thing,
            width=thing.width * depth,
            depth=thing.depth * breadth,
            height=(high - low) * thing.height,
            look=look or thing.look,
        )
        faces += box(part, base=low * thing.height)
    return faces


def patch(thing: Thing) -> Face:
    """What lies on the floor: a carpet with corners, and water and embers with rounded ones."""
    width, depth = thing.extent
    if thing.kind == "carpet":
        ring = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]
    else:
        angles = [2 * math.pi * step / 40 for step in range(40)]
        ring = [(_rounded(math.cos(a)), _rounded(math.sin(a))) for a in angles]
    corners = [(thing.x + width * u, LIFT[thing.kind], thing.z + depth * v) for u, v in ring]
    return _face(
        corners, [(x, z) for x, _, z in corners], (0.0, 1.0, 0.0), thing.look, lit=thing.kind != "fire", flush=True
    )


def _rounded(value: float) -> float:
    """Maps a circle's coordinate to that of a rectangle with rounded corners (a superellipse of exponent 4)."""
    return math.copysign(math.sqrt(abs(value)), value) / 2


def flames(thing: Thing) -> list[Face]:
    """Tongues of flame that glow by themselves and face the camera's end of the corridor."""
    width, depth = thing.extent
    colours = np.array([YELLOW, ORANGE, RED, ORANGE])
    faces = []
    for across, along, tall in TONGUES[thing.look]:
        x, z = thing.x + along * width, thing.z + across * depth * 0.8
        height, half = tall * thing.height, 0.16 * depth
        lower, upper = 0.03, 0.3 * height
        for scale, tint in ((1.0, colours), (0.55, np.clip(colours + 0.25, 0, 1))):
            ring = [(z, lower), (z + half * scale, upper), (z, height * scale), (z - half * scale, upper)]
            # The inner, brighter tongue stands a little nearer to the camera.
            corners = np.array([(x - 0.03 * (2 - scale), y, side) for side, y in ring])
            faces.append(Face(corners, np.zeros((4, 2)), tint, (-1.0, 0.0, 0.0), "", False))
    return faces


def panel(scene: Scene, thing: Thing) -> list[Face]:
    """A picture, door, vent or sign in a dark frame, just in front of the end wall (x = length) or the side wall."""
    half, low, high = thing.width / 2, thing.base, thing.base + thing.height
    on_end = abs(thing.x - scene.length) < 1e-9
    side = 1 if thing.z > 0 else -1
    normal = (-1.0, 0.0, 0.0) if on_end else (0.0, 0.0, -float(side))

    def at(across: float, up: float) -> tuple[float, float, float]:
        """The point `across` metres right of the middle, as seen from inside, and `up` above the floor."""
        if on_end:
            return scene.length - 0.02, up, thing.z + across
        return thing.x - side * across, up, side * (scene.width / 2 - 0.02)

    def quad(left: float, bottom: float, right: float, top: float, look: str) -> Face:
        corners = [at(left, bottom), at(right, bottom), at(right, top), at(left, top)]
        return _face(corners, SQUARE, normal, look, flush=True)

    # Strips around it rather than a board behind it: far away the depth buffer cannot tell 1 cm.
    strips = [(-half - FRAME, low, -half, high), (half, low, half + FRAME, high)]
    strips.append((-half - FRAME, high, half + FRAME, high + FRAME))
    if thing.kind != "door":
        strips.append((-half - FRAME, low - FRAME, half + FRAME, low))
    return [quad(-half, low, half, high, thing.look), *(quad(*strip, "frame") for strip in strips)]
