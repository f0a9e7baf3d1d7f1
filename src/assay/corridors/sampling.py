"""Random scenes of a wanted class, well clear of the rule's thresholds and with everything in them in view."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from assay.corridors.looks import SEEN, Looks
from assay.corridors.scenes import (
    DEFAULT_LIMITS,
    HIGH,
    LABELS,
    LOW,
    MEDIUM,
    NO_RISK,
    NOT_A_CORRIDOR,
    PANELS,
    Limits,
    Scene,
    Thing,
    risk,
)
from assay.corridors.things import (
    decorations,
    extras,
    look_of,
    ordinary,
    panel,
    people,
    pick,
    row,
    side,
    to_wall,
    uniform,
)
from assay.corridors.visibility import visible_things

# No threshold of the rule may lie so near that moving it by this many metres would change the class.
MARGIN = 0.15
MAX_TRIES = 1000
# How likely a thing stands at a wall behind what makes the class, and a person anywhere.
CLUTTER, PERSON = 0.35, 0.35


def sample_scene(rng: np.random.Generator, label: str, *, looks: Looks = SEEN) -> Scene:
    """A random scene whose class is `label`, by the rule and by the rule with every threshold moved by MARGIN.

    Whatever could not be made out (hidden, out of view, too small) is left out before the class is judged, so that
    image, caption and class agree.

    Raises:
        ValueError: a label that is not one of LABELS.
    """
    if label not in LABELS:
        raise ValueError(f"label: got {label!r}; use one of {', '.join(LABELS)}")
    for _ in range(MAX_TRIES):
        scene = _DRAW[label](rng, looks)
        scene = replace(scene, things=visible_things(scene))
        if clear_risk(scene) == label and not crowded(scene):
            return scene
    raise AssertionError(f"no scene of class {label} in {MAX_TRIES} tries")


def clear_risk(scene: Scene) -> str | None:
    """The class of a scene if moving every threshold by MARGIN, either way, leaves it as it is; else None."""
    base = DEFAULT_LIMITS
    found = {
        risk(scene, Limits(base.blocked + a * MARGIN, base.narrow + b * MARGIN, base.at_wall + c * MARGIN))
        for a, b, c in itertools.product((-1, 0, 1), repeat=3)
    }
    return found.pop() if len(found) == 1 else None


def crowded(scene: Scene) -> bool:
    """Whether two things or people overlap (a box may stand in the fire), or one stands in a corridor's wall."""
    things = [thing for thing in scene.things if thing.kind not in ("carpet", *PANELS)]
    room = scene.width / 2 + 1e-6
    if scene.kind == "corridor" and any(abs(thing.z) + thing.extent[1] / 2 > room for thing in things):
        return True
    pairs = itertools.combinations(things, 2)
    return any(_overlap(one, two) for one, two in pairs if {one.kind, two.kind} != {"carton", "fire"})


def _overlap(one: Thing, two: Thing) -> bool:
    (width, depth), (other_width, other_depth) = one.extent, two.extent
    return abs(one.x - two.x) < (width + other_width) / 2 and abs(one.z - two.z) < (depth + other_depth) / 2


def _grey(
    rng: np.random.Generator, levels: tuple[float, float], warmth: tuple[float, float]
) -> tuple[float, float, float]:
    """A grey level within `levels`, warmer or colder by as much as `warmth` allows."""
    level, tint = uniform(rng, *levels), uniform(rng, *warmth)
    return level + tint, level, level - tint


def _light(rng: np.random.Generator, scene: Scene, looks: Looks) -> Scene:
    light = (uniform(rng, *looks.light), uniform(rng, 1, 4), uniform(rng, -2, 2))
    levels = looks.brightness, looks.ambient
    if rng.random() < looks.dark_share:
        levels = looks.dark_brightness, looks.dark_ambient
    brightness, ambient = (_grey(rng, level, looks.warmth) for level in levels)
    return replace(scene, light=light, brightness=brightness, ambient=ambient)


def _corridor(rng: np.random.Generator, width: float, things: list[Thing], looks: Looks) -> Scene:
    length = uniform(rng, 7, 10)
    more = people(rng, width, (2.2, 6.0), PERSON, looks) + decorations(rng, width, length, looks)
    scene = Scene(
        kind="corridor",
        width=width,
        length=length,
        height=uniform(rng, 2.4, 3.0),
        wall=pick(rng, looks.walls),
        floor=pick(rng, looks.floors),
        ceiling=pick(rng, looks.ceilings),
        things=(*things, *more),
        camera=(uniform(rng, 0.2, 0.6), uniform(rng, 1.35, 1.75), uniform(rng, -0.15, 0.15)),
        heading=uniform(rng, -0.08, 0.08),
        pitch=uniform(rng, -22, -16),
    )
    return _light(rng, scene, looks)


def _width(rng: np.random.Generator) -> float:
    return uniform(rng, 1.9, 2.8)


def _no_risk(rng: np.random.Generator, looks: Looks) -> Scene:
    return _corridor(rng, _width(rng), [], looks)


def _low(rng: np.random.Generator, looks: Looks) -> Scene:
    width = _width(rng)
    kind = "water" if rng.random() < 0.3 else pick(rng, looks.at_wall)
    first = to_wall(rng, ordinary(rng, kind, uniform(rng, 2.3, 3.0), looks=looks), width, side(rng))
    return _corridor(rng, width, [first, *extras(rng, width, (4.6,), CLUTTER, looks)], looks)


def _medium(rng: np.random.Generator, looks: Looks) -> Scene:
    width, x = _width(rng), uniform(rng, 2.4, 3.1)
    case = rng.integers(5)
    if case == 0:
        found = [ordinary(rng, pick(rng, looks.in_middle), x, uniform(rng, -0.4, 0.4), looks=looks)]
    elif case == 1:
        found = row(rng, width, x, uniform(rng, 0.75, 0.95), looks)
    elif case == 2:
        size = (uniform(rng, 1.0, 2.6), width - uniform(rng, 0.02, 0.6))
        puddle = Thing("water", x + 0.4, 0.0, 0.0, 0.0, *size, look_of(rng, "water", looks))
        found = [to_wall(rng, puddle, width, side(rng))]
    elif case == 3:
        found = [ordinary(rng, "water", x, uniform(rng, -0.3, 0.3), looks=looks)]
    else:
        found = [to_wall(rng, ordinary(rng, "carton", x, looks=looks), width, side(rng))]
    return _corridor(rng, width, found + extras(rng, width, (5.0,), CLUTTER, looks), looks)


def _high(rng: np.random.Generator, looks: Looks) -> Scene:
    width, x = _width(rng), uniform(rng, 2.4, 3.2)
    more = extras(rng, width, (5.2,), CLUTTER, looks)
    if rng.random() < 0.45:
        return _corridor(rng, width, row(rng, width, x, uniform(rng, 0.02, 0.4), looks) + more, looks)
    fire = ordinary(rng, "fire", x, uniform(rng, 0.55 - width / 2, width / 2 - 0.55), looks=looks)
    if rng.random() < 0.3:
        # Beside the fire rather than behind it, where it could not be made out.
        box = ordinary(rng, "carton", x + 0.2, looks=looks)
        more.append(replace(box, z=fire.z + side(rng) * (fire.depth + box.depth) / 2))
    return _corridor(rng, width, [fire, *more], looks)


def _not_a_corridor(rng: np.random.Generator, looks: Looks) -> Scene:
    kinds, draws = zip(*_OTHER.items(), strict=True)
    chosen = kinds[int(rng.choice(len(kinds), p=[share for share, _ in draws]))]
    return _light(rng, _OTHER[chosen][1](rng, looks), looks)


def _empty(rng: np.random.Generator, kind: str, size: float, camera_x: float, pitch: float, looks: Looks) -> Scene:
    """A square place without things."""
    return Scene(
        kind=kind,
        width=size,
        length=size,
        height=uniform(rng, 2.6, 3.4),
        wall=pick(rng, looks.walls),
        floor=pick(rng, looks.floors),
        ceiling=pick(rng, looks.ceilings),
        things=(),
        camera=(camera_x, uniform(rng, 1.35, 1.75), uniform(rng, -0.8, 0.8)),
        heading=uniform(rng, -0.3, 0.3),
        pitch=pitch,
    )


def _z_in_view(rng: np.random.Generator, scene: Scene, away: float) -> float:
    """The z of a place in the camera's view, `away` metres along x."""
    return scene.camera[2] + away * math.tan(uniform(rng, -0.45, 0.45) - scene.heading)


def _room(rng: np.random.Generator, looks: Looks) -> Scene:
    """A room with up to four things, some of which would be dangerous in a corridor, and people."""
    scene = _empty(rng, "room", uniform(rng, 6.5, 9), 0.5, uniform(rng, -14, -4), looks)
    kinds = (*looks.at_wall, *looks.in_middle, "carton", "fire", "water", "person")
    things = []
    for x in np.linspace(3, scene.length - 1.2, int(rng.integers(5))).tolist():
        away = x - scene.camera[0]
        z = _z_in_view(rng, scene, away)
        z = min(max(z, 1 - scene.width / 2), scene.width / 2 - 1)
        things.append(ordinary(rng, pick(rng, kinds), x, z, looks=looks))
    return replace(scene, things=tuple(things))


def _outdoor(rng: np.random.Generator, looks: Looks) -> Scene:
    """Trees and houses under the sky."""
    scene = _empty(rng, "outdoor", 90, 30, uniform(rng, -10, 6), looks)
    things = []
    for _ in range(int(rng.integers(1, 6))):
        kind, away = pick(rng, looks.outdoor_kinds), uniform(rng, 6, 18)
        height = uniform(rng, 6, 9) if kind == "building" else uniform(rng, 3, 6)
        away += 12 if kind == "building" else 0
        z = _z_in_view(rng, scene, away)
        things.append(Thing(kind, 30 + away, z, uniform(rng, -math.pi, math.pi), height))
    red, green, blue = (float(value) for value in rng.uniform((0.4, 0.6, 0.8), (0.7, 0.85, 1.0)))
    floor = pick(rng, looks.outdoor_floors)
    return replace(scene, height=0.02, floor=floor, ceiling="", things=tuple(things), sky=(red, green, blue))


def _wall(rng: np.random.Generator, looks: Looks) -> Scene:
    """A wall from so near that neither floor nor ceiling shows."""
    scene = _empty(rng, "wall", 5.0, 5.0 - uniform(rng, 0.7, 1.2), uniform(rng, -6, 6), looks)
    panels = [panel(rng, pick(rng, PANELS), 5.0, scene.camera[2], looks)] if rng.random() < 0.6 else []
    return replace(scene, things=tuple(panels))


def _floor(rng: np.random.Generator, looks: Looks) -> Scene:
    """A floor from above, with or without a small thing."""
    scene = _empty(rng, "floor", 8.0, 3.0, uniform(rng, -78, -62), looks)
    thing = ordinary(rng, pick(rng, looks.small), 3.6, scene.camera[2], looks=looks)
    return replace(scene, things=(thing,) if rng.random() < 0.5 else ())


def _ceiling(rng: np.random.Generator, looks: Looks) -> Scene:
    return _empty(rng, "ceiling", 8.0, 3.5, uniform(rng, 60, 78), looks)


Draw = Callable[[np.random.Generator, Looks], Scene]
_DRAW: dict[str, Draw] = {
    NO_RISK: _no_risk,
    LOW: _low,
    MEDIUM: _medium,
    HIGH: _high,
    NOT_A_CORRIDOR: _not_a_corridor,
}
# Each other view with its share.
_OTHER: dict[str, tuple[float, Draw]] = {
    "room": (0.4, _room),
    "outdoor": (0.25, _outdoor),
    "wall": (0.15, _wall),
    "floor": (0.12, _floor),
    "ceiling": (0.08, _ceiling),
}
