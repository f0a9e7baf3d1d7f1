"""The written rule on hand-made corridors, and sampled scenes against the rule, its margins and the captions."""

import dataclasses
import json
import math

import numpy as np
import pytest

from assay.corridors.looks import BY_ROLE, SEEN, Looks
from assay.corridors.sampling import MARGIN, clear_risk, crowded, sample_scene
from assay.corridors.scenes import (
    FLOORS,
    HARMLESS,
    HIGH,
    KINDS,
    LABELS,
    LOW,
    MEDIUM,
    NO_RISK,
    NOT_A_CORRIDOR,
    NOTHING,
    NOUNS,
    PLACES,
    SIDES,
    VIEWS,
    WALLS,
    Limits,
    Scene,
    Thing,
    caption,
    dangers,
    free_width,
    risk,
    wall_gap,
)
from assay.corridors.signs import SIGNS
from assay.corridors.visibility import danger_boxes, project, visible_things

WIDTH = 2.4
EPSILON = 1e-6


def corridor(*things: Thing, kind: str = "corridor") -> Scene:
    camera = (0.5, 1.5, 0.0)
    return Scene(kind, WIDTH, 10.0, 2.7, "brick_wall_1", "wood_1", "ceiling_tiles_1", things, camera, 0.0, -12.0)


LOOK = {"cabinet": "red", "carton": "cardboard_1", "water": "water_1"}


def block(start: float, end: float, kind: str = "cabinet", x: float = 4.0) -> Thing:
    """A thing from `start` to `end` metres right of the left wall."""
    return Thing(kind, x, (start + end - WIDTH) / 2, height=1.0, width=0.5, depth=end - start, look=LOOK[kind])


DOOR = Thing("door", 10.0, 0.0, height=2.0, width=0.9, look="door_steel_red")
SIGN = Thing("sign", 10.0, 0.0, height=0.5, width=0.5, look="sign_warning", base=1.2)
PERSON = Thing("person", 4.0, 0.0, height=1.7, width=0.3, depth=0.5, look="red")
CARPET = Thing("carpet", 5.0, 0.0, width=8.0, depth=1.2, look="red")
FIRE = Thing("fire", 4.0, 0.9, height=0.6, width=0.5, depth=0.5, look="lava_1")


@pytest.mark.parametrize(
    ("things", "label"),
    [
        ((), NO_RISK),
        ((DOOR, CARPET, Thing("picture", 3.0, -1.2, height=0.5), Thing("vent", 3.0, 1.2)), NO_RISK),
        ((SIGN, PERSON), NO_RISK),
        ((block(0.05, 0.6), SIGN, PERSON), LOW),
        ((block(0.05, 0.6),), LOW),
        ((block(0.05, 0.6), block(1.8, 2.35, x=6.0)), LOW),
        ((block(0.0, 0.8, "water"),), LOW),
        ((Thing("barrier", 4.0, -1.0, height=0.5),), LOW),
        ((block(0.9, 1.4),), MEDIUM),
        ((block(0.9, 1.4, "water"),), MEDIUM),
        ((block(0.0, 2.4, "water"),), MEDIUM),
        ((block(0.05, 0.6, "carton"),), MEDIUM),
        ((block(0.0, 0.75), block(1.6, 2.4)), MEDIUM),
        ((block(0.0, 1.0), block(1.4, 2.4)), HIGH),
        ((block(0.0, 0.7), block(0.85, 1.55), block(1.7, 2.4)), HIGH),
        ((Thing("barrier", 4.0, 0.0, math.pi / 2, height=0.6),), HIGH),
        ((FIRE,), HIGH),
        ((FIRE, CARPET, block(0.9, 1.4)), HIGH),
    ],
)
def test_each_row_of_the_rule(things, label):
    assert risk(corridor(*things)) == label


@pytest.mark.parametrize("kind", [kind for kind in VIEWS if kind != "corridor"])
def test_any_other_view_is_not_a_corridor_whatever_is_in_it(kind):
    assert risk(corridor(FIRE, block(0.0, 2.4), kind=kind)) == NOT_A_CORRIDOR
    assert risk(corridor(kind=kind)) == NOT_A_CORRIDOR


@pytest.mark.parametrize(
    ("below", "above", "edge"),
    [
        # What a thing from the left wall leaves free at the right one.
        (HIGH, MEDIUM, lambda free: block(0.0, WIDTH - 0.6 - free)),
        (MEDIUM, LOW, lambda free: block(0.0, WIDTH - 1.1 - free)),
        (MEDIUM, LOW, lambda dry: block(0.0, WIDTH - 1.1 - dry, "water")),
        # The gap to the nearer wall.
        (LOW, MEDIUM, lambda gap: block(0.3 + gap, 0.6 + gap)),
        (LOW, MEDIUM, lambda gap: block(WIDTH - 0.6 - gap, WIDTH - 0.3 - gap, "water")),
    ],
)
def test_both_sides_of_each_threshold(below, above, edge):
    assert risk(corridor(edge(-EPSILON))) == below
    assert risk(corridor(edge(+EPSILON))) == above


def test_the_thresholds_can_be_moved():
    scene = corridor(block(0.0, WIDTH - 0.9))
    assert risk(scene) == MEDIUM
    assert risk(scene, Limits(blocked=1.0)) == HIGH
    assert risk(scene, Limits(narrow=0.8)) == LOW


def test_things_one_behind_another_do_not_add_up():
    left, right = block(0.0, 1.2), block(1.3, 2.4, x=5.0)
    assert free_width(corridor(left, right)) == pytest.approx(1.2)
    beside = dataclasses.replace(right, x=4.1)
    assert free_width(corridor(left, beside)) == pytest.approx(0.1)
    assert free_width(corridor()) == WIDTH


def test_water_narrows_the_dry_width_only_and_fire_neither():
    scene = corridor(block(0.0, 2.0, "water"), FIRE)
    assert free_width(scene) == WIDTH
    assert free_width(scene, wet=True) == pytest.approx(0.4)


def test_the_extent_turns_with_the_thing():
    along, across = Thing("desk", 1, 0, 0.0, 0.8), Thing("desk", 1, 0, math.pi / 2, 0.8)
    assert along.extent == pytest.approx(across.extent[::-1])
    assert along.extent == pytest.approx((0.8416, 0.4136))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Thing("lion", 1.0, 0.0), "kind: got 'lion'"),
        (lambda: corridor(kind="street"), "kind: got 'street'"),
        (lambda: dataclasses.replace(corridor(), wall="gold"), "wall: got 'gold'"),
        (lambda: dataclasses.replace(corridor(), floor="lava_1"), "floor: got 'lava_1'"),
        (lambda: sample_scene(np.random.default_rng(0), "high"), "label: got 'high'"),
    ],
)
def test_errors_name_the_field_and_the_value(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_captions_of_hand_made_scenes():
    things = (block(0.9, 1.4), FIRE, block(0.05, 0.6, x=6.0), DOOR, block(0.0, 2.4, "water", x=8.0), CARPET)
    # Fire before water before cabinets; from left to right within a kind; neither walls nor what hangs on them or carpets.
    for order in (things, things[::-1]):
        assert caption(corridor(*order)) == "楼道：右边火、横着水、左边柜子、中间柜子"
    barrels = [Thing("barrel", 4.0, z, height=0.9) for z in (-0.9, -0.5, 0.9)]
    assert caption(corridor(*barrels)) == "楼道：左边桶、右边桶"
    assert caption(corridor()) == "楼道：空"
    assert caption(corridor(DOOR, CARPET)) == "楼道：空"
    assert caption(corridor(Thing("tree", 8.0, 0.0, height=4.0), kind="outdoor")) == "室外：树"
    assert caption(corridor(FIRE, kind="room")) == "房间：火"
    assert caption(corridor(kind="ceiling")) == "天花板：空"


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (0.6 - EPSILON, 1.0 - EPSILON, "左边柜子"),
        (0.6 + EPSILON, 1.0 + EPSILON, "中间柜子"),
        (1.4 - EPSILON, 1.8 - EPSILON, "中间柜子"),
        (1.4 + EPSILON, 1.8 + EPSILON, "右边柜子"),
        (0.0, 0.7 * WIDTH + EPSILON, "横着柜子"),
        (0.36, 0.36 + 0.7 * WIDTH - EPSILON, "中间柜子"),
    ],
)
def test_both_sides_of_each_border_between_the_sides_of_a_caption(start, end, words):
    assert caption(corridor(block(start, end))) == f"楼道：{words}"


@pytest.fixture(scope="module")
def sampled() -> dict[str, list[Scene]]:
    rng = np.random.default_rng(7)
    shares = {"train": 150, "val": 50, "test": 100}
    return {
        label: [sample_scene(rng, label, looks=BY_ROLE[role]) for role, count in shares.items() for _ in range(count)]
        for label in LABELS
    }


@pytest.mark.parametrize("label", LABELS)
def test_sampled_scenes_agree_with_the_rule_and_keep_clear_of_its_thresholds(sampled, label):
    for scene in sampled[label]:
        assert risk(scene) == label
        assert clear_risk(scene) == label
        assert not crowded(scene)
        assert visible_things(scene) == scene.things


@pytest.mark.parametrize("label", [NO_RISK, LOW, MEDIUM, HIGH])
def test_the_margins_hold_in_metres(sampled, label):
    for scene in sampled[label]:
        free, dry = free_width(scene), free_width(scene, wet=True)
        standing = [thing for thing in scene.things if thing.kind not in HARMLESS]
        if label == HIGH:
            assert "fire" in {thing.kind for thing in scene.things} or free <= 0.6 - MARGIN
        else:
            assert free >= 0.6 + MARGIN
        if label in (NO_RISK, LOW):
            assert dry >= 1.1 + MARGIN
            assert all(wall_gap(scene, thing) <= 0.3 - MARGIN for thing in standing)
        if label == MEDIUM:
            carton = any(thing.kind == "carton" for thing in standing)
            middle = any(wall_gap(scene, thing) >= 0.3 + MARGIN for thing in standing)
            assert carton or middle or dry <= 1.1 - MARGIN


def test_no_kind_gives_the_class_away_and_every_kind_texture_and_view_is_drawn(sampled):
    found = {label: {thing.kind for scene in sampled[label] for thing in scene.things} for label in LABELS}
    assert found[LOW] & found[MEDIUM] & found[HIGH] >= {"barrel", "chair", "desk", "cabinet"}
    assert "water" in found[LOW] & found[MEDIUM]
    assert {"fire", "carton", "water"} <= found[NOT_A_CORRIDOR]
    scenes = [scene for scenes in sampled.values() for scene in scenes]
    assert {thing.kind for scene in scenes for thing in scene.things} == set(KINDS)
    assert {scene.wall for scene in scenes} == set(WALLS)
    assert {scene.floor for scene in scenes} == set(FLOORS)
    assert {scene.kind for scene in scenes} == set(VIEWS)
    assert {thing.look for scene in scenes for thing in scene.things if thing.kind == "sign"} == set(SIGNS)


TEXTURES = ("walls", "floors", "ceilings", "outdoor_floors", "doors", "pictures", "signs", "cartons", "waters", "fires")
COLOURS = ("cabinets", "clothes", "carpets", "balls")
PLACES_OF_MESHES = ("at_wall", "in_middle", "in_row", "small", "outdoor_kinds")


@pytest.mark.parametrize("role", ["train", "val", "calib", "tune"])
def test_test_shares_no_texture_no_mesh_and_no_light_with_any_other_role(role):
    def taken(looks: Looks, fields: tuple[str, ...]) -> set[str]:
        return {look for field in fields for look in getattr(looks, field)}

    other, test = BY_ROLE[role], BY_ROLE["test"]
    assert not taken(other, TEXTURES) & taken(test, TEXTURES)
    for field in COLOURS:
        assert not taken(other, (field,)) & taken(test, (field,))
    # Boxes are drawn by code; a carton's texture and a cabinet's colour are others.
    assert taken(other, PLACES_OF_MESHES) & taken(test, PLACES_OF_MESHES) == {"cabinet", "carton"}
    for field in ("light", "warmth"):
        assert max(getattr(other, field)) <= min(getattr(test, field)) or max(getattr(test, field)) <= min(
            getattr(other, field)
        )


def test_a_sampled_scene_shows_its_pool_alone():
    rng = np.random.default_rng(3)
    for label in LABELS:
        for _ in range(20):
            scene = sample_scene(rng, label, looks=SEEN)
            assert scene.wall in SEEN.walls
            assert {thing.look for thing in scene.things if thing.kind == "sign"} <= set(SEEN.signs)
            assert not {thing.kind for thing in scene.things} & {"desk", "ball", "potion", "duckie", "pine"}
            assert SEEN.light[0] <= scene.light[0] <= SEEN.light[1]


def test_dangers_are_what_makes_high_risk_and_nothing_else_is_one(sampled):
    for label, scenes in sampled.items():
        for scene in scenes:
            found = dangers(scene)
            assert bool(found) == (label == HIGH)
            assert not {thing.kind for thing in found} & {"sign", "person", "water", *HARMLESS}
            rest = tuple(thing for thing in scene.things if thing not in found)
            assert risk(dataclasses.replace(scene, things=rest)) != HIGH
            boxes = danger_boxes(scene)
            assert len(boxes) == len(found)
            assert all(0 <= left < right <= 1 and 0 <= upper < lower <= 1 for left, upper, right, lower in boxes)


def test_captions_name_each_thing_on_the_floor_and_its_side_and_never_a_class(sampled):
    words = {text for label in LABELS for text in (label, "风险")}
    scenes = [scene for scenes in sampled.values() for scene in scenes]
    assert not [scene for scene in scenes if any(word in caption(scene) for word in words)]
    for scene in scenes:
        place, _, named = caption(scene).partition("：")
        assert place == PLACES[scene.kind]
        parts = [] if named == NOTHING else named.split("、")
        standing = {thing.kind for thing in scene.things if thing.kind in NOUNS}
        assert {part.removeprefix(side) for part in parts for side in SIDES if part.startswith(side)} >= {
            NOUNS[kind] for kind in standing
        }
        assert len(parts) == len(set(parts)) >= len(standing)
        assert all(part.endswith(tuple(NOUNS[kind] for kind in standing)) for part in parts)
        assert all(part.startswith(SIDES[:4]) == (scene.kind == "corridor") for part in parts)


def test_captions_tell_scenes_with_things_apart(sampled):
    standing = [scene for scenes in sampled.values() for scene in scenes if not caption(scene).endswith(NOTHING)]
    assert len(standing) > 600
    assert len({caption(scene) for scene in standing}) > 0.25 * len(standing)
    for label in (LOW, MEDIUM, HIGH):
        assert len({caption(scene) for scene in sampled[label]}) > 20


@pytest.mark.parametrize("label", LABELS)
def test_the_same_seed_gives_the_same_scene_of_plain_numbers(label):
    one, two = (sample_scene(np.random.default_rng([3, 5]), label) for _ in range(2))
    assert one == two
    assert one != sample_scene(np.random.default_rng([3, 6]), label)
    assert json.loads(json.dumps(dataclasses.asdict(one)))["kind"] == one.kind


def test_projection_of_points_about_the_optical_axis():
    scene = dataclasses.replace(corridor(), pitch=0.0)
    ahead, up, right, behind = project(
        scene,
        np.array([(4.5, 1.5, 0.0), (4.5, 1.5 + 4 * math.tan(math.pi / 6), 0.0), (4.5, 1.5, 1.0), (-2.0, 1.5, 1.0)]),
    )
    assert ahead == pytest.approx([0, 0, 4])
    assert up == pytest.approx([0, 1, 4])
    assert 0 < right[0] < 1
    assert right[1] == pytest.approx(0)
    assert behind[0] > 1
    assert behind[2] == 0.1


def test_what_is_hidden_or_out_of_view_is_not_seen():
    front, hidden = block(0.8, 1.6), block(0.9, 1.5, "carton", x=6.0)
    outside, near = block(0.9, 1.4, x=0.1), Thing("medkit", 4.0, -0.9, height=0.4)
    far = Thing("medkit", 9.5, 0.9, height=0.1)
    scene = corridor(hidden, front, outside, near, far)
    assert visible_things(scene) == (front, near)
