"""How scenes may look: textures, meshes, clothes, signs and lights, in pools by role.

Nothing of the pool of test is in another one, so that a metric on test is of looks that no training, no threshold and no
calibration has seen. val, calib and tune have some textures of their own: what is fitted on them is fitted on
unfamiliar looks, as it is used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

Span = tuple[float, float]


@dataclass(frozen=True)
class Looks:
    """One pool: textures by their file stems in miniworld, kinds of meshes, colours, signs, and the ranges of the light.

    The kinds stand at walls, in the middle or in rows across the corridor; boxes are drawn by code and in all pools.
    `light` is where the lamp stands along x, `brightness` and `ambient` its strength and that of the shade, `dark` the
    same in a badly lit corridor, `dark_share` of all scenes, and `warmth` how far red is above blue.
    """

    walls: tuple[str, ...]
    floors: tuple[str, ...]
    ceilings: tuple[str, ...]
    outdoor_floors: tuple[str, ...]
    outdoor_kinds: tuple[str, ...]
    doors: tuple[str, ...]
    pictures: tuple[str, ...]
    signs: tuple[str, ...]
    cartons: tuple[str, ...]
    cabinets: tuple[str, ...]
    waters: tuple[str, ...]
    fires: tuple[str, ...]
    clothes: tuple[str, ...]
    carpets: tuple[str, ...]
    balls: tuple[str, ...]
    at_wall: tuple[str, ...]
    in_middle: tuple[str, ...]
    in_row: tuple[str, ...]
    small: tuple[str, ...]
    light: Span
    brightness: Span
    ambient: Span
    dark_brightness: Span
    dark_ambient: Span
    dark_share: float
    warmth: Span


SEEN = Looks(
    walls=("brick_wall_1", "drywall_1", "cinder_blocks_1", "marble_1", "wood_planks_1", "concrete_1", "metal_grill_1"),
    floors=("floor_tiles_bw_1", "concrete_3", "wood_1", "asphalt_1", "concrete_tiles_1"),
    ceilings=("ceiling_tiles_1", "concrete_2", "drywall_1"),
    outdoor_floors=("grass_1", "asphalt_1"),
    outdoor_kinds=("tree", "tree", "building"),
    doors=("door_steel_red", "door_steel_grey", "door_garage_white"),
    pictures=(
        "portraits/paolo_veronese1",
        "portraits/edwin_longsden_long1",
        "portraits/henryk_siemiradzki1",
        "portraits/byron1",
        "portraits/delacroix_eugene_ferdinand_victor1",
        "portraits/hans_holbein1",
        "logo_mila_1",
    ),
    signs=("sign_warning", "sign_exit", "sign_fire_point"),
    cartons=("cardboard_1", "cardboard_2"),
    cabinets=("red", "blue", "grey", "brown"),
    waters=("water_1",),
    fires=("lava_1",),
    clothes=("red", "blue", "grey", "brown"),
    carpets=("red", "blue", "brown"),
    balls=(),
    at_wall=("barrel", "cone", "chair", "medkit", "cabinet", "barrier"),
    in_middle=("barrel", "cone", "chair", "medkit", "cabinet"),
    in_row=("barrel", "chair", "cabinet", "carton", "barrier"),
    small=("cone", "medkit"),
    light=(-2.0, 1.0),
    brightness=(0.3, 0.65),
    ambient=(0.4, 0.65),
    dark_brightness=(0.2, 0.3),
    dark_ambient=(0.16, 0.3),
    dark_share=0.3,
    warmth=(-0.03, 0.06),
)

HELD = replace(
    SEEN,
    walls=("stucco_1", "white_1", "concrete_1", "marble_1"),
    floors=("concrete_4", "wood_1", "concrete_3"),
    cartons=("cardboard_3", "cardboard_2"),
    waters=("water_3",),
    clothes=("blue", "grey", "brown"),
    light=(1.0, 2.5),
    warmth=(-0.05, 0.02),
)

UNSEEN = Looks(
    walls=("marble_2", "rock_1", "metal_grill_2"),
    floors=("floor_tiles_white", "wood_2"),
    ceilings=("ceiling_tile_noborder_1",),
    outdoor_floors=("grass_2",),
    outdoor_kinds=("pine",),
    doors=("door_garage_red", "door_steel_brown", "door_doom_1"),
    pictures=(
        "portraits/velazquez_diego1",
        "portraits/francesco_hayez1",
        "portraits/svetoslav_roerich1",
        "portraits/viktor_vasnetsov1",
    ),
    signs=("sign_no_entry", "sign_hot", "sign_no_smoking"),
    cartons=("cardboard_4",),
    cabinets=("green", "white", "violet"),
    waters=("water_2",),
    fires=("lava_2",),
    clothes=("orange", "green", "white"),
    carpets=("green", "orange"),
    balls=("blue", "green", "red", "yellow"),
    at_wall=("desk", "potion", "duckie", "ball", "cabinet"),
    in_middle=("potion", "duckie", "ball", "cabinet"),
    in_row=("desk", "potion", "ball", "cabinet", "carton"),
    small=("potion", "duckie"),
    light=(2.5, 4.5),
    brightness=(0.3, 0.65),
    ambient=(0.4, 0.65),
    dark_brightness=(0.15, 0.28),
    dark_ambient=(0.13, 0.26),
    dark_share=0.35,
    warmth=(-0.1, -0.05),
)

BY_ROLE = {"train": SEEN, "val": HELD, "calib": HELD, "tune": HELD, "test": UNSEEN}
