"""Drawing with the real miniworld: the same bytes always, colours where they belong, and a clear error without GL."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from assay.corridors.rendering import PACKAGES, Renderer
from assay.corridors.sampling import sample_scene
from assay.corridors.scenes import HIGH, LABELS, NO_RISK, Scene, Thing
from assay.corridors.signs import SIGNS, sign_image
from assay.corridors.visibility import danger_boxes

SIZE = (160, 120)
EMPTY = Scene("corridor", 2.4, 10.0, 2.7, "drywall_1", "concrete_3", "ceiling_tiles_1", (), (0.5, 1.5, 0.0), 0.0, -12.0)
FIRE = Thing("fire", 3.6, 0.0, height=1.0, width=0.8, depth=0.8, look="lava_1")
WATER = Thing("water", 3.6, 0.0, width=1.5, depth=2.2, look="water_1")


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    with Renderer(SIZE) as opened:
        yield opened


def scenes() -> list[Scene]:
    rng = np.random.default_rng(1)
    return [sample_scene(rng, label) for label in LABELS for _ in range(4)]


def burning(pixels: np.ndarray) -> int:
    """Pixels of a strong orange to red."""
    red, green, blue = (pixels[..., channel].astype(int) for channel in range(3))
    return int(((red > 200) & (red > green + 60) & (green > blue)).sum())


def watery(pixels: np.ndarray) -> int:
    red, _, blue = (pixels[..., channel].astype(int) for channel in range(3))
    return int((blue > red + 80).sum())


@pytest.fixture(scope="module")
def drawn(renderer) -> list[np.ndarray]:
    """The pixels of `scenes`."""
    return [renderer.render(scene) for scene in scenes()]


def test_the_same_scene_gives_the_same_bytes_whatever_was_drawn_before(renderer, drawn):
    assert {pixels.shape for pixels in drawn} == {(120, 160, 3)}
    assert drawn[0].dtype == np.uint8
    np.testing.assert_array_equal([renderer.render(scene) for scene in scenes()[::-1]][::-1], drawn)
    assert len({pixels.tobytes() for pixels in drawn}) == len(drawn)


def test_renderers_after_and_beside_another_give_the_same_bytes(renderer, drawn):
    with Renderer((80, 60)) as small, Renderer(SIZE) as other:
        assert small.render(scenes()[0]).shape == (60, 80, 3)
        np.testing.assert_array_equal([other.render(scene) for scene in scenes()], drawn)
    np.testing.assert_array_equal([renderer.render(scene) for scene in scenes()], drawn)


def python(code: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **options)


def test_another_process_gives_the_same_bytes(drawn):
    code = (
        "import hashlib, numpy as np\n"
        "from assay.corridors.rendering import Renderer\n"
        "from assay.corridors.sampling import sample_scene\n"
        "from assay.corridors.scenes import LABELS\n"
        "rng = np.random.default_rng(1)\n"
        "scenes = [sample_scene(rng, label) for label in LABELS for _ in range(4)]\n"
        f"with Renderer({SIZE}) as renderer:\n"
        "    print(hashlib.sha256(b''.join(renderer.render(scene).tobytes() for scene in scenes)).hexdigest())\n"
    )
    assert python(code).stdout.strip() == hashlib.sha256(b"".join(pixels.tobytes() for pixels in drawn)).hexdigest()


def test_fire_glows_water_is_blue_and_an_empty_corridor_is_neither(renderer):
    assert burning(renderer.render(EMPTY)) == 0
    assert burning(renderer.render(dataclasses.replace(EMPTY, things=(FIRE,)))) > 200
    dark = dataclasses.replace(EMPTY, things=(FIRE,), brightness=(0.05,) * 3, ambient=(0.05,) * 3)
    assert burning(renderer.render(dark)) > 200
    assert watery(renderer.render(EMPTY)) == 0
    assert watery(renderer.render(dataclasses.replace(EMPTY, things=(WATER,)))) > 500


def test_sampled_fires_burn_in_their_boxes_and_corridors_without_risk_do_not(renderer):
    rng = np.random.default_rng(2)
    for _ in range(30):
        high, none = sample_scene(rng, HIGH), sample_scene(rng, NO_RISK)
        if any(thing.kind == "fire" for thing in high.things):
            pixels = renderer.render(high)
            inside = np.zeros(pixels.shape[:2], dtype=bool)
            for left, upper, right, lower in danger_boxes(high):
                inside[int(upper * 120) : round(lower * 120) + 1, int(left * 160) : round(right * 160) + 1] = True
            assert burning(pixels[inside][None]) > 0.9 * 40
        if not any(word in thing.look for thing in none.things for word in ("red", "sign", "portraits")):
            assert burning(renderer.render(none)) < 40


def test_each_sign_is_another_picture_and_hangs_on_the_wall_it_is_given(renderer):
    assert len({sign_image(kind, side=32).tobytes() for kind in SIGNS}) == len(SIGNS)
    with pytest.raises(ValueError, match="kind: got 'sign_stop'"):
        sign_image("sign_stop", side=32)
    plain = renderer.render(EMPTY).astype(int)
    for kind in SIGNS:
        sign = Thing("sign", 3.0, 1.2, height=0.6, width=0.6, look=kind, base=1.2)
        changed = np.abs(renderer.render(dataclasses.replace(EMPTY, things=(sign,))) - plain).max(axis=2) > 12
        assert changed[:, 80:].sum() == changed.sum() > 50


def test_everything_a_caption_names_shows_in_the_image(renderer):
    rng = np.random.default_rng(4)
    for scene in [sample_scene(rng, label) for label in LABELS for _ in range(12)]:
        pixels = renderer.render(scene).astype(int)
        for index, thing in enumerate(scene.things):
            without = dataclasses.replace(scene, things=scene.things[:index] + scene.things[index + 1 :])
            changed = np.abs(pixels - renderer.render(without)).max(axis=2) > 12
            assert changed.sum() >= 15, thing


@pytest.mark.parametrize(("heading", "column"), [(0.3, slice(80, 160)), (-0.3, slice(0, 80))])
def test_a_positive_heading_turns_left(renderer, heading, column):
    seen = renderer.render(dataclasses.replace(EMPTY, heading=heading, things=(FIRE,)))
    assert burning(seen[:, column]) > 0.9 * burning(seen) > 0


def test_positive_z_is_right(renderer):
    seen = renderer.render(dataclasses.replace(EMPTY, things=(dataclasses.replace(FIRE, z=0.8),)))
    assert burning(seen[:, 80:]) == burning(seen) > 0


@pytest.mark.parametrize("size", [(160,), (0, 120), (160.0, 120)])
def test_a_size_that_is_no_size_is_rejected(size):
    with pytest.raises(ValueError, match="size: got"):
        Renderer(size)


def test_a_closed_renderer_says_so():
    renderer = Renderer(SIZE)
    with pytest.raises(RuntimeError, match="closed"):
        renderer.render(EMPTY)
    with renderer:
        renderer.render(EMPTY)
    with pytest.raises(RuntimeError, match="closed"):
        renderer.render(EMPTY)


OPEN = "from assay.corridors.rendering import Renderer\nwith Renderer((16, 12)): pass\n"


def test_without_a_driver_the_error_names_the_packages(tmp_path: Path):
    """libglvnd, told to take its drivers from a file that is not there, finds none: as on a system without Mesa."""
    environment = {**os.environ, "__EGL_VENDOR_LIBRARY_FILENAMES": str(tmp_path / "none.json")}
    done = python(OPEN, env=environment)
    assert done.returncode != 0
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("RuntimeError:")
    assert f"apt-get install {PACKAGES}" in message


@pytest.mark.parametrize("library", ["EGL", "GL", "GLU", "freetype"])
def test_without_a_library_the_error_names_it_and_the_packages(library):
    code = (
        "import ctypes, ctypes.util\n"
        "find, load = ctypes.util.find_library, ctypes.cdll.LoadLibrary\n"
        f"hidden = {library!r}\n"
        "def refuse(name):\n"
        "    if name in (hidden, f'lib{hidden}.so'):\n"
        "        raise OSError(f'{name}: cannot open shared object file')\n"
        "    return load(name)\n"
        "ctypes.util.find_library = lambda name: None if name == hidden else find(name)\n"
        "ctypes.cdll.LoadLibrary = refuse\n"
    )
    message = python(code + OPEN).stderr.strip().splitlines()[-1]
    assert f'Library "{library}" not found' in message
    assert f"apt-get install {PACKAGES}" in message
    assert {"libegl1", "libgl1-mesa-dri", "libglu1-mesa"} <= set(message.split())
