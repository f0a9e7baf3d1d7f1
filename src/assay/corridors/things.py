"""Random things: of ordinary sizes, at a wall, in a row, on the walls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from assay.corridors.looks import Looks
from assay.corridors.scenes import MESHES, PANELS, Thing

MESH_HEIGHTS = {
    "barrel": (0.8, 1.0),
    "barrier": (0.45, 0.6),
    "cone": (0.5, 0.8),
    "chair": (0.9, 1.1),
    "desk": (0.75, 0.9),
    "medkit": (0.35, 0.5),
    "ball": (0.5, 0.75),
    "duckie": (0.45, 0.65),
    "potion": (0.7, 1.0),
}
# Least and most of (width, depth, height) at direction 0.
SIZES = {
    "carton": ((0.45, 0.45, 0.4), (0.7, 0.7, 1.1)),
    "cabinet": ((0.4, 0.35, 0.7), (0.9, 0.6, 1.6)),
    "fire": ((0.6, 0.6, 0.8), (1.1, 1.0, 1.5)),
    "water": ((0.8, 0.45, 0.0), (1.8, 0.9, 0.0)),
    "person": ((0.26, 0.42, 1.5), (0.34, 0.52, 1.85)),
}
# Spots along x where a wall may hold a panel, and how likely each does.
SPOTS, PANEL_CHANCE = (2.4, 3.2, 4.2, 5.6), 0.3


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """One of `options`, each as likely as the others."""
    return options[int(rng.integers(len(options)))]


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between two others."""
    return float(rng.uniform(low, high))


def side(rng: np.random.Generator) -> int:
    """-1 for left or 1 for right."""
    return 1 if rng.random() < 0.5 else -1


def look_of(rng: np.random.Generator, kind: str, looks: Looks) -> str:
    """The texture or colour of a thing that has one; "" for meshes that bring their own."""
    pools = {"carton": looks.cartons, "cabinet": looks.cabinets, "water": looks.waters, "fire": looks.fires}
    pools |= {"person": looks.clothes, "carpet": looks.carpets, "ball": looks.balls, "door": looks.doors}
    pools |= {"picture": looks.pictures, "sign": looks.signs, "vent": ("airduct_grate_1",)}
    return pick(rng, pools[kind]) if kind in pools else ""


def ordinary(
    rng: np.random.Generator, kind: str, x: float, z: float = 0.0, *, looks: Looks, across: bool = False
) -> Thing:
    """A thing of ordinary size and look; what is long lies along the corridor, or across it."""
    look = look_of(rng, kind, looks)
    if kind not in MESHES:
        low, high = SIZES[kind]
        width, depth, height = (float(size) for size in rng.uniform(low, high))
        return Thing(kind, x, z, 0.0, height, width, depth, look)
    turn = math.pi / 2 if across else 0.0
    if kind in ("barrel", "cone", "ball", "potion"):
        turn = uniform(rng, -math.pi, math.pi)
    elif kind in ("chair", "duckie"):
        turn = math.pi / 2 * int(rng.integers(4))
    return Thing(kind, x, z, turn, uniform(rng, *MESH_HEIGHTS[kind]), look=look)


def to_wall(rng: np.random.Generator, thing: Thing, width: float, where: int) -> Thing:
    """`thing` moved to within 10 cm of the left (-1) or right (1) wall of a corridor `width` wide."""
    return replace(thing, z=where * (width / 2 - thing.extent[1] / 2 - uniform(rng, 0.02, 0.1)))


def row(rng: np.random.Generator, width: float, x: float, gap: float, looks: Looks) -> list[Thing]:
    """Things of one kind side by side from one wall, which leave about `gap` metres at the other."""
    kind, where = pick(rng, looks.in_row), side(rng)
    span = width - gap
    first = ordinary(rng, kind, x, across=True, looks=looks)
    if kind == "barrier":
        return [replace(first, height=span / MESHES[kind][0], z=where * (0.02 - gap / 2))]
    size = first.extent[1]
    count = max(1, int(span / size))
    pitch = size + (span - count * size) / count
    found = []
    for number in range(count):
        z = where * (pitch * number + size / 2 + 0.02 - width / 2)
        look = look_of(rng, kind, looks) if kind in ("cabinet", "ball") else first.look
        found.append(replace(first, x=x + uniform(rng, -0.1, 0.1), z=z, look=look))
    return found


def extras(rng: np.random.Generator, width: float, depths: Sequence[float], chance: float, looks: Looks) -> list[Thing]:
    """At each of `depths`, with probability `chance`, a thing at one of the walls."""
    return [
        to_wall(
            rng, ordinary(rng, pick(rng, looks.at_wall), x + uniform(rng, -0.2, 0.2), looks=looks), width, side(rng)
        )
        for x in depths
        if rng.random() < chance
    ]


def people(
    rng: np.random.Generator, width: float, depths: tuple[float, float], chance: float, looks: Looks
) -> list[Thing]:
    """With probability `chance` a person, now and then two, anywhere across `width` between two `depths`."""
    count = int(rng.random() < chance) * (1 + int(rng.random() < 0.25))
    found = []
    for _ in range(count):
        figure = ordinary(rng, "person", uniform(rng, *depths), looks=looks)
        room = (width - figure.depth) / 2 - 0.05
        found.append(replace(figure, z=uniform(rng, -room, room)))
    return found


def decorations(rng: np.random.Generator, width: float, length: float, looks: Looks) -> list[Thing]:
    """Panels on the walls and at the end, signs among them, and now and then a carpet."""
    found = []
    for x in SPOTS:
        if rng.random() < PANEL_CHANCE:
            kind = pick(rng, (*PANELS, "sign"))
            found.append(panel(rng, kind, x + uniform(rng, -0.2, 0.2), side(rng) * width / 2, looks))
    if rng.random() < 0.35:
        found.append(panel(rng, pick(rng, ("door", "door", "sign")), length, 0.0, looks))
    if rng.random() < 0.12:
        depth = width * uniform(rng, 0.35, 0.6)
        look = look_of(rng, "carpet", looks)
        found.append(Thing("carpet", length / 2 + 0.5, 0.0, 0.0, 0.0, length - 2, depth, look))
    return found


def panel(rng: np.random.Generator, kind: str, x: float, z: float, looks: Looks) -> Thing:
    """A picture, door, vent or sign on the wall that (x, z) lies on."""
    look = look_of(rng, kind, looks)
    if kind == "door":
        return Thing(kind, x, z, height=2.0, width=uniform(rng, 0.8, 1.0), look=look)
    if kind == "vent":
        return Thing(kind, x, z, height=0.5, width=0.5, look=look, base=uniform(rng, 0.3, 1.6))
    size = uniform(rng, 0.35, 0.6) if kind == "sign" else uniform(rng, 0.5, 0.8)
    return Thing(kind, x, z, height=size, width=size, look=look, base=uniform(rng, 0.9, 1.4))
