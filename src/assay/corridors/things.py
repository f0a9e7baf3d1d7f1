"""Random things: of ordinary sizes, at a wall, in a row, on the walls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from assay.corridors.scenes import COLOURS, MESHES, PANELS, Thing

AT_WALL = ("barrel", "cone", "chair", "desk", "medkit", "cabinet", "barrier")
IN_MIDDLE = ("barrel", "cone", "chair", "medkit", "cabinet")
IN_ROW = ("barrel", "chair", "desk", "cabinet", "carton", "barrier")
PICTURES = (
    "portraits/paolo_veronese1",
    "portraits/edwin_longsden_long1",
    "portraits/henryk_siemiradzki1",
    "logo_mila_1",
)
DOORS = ("door_steel_red", "door_steel_brown", "door_steel_grey", "door_garage_red", "door_garage_white")
CARPETS = ("red", "blue", "green", "brown")
WATERS, FIRES, CARTONS = ("water_1", "water_2"), ("lava_1", "lava_2"), ("cardboard_1", "cardboard_2")
MESH_HEIGHTS = {
    "barrel": (0.8, 1.0),
    "barrier": (0.45, 0.6),
    "cone": (0.5, 0.8),
    "chair": (0.9, 1.1),
    "desk": (0.75, 0.9),
    "medkit": (0.35, 0.5),
}
# Least and most of (width, depth, height) at direction 0.
SIZES = {
    "carton": ((0.45, 0.45, 0.4), (0.7, 0.7, 1.1)),
    "cabinet": ((0.4, 0.35, 0.7), (0.9, 0.6, 1.6)),
    "fire": ((0.6, 0.6, 0.8), (1.1, 1.0, 1.5)),
    "water": ((0.8, 0.45, 0.0), (1.8, 0.9, 0.0)),
}
LOOKS = {"carton": CARTONS, "cabinet": COLOURS, "fire": FIRES, "water": WATERS}


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """One of `options`, each as likely as the others."""
    return options[int(rng.integers(len(options)))]


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between two others."""
    return float(rng.uniform(low, high))


def side(rng: np.random.Generator) -> int:
    """-1 for left or 1 for right."""
    return 1 if rng.random() < 0.5 else -1


def ordinary(rng: np.random.Generator, kind: str, x: float, z: float = 0.0, *, across: bool = False) -> Thing:
    """A thing of ordinary size and look; what is long lies along the corridor, or across it."""
    if kind not in MESHES:
        low, high = SIZES[kind]
        width, depth, height = (float(size) for size in rng.uniform(low, high))
        return Thing(kind, x, z, 0.0, height, width, depth, pick(rng, LOOKS[kind]))
    turn = math.pi / 2 if across else 0.0
    if kind in ("barrel", "cone"):
        turn = uniform(rng, -math.pi, math.pi)
    elif kind == "chair":
        turn = math.pi / 2 * int(rng.integers(4))
    return Thing(kind, x, z, turn, uniform(rng, *MESH_HEIGHTS[kind]))


def to_wall(rng: np.random.Generator, thing: Thing, width: float, where: int) -> Thing:
    """`thing` moved to within 10 cm of the left (-1) or right (1) wall of a corridor `width` wide."""
    return replace(thing, z=where * (width / 2 - thing.extent[1] / 2 - uniform(rng, 0.02, 0.1)))


def row(rng: np.random.Generator, width: float, x: float, gap: float) -> list[Thing]:
    """Things of one kind side by side from one wall, which leave about `gap` metres at the other."""
    kind, where = pick(rng, IN_ROW), side(rng)
    span = width - gap
    first = ordinary(rng, kind, x, across=True)
    if kind == "barrier":
        return [replace(first, height=span / MESHES[kind][0], z=where * (0.02 - gap / 2))]
    size = first.extent[1]
    count = max(1, int(span / size))
    pitch = size + (span - count * size) / count
    found = []
    for number in range(count):
        z = where * (pitch * number + size / 2 + 0.02 - width / 2)
        look = pick(rng, LOOKS[kind]) if kind == "cabinet" else first.look
        found.append(replace(first, x=x + uniform(rng, -0.1, 0.1), z=z, look=look))
    return found


def extras(rng: np.random.Generator, width: float, depths: Sequence[float], chance: float) -> list[Thing]:
    """At each of `depths`, with probability `chance`, a thing at one of the walls."""
    return [
        to_wall(rng, ordinary(rng, pick(rng, AT_WALL), x + uniform(rng, -0.2, 0.2)), width, side(rng))
        for x in depths
        if rng.random() < chance
    ]


def decorations(rng: np.random.Generator, width: float, length: float) -> list[Thing]:
    """Up to four panels on the walls, and now and then a carpet."""
    found = []
    for x in (2.4, 3.8, 5.6):
        if rng.random() < 0.15:
            found.append(panel(rng, pick(rng, PANELS), x + uniform(rng, -0.2, 0.2), side(rng) * width / 2))
    if rng.random() < 0.3:
        found.append(panel(rng, "door", length, 0.0))
    if rng.random() < 0.08:
        depth = width * uniform(rng, 0.35, 0.6)
        found.append(Thing("carpet", length / 2 + 0.5, 0.0, 0.0, 0.0, length - 2, depth, pick(rng, CARPETS)))
    return found


def panel(rng: np.random.Generator, kind: str, x: float, z: float) -> Thing:
    """A picture, door or vent on the wall that (x, z) lies on."""
    if kind == "door":
        return Thing(kind, x, z, height=2.0, width=uniform(rng, 0.8, 1.0), look=pick(rng, DOORS))
    if kind == "vent":
        return Thing(kind, x, z, height=0.5, width=0.5, look="airduct_grate_1", base=uniform(rng, 0.3, 1.6))
    size = uniform(rng, 0.5, 0.8)
    return Thing(kind, x, z, height=size, width=size, look=pick(rng, PICTURES), base=uniform(rng, 1.0, 1.4))
