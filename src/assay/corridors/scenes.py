"""A made-up image as data: what stands where in a corridor (or elsewhere), how risky that is, and its caption.

Lengths are metres and angles radians unless said otherwise. The floor is the plane y = 0; x runs away from the
camera's end of the corridor, from 0 to `length`; z runs across it, from -width/2 (left) to width/2 (right).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from assay.corridors.looks import BY_ROLE

NO_RISK, LOW, MEDIUM, HIGH, NOT_A_CORRIDOR = LABELS = ("无风险", "低风险", "中风险", "高风险", "非楼道")

# Meshes: (width along x, depth along z) at direction 0 for a height of 1 m.
MESHES = {
    "barrel": (0.692, 0.692),
    "barrier": (3.557, 0.711),
    "cone": (0.634, 0.634),
    "chair": (0.615, 0.580),
    "desk": (1.052, 0.517),
    "medkit": (1.102, 0.612),
    "tree": (1.054, 0.784),
    "pine": (0.566, 0.567),
    "ball": (1.002, 1.002),
    "duckie": (1.090, 0.758),
    "potion": (0.509, 0.509),
    "building": (1.067, 0.707),
}
BOXES = ("carton", "cabinet")
PATCHES = ("water", "carpet", "fire")
PANELS = ("picture", "door", "vent", "sign")
PEOPLE = ("person",)
KINDS = (*MESHES, *BOXES, *PATCHES, *PANELS, *PEOPLE)
VIEWS = ("corridor", "room", "outdoor", "wall", "floor", "ceiling")
# People walk on; what hangs on a wall is in nobody's way, whatever it warns of.
HARMLESS = ("carpet", *PANELS, *PEOPLE)
WALLS = tuple(sorted({wall for looks in BY_ROLE.values() for wall in looks.walls}))
FLOORS = tuple(sorted({name for looks in BY_ROLE.values() for name in (*looks.floors, *looks.outdoor_floors)}))


@dataclass(frozen=True)
class Thing:
    """One thing. A mesh is scaled to `height`; a box or patch is `width` along x by `depth` along z at direction 0.

    `look` is a texture's file stem (`cardboard_1`), a sign's name or a colour of `assay.corridors.shapes.RGB`. A panel
    hangs on the wall that (x, z) lies on, `width` wide along it, its lower edge `base` above the floor.
    """

    kind: str
    x: float
    z: float
    direction: float = 0.0
    height: float = 0.0
    width: float = 0.0
    depth: float = 0.0
    look: str = ""
    base: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: got {self.kind!r}; use one of {', '.join(KINDS)}")

    @property
    def extent(self) -> tuple[float, float]:
        """Size along x and along z of the upright rectangle around the thing's footprint."""
        width, depth = self.width, self.depth
        if self.kind in MESHES:
            width, depth = (side * self.height for side in MESHES[self.kind])
        cos, sin = abs(math.cos(self.direction)), abs(math.sin(self.direction))
        return width * cos + depth * sin, width * sin + depth * cos


@dataclass(frozen=True)
class Scene:
    """What is drawn: the place, its textures (file stems of miniworld), the things, the camera and the light.

    `pitch` is in degrees, upwards positive; `heading` 0 looks along +x and positive turns left. `light` is the
    direction the light comes from; `brightness`, `ambient` and `sky` are RGB in 0..1. `ceiling` "" is open sky.
    """

    kind: str
    width: float
    length: float
    height: float
    wall: str
    floor: str
    ceiling: str
    things: tuple[Thing, ...]
    camera: tuple[float, float, float]
    heading: float
    pitch: float
    light: tuple[float, float, float] = (0.0, 2.5, 0.0)
    brightness: tuple[float, float, float] = (0.6, 0.6, 0.6)
    ambient: tuple[float, float, float] = (0.45, 0.45, 0.45)
    sky: tuple[float, float, float] = (0.55, 0.75, 0.95)

    def __post_init__(self) -> None:
        for field, known in (("kind", VIEWS), ("wall", WALLS), ("floor", FLOORS)):
            value = getattr(self, field)
            if value not in known:
                raise ValueError(f"{field}: got {value!r}; use one of {', '.join(known)}")


@dataclass(frozen=True)
class Limits:
    """The rule's thresholds in metres."""

    blocked: float = 0.6
    narrow: float = 1.1
    at_wall: float = 0.3


DEFAULT_LIMITS = Limits()


def free_width(scene: Scene, *, wet: bool = False) -> float:
    """The narrowest place of the way: the least, over all depths, of the widest gap between things and walls.

    Only what stands on the floor counts; with `wet`, water does too. Fire is judged by itself and never counts.
    """
    return min((free for free, _ in _places(scene, wet=wet)), default=scene.width)


def dangers(scene: Scene, limits: Limits = DEFAULT_LIMITS) -> tuple[Thing, ...]:
    """What makes a scene of high risk by `risk`: what burns, and what leaves too little free; nothing in other scenes."""
    if risk(scene, limits) != HIGH:
        return ()
    blocking = {
        id(thing) for free, standing in _places(scene, wet=False) if free < limits.blocked for thing in standing
    }
    return tuple(thing for thing in scene.things if thing.kind == "fire" or id(thing) in blocking)


def _places(scene: Scene, *, wet: bool) -> Iterator[tuple[float, list[Thing]]]:
    """At every depth where the things on the floor change: the widest gap there, and what stands beside it."""
    skipped = {"fire", *HARMLESS} if wet else {"fire", "water", *HARMLESS}
    things = [thing for thing in scene.things if thing.kind not in skipped]
    edges = sorted({thing.x + side * thing.extent[0] / 2 for thing in things for side in (-1, 1)})
    for near, far in itertools.pairwise(edges):
        depth = (near + far) / 2
        standing = [thing for thing in things if abs(thing.x - depth) < thing.extent[0] / 2]
        reached, widest = -scene.width / 2, 0.0
        for start, end in [*sorted(map(_across, standing)), (scene.width / 2, scene.width / 2)]:
            widest = max(widest, start - reached)
            reached = max(reached, end)
        yield widest, standing


def _across(thing: Thing) -> tuple[float, float]:
    half = thing.extent[1] / 2
    return thing.z - half, thing.z + half


def wall_gap(scene: Scene, thing: Thing) -> float:
    """The gap between a thing and the nearer side wall."""
    start, end = _across(thing)
    return min(start + scene.width / 2, scene.width / 2 - end)


def risk(scene: Scene, limits: Limits = DEFAULT_LIMITS) -> str:
    """The class of a scene by a written rule: the first row that holds, read downwards.

    | class  | when                                                                                           |
    |--------|------------------------------------------------------------------------------------------------|
    | 非楼道 | the view is not of a corridor, whatever is in it                                               |
    | 高风险 | anything burns, wherever; or the free width is under `limits.blocked` (0.6 m)                  |
    | 中风险 | cardboard boxes anywhere (they burn well); or something, water too, stands over                |
    |        | `limits.at_wall` (0.3 m) from both walls; or less than `limits.narrow` (1.1 m) is free and dry |
    | 低风险 | anything else on the floor: things or a puddle at the wall                                     |
    | 无风险 | nothing on the floor but carpet; people walk on, and what hangs on the walls does no harm       |

    The free width is that of `free_width`. The thresholds are ours, chosen so that the classes can be seen.
    """
    if scene.kind != "corridor":
        return NOT_A_CORRIDOR
    things = [thing for thing in scene.things if thing.kind not in HARMLESS]
    kinds = {thing.kind for thing in things}
    if "fire" in kinds or free_width(scene) < limits.blocked:
        return HIGH
    if "carton" in kinds or any(wall_gap(scene, thing) > limits.at_wall for thing in things):
        return MEDIUM
    if free_width(scene, wet=True) < limits.narrow:
        return MEDIUM
    return LOW if things else NO_RISK


PLACES = {"corridor": "楼道", "room": "房间", "outdoor": "室外", "wall": "墙面", "floor": "地面", "ceiling": "天花板"}
NOUNS = {
    "fire": "火",
    "water": "水",
    "carton": "纸箱",
    "barrier": "路障",
    "barrel": "桶",
    "cabinet": "柜子",
    "desk": "桌子",
    "chair": "椅子",
    "cone": "路锥",
    "medkit": "药箱",
    "tree": "树",
    "pine": "松树",
    "building": "楼",
    "ball": "球",
    "duckie": "玩具",
    "potion": "瓶子",
    "person": "人",
}
SIDES = ("左边", "中间", "右边", "横着", "")
NOTHING = "空"


def caption(scene: Scene) -> str:
    """What and who stands or lies on the floor and where, in a fixed vocabulary and order; it never names a risk class.

    The place, then each thing once, in the order of NOUNS, with its side (a third of a corridor's width, or 横着 where
    it takes over 70 % of it); 空 where there is nothing. Walls, and what hangs on them or carpets the floor, are left
    out, as people leave them out. 楼道：中间火、左边桌子.
    """
    kinds = list(NOUNS)
    found = {(kinds.index(thing.kind), _side(scene, thing)) for thing in scene.things if thing.kind in NOUNS}
    named = [
        f"{side}{NOUNS[kinds[kind]]}" for kind, side in sorted(found, key=lambda key: (key[0], SIDES.index(key[1])))
    ]
    return f"{PLACES[scene.kind]}：{'、'.join(named) or NOTHING}"


def _side(scene: Scene, thing: Thing) -> str:
    if scene.kind != "corridor":
        return ""
    if thing.extent[1] > 0.7 * scene.width:
        return "横着"
    third = scene.width / 6
    return "左边" if thing.z < -third else "右边" if thing.z > third else "中间"
