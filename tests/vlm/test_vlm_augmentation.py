"""Augmentation of corridor photographs: the danger hues stay, nothing enters them, and padding makes no second hazard."""

from __future__ import annotations

import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.vlm.augmentation import (
    MIN_CHROMA,
    TRANSFORMS,
    choose_padding,
    draw,
    find_danger,
    hue_and_chroma,
    jitter_hsv,
    rescale,
    rotate,
)

FIRE = [(345, 65)]
RED, GREEN, GREY = (220, 30, 25), (40, 160, 60), (150, 150, 150)
OPTIONS = SimpleNamespace(
    scale=[0.7, 1.3], max_degrees=15.0, hue=25.0, saturation=[0.6, 1.5], value=[0.6, 1.4], protected=FIRE
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


def every_colour() -> np.ndarray:
    steps = np.r_[0:256:5, 255]
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(len(steps), -1, 3).astype(np.uint8)


def hue_gap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs((first - second + 180) % 360 - 180)


def assert_colours_kept(before: np.ndarray, after: np.ndarray, protected: list) -> None:
    danger = find_danger(before, protected=protected)
    assert np.array_equal(find_danger(after, protected=protected), danger)
    (hue, chroma), (new_hue, new_chroma) = hue_and_chroma(before), hue_and_chroma(after)
    bound = 60 / np.maximum(new_chroma, 1)
    assert (hue_gap(hue, new_hue)[danger] <= bound[danger] + 1e-2).all()
    grey = chroma < MIN_CHROMA
    assert (new_chroma[grey] < MIN_CHROMA).all()
    assert (new_chroma[grey] <= chroma[grey] + 1).all()
    assert (new_chroma[chroma == 0] == 0).all()


@given(image=images, protected=ranges, hue=st.floats(-180, 180), saturation=factors, value=factors)
@settings(max_examples=200, deadline=None)
def test_danger_pixels_stay_and_none_is_made(
    image: np.ndarray, protected: list, hue: float, saturation: float, value: float
) -> None:
    after = jitter_hsv(image, hue=hue, saturation=saturation, value=value, protected=protected)
    assert after.dtype == np.uint8
    assert after.shape == image.shape
    assert_colours_kept(image, after, protected)


@pytest.mark.parametrize("hue", [-180.0, -20.0, 0.0, 7.0, 90.0])
@pytest.mark.parametrize(("saturation", "value"), [(0.3, 0.4), (1.0, 1.0), (1.6, 0.7), (0.8, 1.5)])
def test_every_colour_keeps_to_the_bound(hue: float, saturation: float, value: float) -> None:
    image = every_colour()
    after = jitter_hsv(image, hue=hue, saturation=saturation, value=value, protected=FIRE)
    assert_colours_kept(image, after, FIRE)


@pytest.mark.parametrize("hue", [-60.0, -15.0, 15.0, 60.0])
def test_the_hue_histogram_of_the_protected_range_is_unchanged(hue: float) -> None:
    # Hues in the middle of 10-degree bins.
    image = vivid(*np.arange(5, 360, 10))
    after = jitter_hsv(image, hue=hue, saturation=0.9, value=0.8, protected=[(340, 70)])
    counts = [np.histogram(hue_and_chroma(p)[0], bins=36, range=(0, 360))[0] for p in (image, after)]
    inside = np.r_[0:7, 34:36]
    assert np.array_equal(counts[0][inside], counts[1][inside])
    assert not np.array_equal(counts[0], counts[1])


def test_a_shift_moves_other_hues_and_stops_short_of_the_range() -> None:
    image = vivid(200, 80, 40)
    after = hue_and_chroma(jitter_hsv(image, hue=-30, saturation=1, value=1, protected=FIRE))[0][0]
    assert after[0] == pytest.approx(170, abs=0.5)
    assert 65 < after[1] < 66
    assert after[2] == pytest.approx(40, abs=0.5)
    free = hue_and_chroma(jitter_hsv(image, hue=-30, saturation=1, value=1, protected=[]))[0][0]
    assert free == pytest.approx([170, 50, 10], abs=0.5)


def test_a_dark_or_faded_sign_stays_a_sign() -> None:
    image = np.full((4, 4, 3), RED, dtype=np.uint8)
    after = jitter_hsv(image, hue=0, saturation=0.01, value=0.01, protected=FIRE)
    assert find_danger(after, protected=FIRE).all()


@given(image=images, protected=ranges)
@settings(max_examples=100, deadline=None)
def test_identity_settings_give_the_same_image_in_a_new_array(image: np.ndarray, protected: list) -> None:
    copies = (
        jitter_hsv(image, hue=0, saturation=1, value=1, protected=protected),
        rescale(image, 1, padding="reflect", protected=protected),
        rotate(image, 0, padding="reflect", max_degrees=0, protected=protected),
    )
    for copy in copies:
        assert np.array_equal(copy, image)
        assert not np.shares_memory(copy, image)


def test_identity_jitter_holds_for_every_colour() -> None:
    image = every_colour()
    assert np.array_equal(jitter_hsv(image, hue=0, saturation=1, value=1, protected=FIRE), image)


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
        pytest.param(with_patch(GREEN, top=40, left=50), 10, "reflect", id="green inside"),
        pytest.param(with_patch((20, 20, 20), top=3, left=50), 10, "edge", id="dark box at the border"),
        pytest.param(with_patch((20, 20, 20), top=40, left=50), 10, "reflect", id="dark box inside"),
        pytest.param(HALF_DARK, 10, "reflect", id="line out of the image"),
        pytest.param(noise(1, 128), 10, "edge", id="one line"),
        pytest.param(noise(96, 1), 10, "edge", id="one column"),
        pytest.param(noise(), 500, "reflect", id="strips deeper than the image"),
        pytest.param(with_patch(RED, top=40, left=50), 500, "edge", id="danger in such strips"),
    ],
)
def test_the_padding_rule_on_images_made_for_it(image: np.ndarray, border: int, expected: str) -> None:
    assert choose_padding(image, protected=FIRE, border=border) == expected


@pytest.mark.parametrize("top", [0, 1, 4])
def test_a_danger_patch_at_the_border_is_not_mirrored_or_drawn_out(top: int) -> None:
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
def test_padding_paints_no_danger_pixel(image: np.ndarray, factor: float, padding: str) -> None:
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


def test_rescale_shrinks_the_image_and_enlarges_its_centre() -> None:
    image = PLAIN.copy()
    image[32:64, 48:80] = GREEN
    for factor in (0.5, 1.5):
        green = (rescale(image, factor, padding="edge") == GREEN).all(axis=2)
        rows, columns = np.flatnonzero(green.any(axis=1)), np.flatnonzero(green.any(axis=0))
        assert len(rows) == pytest.approx(32 * factor, abs=2)
        assert len(columns) == pytest.approx(32 * factor, abs=2)
        assert rows.mean() == pytest.approx(47.5, abs=0.5)
        assert columns.mean() == pytest.approx(63.5, abs=0.5)


def test_a_quarter_turn_of_a_square_is_that_of_numpy() -> None:
    image = np.random.default_rng(0).integers(0, 256, (33, 33, 3)).astype(np.uint8)
    turned = rotate(image, 90, padding="edge", max_degrees=90)
    assert np.abs(turned.astype(int) - np.rot90(image)).max() <= 1


def test_reflection_is_about_the_outermost_line() -> None:
    image = noise(40, 40, sd=30)
    padded = rescale(image, 0.5, padding="reflect")
    assert np.array_equal(padded[9], padded[11])
    assert np.array_equal(padded[:, 30], padded[:, 28])
    edged = rescale(image, 0.5, padding="edge")
    assert np.array_equal(edged[0], edged[10])


@pytest.mark.parametrize("degrees", [10.01, -10.01, np.nan, np.inf])
def test_rotation_beyond_the_limit_is_an_error(degrees: float) -> None:
    with pytest.raises(ValueError, match=re.escape("within +-10 (max_degrees)")):
        rotate(noise(), degrees, padding="edge", max_degrees=10)
    assert rotate(noise(), 10, padding="edge", max_degrees=10).shape == (96, 128, 3)
    assert rotate(noise(), -10, padding="edge", max_degrees=10).shape == (96, 128, 3)


@pytest.mark.parametrize("shape", [(1, 20), (20, 1), (1, 1)])
def test_images_of_one_line(shape: tuple) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    for after in (
        rescale(image, 0.7, padding="edge"),
        rescale(image, 1.4, padding="edge"),
        rotate(image, 5, padding="edge", max_degrees=5),
        *(draw(image, transform, np.random.default_rng(1), OPTIONS) for transform in TRANSFORMS),
    ):
        assert after.shape == image.shape
        assert after.dtype == np.uint8
    with pytest.raises(ValueError, match="cannot be reflected"):
        rotate(image, 5, padding="reflect", max_degrees=5)


@given(image=images, transform=st.sampled_from(TRANSFORMS), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_drawing_keeps_shape_dtype_and_input_and_follows_the_seed(image: np.ndarray, transform: str, seed: int) -> None:
    original = image.copy()
    image.flags.writeable = False
    first, second = (draw(image, transform, np.random.default_rng(seed), OPTIONS) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    assert not np.shares_memory(first, image)
    assert np.array_equal(image, original)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_draws_differ_and_stay_within_the_settings(transform: str) -> None:
    image = with_patch(GREEN, top=30, left=40, height=30, width=50)
    rng = np.random.default_rng(0)
    drawn = [draw(image, transform, rng, OPTIONS) for _ in range(4)]
    assert all(not np.array_equal(drawn[0], other) for other in drawn[1:])
    still = SimpleNamespace(scale=[1, 1], max_degrees=0.0, hue=0.0, saturation=[1, 1], value=[1, 1], protected=FIRE)
    assert np.array_equal(draw(image, transform, rng, still), image)


@pytest.mark.parametrize("seed", range(5))
def test_drawing_makes_no_second_hazard(seed: int) -> None:
    image = with_patch(RED, top=1, left=40, height=5, width=30)
    number = find_danger(image, protected=FIRE).sum()
    rng = np.random.default_rng(seed)
    for transform in TRANSFORMS:
        found = find_danger(draw(image, transform, rng, OPTIONS), protected=FIRE).sum()
        assert found <= 1.3**2 * 1.2 * number
        assert transform != "colour" or found == number


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
        (lambda i: rescale(i, 0, padding="edge"), "factor must"),
        (lambda i: choose_padding(i, protected=[], border=0), "border must"),
        (
            lambda i: draw(i, "flip", np.random.default_rng(0), OPTIONS),
            "transform must be one of scale, rotate, colour",
        ),
    ],
)
def test_malformed_inputs_are_named(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        call(noise())
