"""How much of each thing the camera sees, from the rectangles around things and without drawing anything."""

from __future__ import annotations

import itertools
import math

import numpy as np

from assay.corridors.scenes import PANELS, PATCHES, Scene, Thing, dangers

# miniworld's vertical field of view, and the shape of the image that scenes are composed for.
FIELD_OF_VIEW = 60.0
ASPECT = 4 / 3
GRID = (60, 80)
# A thing counts as seen from this many cells of the grid, if half of its rectangle is in view or it fills a fifth of it.
MIN_CELLS = 10
MIN_SHARE = 0.5
LARGE = 0.2 * GRID[0] * GRID[1]


def project(scene: Scene, points: np.ndarray) -> np.ndarray:
    """Points [N, 3] as seen by the camera, [N, 3]: across and up in -1..1 at the image's edges, and depth in metres.

    The depth of a point beside or behind the camera is raised to 0.1 m, which throws it far out of the image.
    """
    turn, tilt = scene.heading, math.radians(scene.pitch)
    forward = (math.cos(turn) * math.cos(tilt), math.sin(tilt), -math.sin(turn) * math.cos(tilt))
    up = (-math.cos(turn) * math.sin(tilt), math.cos(tilt), math.sin(turn) * math.sin(tilt))
    right = (math.sin(turn), 0.0, math.cos(turn))
    sideways, upwards, depth = np.array([right, up, forward]) @ (points - np.array(scene.camera)).T
    depth = np.maximum(depth, 0.1)
    reach = depth * math.tan(math.radians(FIELD_OF_VIEW / 2))
    return np.stack([sideways / (reach * ASPECT), upwards / reach, depth], axis=1)


def visible_things(scene: Scene) -> tuple[Thing, ...]:
    """The things of a scene, in their order, that a viewer can make out: in view, not hidden and not too small."""
    rectangles = [rectangle(scene, thing) for thing in scene.things]
    covered = np.zeros(GRID, dtype=bool)
    seen = set()
    for index in sorted(range(len(rectangles)), key=lambda index: rectangles[index][4]):
        left, right, low, high, _ = rectangles[index]
        rows, columns = _cells(low, high, GRID[0]), _cells(left, right, GRID[1])
        free = int((~covered[rows, columns]).sum())
        area = (right - left) * (high - low) / 4 * GRID[0] * GRID[1]
        if free >= MIN_CELLS and (free >= MIN_SHARE * area or free >= LARGE):
            seen.add(index)
        if scene.things[index].kind not in (*PANELS, "water", "carpet"):
            covered[rows, columns] = True
    return tuple(thing for index, thing in enumerate(scene.things) if index in seen)


def danger_boxes(scene: Scene) -> list[list[float]]:
    """Where in the image `dangers` are: [left, upper, right, lower] of each, in shares of its sides, to three decimals."""
    found = []
    for thing in dangers(scene):
        left, right, low, high, _ = rectangle(scene, thing)
        edges = ((left + 1) / 2, (1 - high) / 2, (right + 1) / 2, (1 - low) / 2)
        found.append([round(min(max(edge, 0.0), 1.0), 3) for edge in edges])
    return found


def _cells(start: float, end: float, count: int) -> slice:
    """The grid's cells whose middle lies between two coordinates in -1..1."""
    first, last = (math.ceil((edge + 1) / 2 * count - 0.5) for edge in (start, end))
    return slice(max(first, 0), max(min(last, count), 0))


def rectangle(scene: Scene, thing: Thing) -> tuple[float, float, float, float, float]:
    """Left, right, lower and upper edge in -1..1, and the distance of the centre; empty if behind the camera."""
    width, depth = thing.extent
    if thing.kind in PANELS:
        on_end = abs(thing.x - scene.length) < 1e-9
        width, depth = (0.0, thing.width) if on_end else (thing.width, 0.0)
    height = 0.0 if thing.kind in PATCHES and thing.kind != "fire" else thing.height
    xs, zs = (thing.x - width / 2, thing.x + width / 2), (thing.z - depth / 2, thing.z + depth / 2)
    points = np.array(list(itertools.product(xs, (thing.base, thing.base + height), zs)))
    seen = project(scene, points)
    distance = math.dist((thing.x, thing.z), (scene.camera[0], scene.camera[2]))
    if np.all(seen[:, 2] <= 0.1):
        return 0.0, 0.0, 0.0, 0.0, distance
    (left, low), (right, high) = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
    return float(left), float(right), float(low), float(high), distance
