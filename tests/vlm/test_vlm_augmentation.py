"""Augmentation of corridor photographs: the danger hues stay, nothing enters them, and padding makes no second hazard."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.vlm.augmentation import (
    MIN_CHROMA,
    choose_padding,
    find_danger,
    hue_and_chroma,
    jitter_hsv,
    rescale,
    rotate,
)
from assay.vlm.copies import TRANSFORMS, draw, move_boxes, transforms

FIRE = [(345, 65)]
RED, GREEN, GREY = (220, 30, 25), (40, 160, 60), (150, 150, 150)
OPTIONS = SimpleNamespace(
    scale=[0.7, 1.3],
    max_degrees=15.0,
    hue=25.0,
    saturation=[0.6, 1.5],
    value=[0.6, 1.4],
    protected=FIRE,
    signs=["sign_warning", "sign_exit"],
)

images = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)))
ranges = st.lists(st.tuples(st.floats(0, 360), st.floats(0, 360)), min_size=0, max_size=3)
factors = st.floats(0.1, 6)


def vivid(*hues: float) -> np.ndarray:
    """One line of vivid pixels of these hues, which rounding moves by less than a degree."""
    hsv = [[hue, 0.9, 0.9] for hue in hues]
    return np.rint(cv2.cvtColor(np.array([hsv], dtype=np.float32), cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)


def noise(height: int = 96, width: int = 128, *, sd: float = 15, seed: int = 0) -> np.ndarray:
    """A textured grey wall."""
    levels = 150 + sd * np.random.default_rng(seed).standard_normal((height, width, 1))
    return np.repeat(levels.clip(0, 255).astype(np.uint8), 3, axis=2)


def assert_colours_kept(before: np.ndarray, after: np.ndarray, protected: list) -> None:
    danger = find_danger(before, protected=protected)
    assert np.array_equal(find_danger(after, protected=protected), danger)
    (hue, chroma), (new_hue, new_chroma) = hue_and_chroma(before), hue_and_chroma(after)
    gap = np.abs((hue - new_hue + 180) % 360 - 180)
    assert (gap <= 60 / np.maximum(new_chroma, 1) + 1e-2)[danger].all()
    grey = chroma < MIN_CHROMA
    assert (new_chroma[grey] < MIN_CHROMA).all()
    assert (new_chroma[grey] <= chroma[grey] + 1).all()
    assert (new_chroma[chroma == 0] == 0).all()


@given(image=images, protected=ranges, hue=st.floats(-180, 180), saturation=factors, value=factors)
@settings(max_examples=200, deadline=None)
def test_danger_pixels_stay_and_none_is_made(image, protected, hue, saturation, value):
    after = jitter_hsv(image, hue=hue, saturation=saturation, value=value, protected=protected)
    assert after.dtype == np.uint8
    assert after.shape == image.shape
    assert_colours_kept(image, after, protected)


@pytest.mark.parametrize("hue", [-180.0, -20.0, 0.0, 7.0, 90.0])
def test_every_colour_keeps_to_the_bound(hue):
    steps = np.r_[0:256:5, 255]
    levels = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1)
    image = levels.reshape(len(steps), -1, 3).astype(np.uint8)
    for saturation, value in ((0.01, 0.01), (0.3, 0.4), (1.0, 1.0), (1.6, 0.7), (0.8, 1.5)):
        after = jitter_hsv(image, hue=hue, saturation=saturation, value=value, protected=FIRE)
        assert_colours_kept(image, after, FIRE)
        if (hue, saturation, value) == (0, 1, 1):
            assert np.array_equal(after, image)


def test_a_shift_moves_other_hues_and_stops_short_of_the_range():
    image = vivid(200, 80, 40)
    after = hue_and_chroma(jitter_hsv(image, hue=-30, saturation=1, value=1, protected=FIRE))[0][0]
    assert after[0] == pytest.approx(170, abs=0.5)
    assert 65 < after[1] < 66
    assert after[2] == pytest.approx(40, abs=0.5)
    free = hue_and_chroma(jitter_hsv(image, hue=-30, saturation=1, value=1, protected=[]))[0][0]
    assert free == pytest.approx([170, 50, 10], abs=0.5)


@given(image=images, protected=ranges)
@settings(max_examples=100, deadline=None)
def test_identity_settings_give_the_same_image_in_a_new_array(image, protected):
    copies = (
        jitter_hsv(image, hue=0, saturation=1, value=1, protected=protected),
        rescale(image, 1, padding="reflect", protected=protected),
        rotate(image, 0, padding="reflect", max_degrees=0, protected=protected),
    )
    for copy in copies:
        assert np.array_equal(copy, image)
        assert not np.shares_memory(copy, image)


PLAIN = np.full((96, 128, 3), GREY, dtype=np.uint8)
SHADED = np.repeat(np.tile(np.linspace(60, 200, 128).astype(np.uint8), (96, 1))[..., None], 3, axis=2)
# A line that runs out of the image.
HALF_DARK = noise(sd=8) // np.where(np.arange(128) < 64, 1, 2).astype(np.uint8)[None, :, None]


def with_patch(colour: tuple, *, top: int, left: int, height: int = 6, width: int = 24) -> np.ndarray:
    image = noise()
    image[top : top + height, left : left + width] = colour
    return image


@pytest.mark.parametrize(
    ("image", "border", "expected"),
    [
        pytest.param(noise(), 10, "reflect", id="texture"),
        pytest.param(PLAIN, 10, "edge", id="plain"),
        pytest.param(noise(sd=1), 10, "edge", id="faint noise"),
        pytest.param(SHADED, 10, "edge", id="slow shading"),
        pytest.param(with_patch(RED, top=3, left=50), 10, "edge", id="danger on top"),
        pytest.param(with_patch(RED, top=88, left=50), 10, "edge", id="danger below"),
        pytest.param(with_patch(RED, top=40, left=2), 10, "edge", id="danger at the left"),
        pytest.param(with_patch(RED, top=40, left=50), 10, "reflect", id="danger inside"),
        pytest.param(with_patch((20, 20, 20), top=3, left=50), 10, "edge", id="dark box at the border"),
        pytest.param(with_patch((20, 20, 20), top=40, left=50), 10, "reflect", id="dark box inside"),
        pytest.param(HALF_DARK, 10, "reflect", id="line out of the image"),
        pytest.param(noise(1, 128), 10, "edge", id="one line"),
        pytest.param(noise(96, 1), 10, "edge", id="one column"),
        pytest.param(noise(), 500, "reflect", id="strips deeper than the image"),
        pytest.param(with_patch(RED, top=40, left=50), 500, "edge", id="danger in such strips"),
    ],
)
def test_the_padding_rule_on_images_made_for_it(image, border, expected):
    assert choose_padding(image, protected=FIRE, border=border) == expected


@pytest.mark.parametrize("top", [0, 1, 4])
def test_a_danger_patch_at_the_border_is_not_mirrored_or_drawn_out(top):
    image = with_patch(RED, top=top, left=40, height=5, width=30)
    number = find_danger(image, protected=FIRE).sum()
    assert number == 150
    padding = choose_padding(image, protected=FIRE, border=12)
    assert padding == "edge"
    small = find_danger(rescale(image, 0.8, padding=padding, protected=FIRE), protected=FIRE)
    # Shrunk by 0.8 each way, with at most a blended line around.
    assert 0.5 * number < small.sum() < (5 * 0.8 + 2) * (30 * 0.8 + 2)
    assert not small[:9].any()
    turned = find_danger(rotate(image, 10, padding=padding, max_degrees=10, protected=FIRE), protected=FIRE)
    assert turned.sum() < 1.4 * number
    # What this guards against: the mirror image of the same patch is a second hazard.
    mirrored = find_danger(rescale(image, 0.8, padding="reflect"), protected=FIRE)
    assert mirrored.sum() > 1.6 * small.sum()


@given(image=images, factor=st.floats(0.1, 0.99), padding=st.sampled_from(["edge", "reflect"]))
@settings(max_examples=100, deadline=None)
def test_padding_paints_no_danger_pixel(image, factor, padding):
    height, width = image.shape[:2]
    inner_h, inner_w = max(round(height * factor), 1), max(round(width * factor), 1)
    if padding == "reflect" and (inner_h == 1 < height or inner_w == 1 < width):
        with pytest.raises(ValueError, match="pad by 'edge'"):
            rescale(image, factor, padding=padding)
        return
    danger = find_danger(rescale(image, factor, padding=padding, protected=FIRE), protected=FIRE)
    top, left = (height - inner_h) // 2, (width - inner_w) // 2
    danger[top : top + inner_h, left : left + inner_w] = False
    assert not danger.any()


def test_rescale_shrinks_the_image_and_enlarges_its_centre():
    image = PLAIN.copy()
    image[32:64, 48:80] = GREEN
    for factor in (0.5, 1.5):
        green = (rescale(image, factor, padding="edge") == GREEN).all(axis=2)
        for axis, middle in ((1, 47.5), (0, 63.5)):
            places = np.flatnonzero(green.any(axis=axis))
            assert len(places) == pytest.approx(32 * factor, abs=2)
            assert places.mean() == pytest.approx(middle, abs=0.5)


def test_a_quarter_turn_of_a_square_is_that_of_numpy():
    image = np.random.default_rng(0).integers(0, 256, (33, 33, 3)).astype(np.uint8)
    turned = rotate(image, 90, padding="edge", max_degrees=90)
    assert np.abs(turned.astype(int) - np.rot90(image)).max() <= 1


@given(image=images, transform=st.sampled_from(TRANSFORMS), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_drawing_keeps_shape_dtype_and_input_and_follows_the_seed(image, transform, seed):
    original = image.copy()
    image.flags.writeable = False
    first, second = (draw(image, transform, np.random.default_rng(seed), OPTIONS) for _ in range(2))
    assert np.array_equal(first, second)
    assert (first.shape, first.dtype) == (image.shape, np.uint8)
    assert not np.shares_memory(first, image)
    assert np.array_equal(image, original)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_draws_differ_and_stay_within_the_settings(transform):
    image = with_patch(GREEN, top=30, left=40, height=30, width=50)
    rng = np.random.default_rng(0)
    drawn = [draw(image, transform, rng, OPTIONS) for _ in range(4)]
    assert all(not np.array_equal(drawn[0], other) for other in drawn[1:])
    still = SimpleNamespace(
        scale=[1, 1], max_degrees=0.0, hue=0.0, saturation=[1, 1], value=[1, 1], protected=FIRE, signs=OPTIONS.signs
    )
    assert np.array_equal(draw(image, transform, rng, still), image)


@pytest.mark.parametrize("transform", TRANSFORMS[:-1])
def test_drawing_makes_no_second_hazard(transform):
    image = with_patch(RED, top=1, left=40, height=5, width=30)
    number = find_danger(image, protected=FIRE).sum()
    for seed in range(5):
        drawn = draw(image, transform, np.random.default_rng(seed), OPTIONS)
        assert find_danger(drawn, protected=FIRE).sum() <= 1.3**2 * 1.2 * number


def test_signs_hang_whole_in_the_border_and_nowhere_else():
    image = np.full((120, 160, 3), 120, dtype=np.uint8)
    image[30:90, 40:120] = (20, 90, 200)
    hung = 0
    for seed in range(20):
        drawn = draw(image, "sign", np.random.default_rng(seed), OPTIONS)
        factor = float(np.random.default_rng(seed).uniform(0.7, 0.85))
        plain = rescale(image, factor, padding="sign", protected=FIRE)
        changed = (drawn != plain).any(axis=2)
        border = (160 - round(160 * factor)) // 2
        assert not changed[:, border:-border].any()
        hung += changed.any()
    assert hung == 20
    assert transforms(OPTIONS) == TRANSFORMS
    assert transforms(SimpleNamespace(signs=[])) == TRANSFORMS[:-1]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_boxes_move_with_what_is_in_them(transform):
    violet = (150, 30, 200)
    image = np.full((120, 160, 3), 128, dtype=np.uint8)
    image[40:70, 50:90] = violet
    box = [50 / 160, 40 / 120, 90 / 160, 70 / 120]
    for seed in range(8):
        drawn = draw(image, transform, np.random.default_rng(seed), OPTIONS).astype(int)
        (moved,) = move_boxes([box], transform, np.random.default_rng(seed), OPTIONS, size=(120, 160))
        # No sign has this colour; jitter changes it, and the plain wall by its brightness alone.
        plain = np.ptp(drawn, axis=2) < 16 if transform == "colour" else np.abs(drawn - violet).max(axis=2) >= 60
        rows, columns = np.nonzero(~plain)
        found = [columns.min() / 160, rows.min() / 120, (columns.max() + 1) / 160, (rows.max() + 1) / 120]
        assert moved == pytest.approx(found, abs=0.02)
    far = move_boxes([[0.0, 0.0, 0.02, 0.02]], "scale", Constant(1.3), OPTIONS, size=(120, 160))
    assert far == []


class Constant:
    """A generator whose numbers are all one."""

    def __init__(self, value: float) -> None:
        self._value = value

    def uniform(self, low: float, high: float) -> float:
        assert low <= self._value <= high
        return self._value


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i: jitter_hsv(i, hue=181, saturation=1, value=1, protected=[]), "hue must"),
        (lambda i: jitter_hsv(i, hue=np.nan, saturation=1, value=1, protected=[]), "hue must"),
        (lambda i: jitter_hsv(i, hue=0, saturation=0, value=1, protected=[]), "saturation must"),
        (lambda i: jitter_hsv(i, hue=0, saturation=1, value=np.inf, protected=[]), "value must"),
        (lambda i: jitter_hsv(i, hue=0, saturation=1, value=1, protected=[(-15, 65)]), "protected must"),
        (lambda i: jitter_hsv(i, hue=0, saturation=1, value=1, protected=[(1, 2, 3)]), "protected must"),
        (lambda i: find_danger(i.astype(float), protected=[]), "image must"),
        (lambda i: rescale(i[..., 0], 0.5, padding="edge"), "image must"),
        (lambda i: rotate(i[:0], 0.5, padding="edge", max_degrees=1), "image must"),
        (lambda i: rotate(i[:1], 5, padding="reflect", max_degrees=5), "image of 1 x 128 pixels cannot be reflected"),
        (lambda i: rotate(i, -10.01, padding="edge", max_degrees=10), r"degrees must lie within \+-10 \(max_degrees\)"),
        (lambda i: rotate(i, np.nan, padding="edge", max_degrees=10), "degrees must lie within"),
        (lambda i: rescale(i, 0, padding="edge"), "factor must"),
        (lambda i: choose_padding(i, protected=[], border=0), "border must"),
        (lambda i: draw(i, "flip", None, OPTIONS), "transform must be one of scale, rotate, colour"),
    ],
)
def test_malformed_inputs_are_named(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call(noise())
