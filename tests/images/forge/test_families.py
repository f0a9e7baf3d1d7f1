"""Pairs of real and forged crops: what may be learned from what, and what alone may differ within a pair."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from assay.core.params import load
from assay.data.roles import ROLES
from assay.images.forge import families as forge_set
from assay.images.forge.families import (
    LEAST_CHANGE,
    Photo,
    crop_numbers,
    cut_crop,
    cut_photo,
    families_for,
    forge_photo,
    generator_crops,
    matched_settings,
    set_aside,
    share_changed,
)
from assay.params.images import Forge, Images

FORGE = load(Images, Path(__file__).resolve().parents[3] / "params.yaml").forge
SMALL = FORGE.model_copy(
    update={
        "size": 32,
        "crops_per_scene": 16,
        "short_side": [40.0, 80.0],
        "families": ["recon", "blend", "splice", "clone", "resample", "inpaint", "patchmatch"],
        "unseen": ["inpaint", "patchmatch"],
        "recon": FORGE.recon.model_copy(update={"side": 32}),
    }
)


def tinted(path: Path, tint: tuple[int, int, int], seed: int) -> Path:
    """An image whose colour tells where a crop was cut from."""
    rng = np.random.default_rng(seed)
    grey = cv2.resize(rng.integers(0, 100, (12, 15), dtype=np.uint8), (100, 80), interpolation=cv2.INTER_CUBIC)
    np.save(path, (grey[:, :, None] + np.array(tint)).astype(np.uint8))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    """Three photographs per role; the first two of each are one group. A photograph has ten crops."""
    made = []
    for number, role in enumerate(ROLES):
        for i in range(3):
            tint = (30 * number, 70 * i, 10)
            pixels = tinted(tmp_path / f"{role}{i}.npy", tint, 10 * number + i)
            group, start = f"{role}-{'a' if i < 2 else 'b'}", 10 * (i == 1)
            made.append(Photo(f"{role}.{i}.jpg", group, pixels, range(start, start + 10), role))
    return made


def invert(crops: np.ndarray) -> np.ndarray:
    return 255 - crops


def run(number: int, photos: list[Photo], settings: Forge = SMALL, *, seed: int = 3) -> list[tuple[str, str, bytes]]:
    return list(forge_photo(number, photos, settings, seed=seed, networks={"recon": invert}))


def test_families_take_turns_and_the_unseen_ones_join_in_test_alone(photos: list[Photo]) -> None:
    assert [families_for(i, "train", SMALL) for i in range(5)] == [[name] for name in SMALL.seen]
    assert families_for(6, "test", SMALL) == ["blend", "inpaint"]
    assert families_for(6, "test", SMALL.model_copy(update={"unseen": []})) == ["patchmatch"]
    for number, photo in enumerate(photos):
        families = [family for _, family, _ in run(number, photos)]
        assert families.count("real") == 10
        assert {families.count(name) for name in SMALL.unseen} == {5 if photo.role == "test" else 0}
        assert {families.count(name) for name in SMALL.seen} == {2}


def test_a_pair_goes_through_the_same_jpeg_step_and_the_seed_decides_every_byte(photos: list[Photo]) -> None:
    assert run(2, photos) == run(2, photos) != run(2, photos, seed=4)
    qualities = set()
    for number in range(len(photos)):
        real: dict[str, tuple[object, int, tuple[int, int]]] = {}
        for stem, family, data in run(number, photos):
            with Image.open(io.BytesIO(data)) as image:
                facts = (image.quantization, get_sampling(image), image.size)
                assert image.format == "JPEG"
            assert real.setdefault(stem, facts) == facts, family
            assert facts[1:] == (2, (32, 32))
        qualities |= {str(facts[0]) for facts in real.values()}
    assert len(qualities) > 5


def test_names_are_unique_also_where_photographs_differ_in_a_dot(photos: list[Photo]) -> None:
    alike = [Photo(name, name, photos[0].pixels, range(10), "train") for name in ("a.b.jpg", "a_b.jpg", "a.b_jpg")]
    names = [(stem, family) for number in range(3) for stem, family, _ in run(number, alike)]
    assert len(set(names)) == len(names)
    rows = [forge_set.manifest_row(alike[0], stem, family) for stem, family in names]
    assert len({row["path"] for row in rows}) == len(rows)
    assert all(str(row["path"]).startswith("real/" if row["label"] == 0 else "forged/") for row in rows)
    assert list(forge_set.manifest_frame([]).columns) == list(rows[0])


def test_a_crop_shows_its_own_scene_alone(photos: list[Photo]) -> None:
    settings = SMALL.model_copy(
        update={
            "families": ["splice"],
            "unseen": [],
            # A paste over the whole middle, so that the donor's colour shows there.
            "splice": SMALL.splice.model_copy(update={"area": [0.7, 0.7], "feather": 0.0}),
            "jpeg_quality": [100, 100],
        }
    )
    found = []
    for number, photo in enumerate(photos):
        position = number % 3
        for _, family, data in run(number, photos, settings):
            middle = np.asarray(Image.open(io.BytesIO(data)))[12:20, 12:20].astype(float)
            base = middle[..., 2].mean() - 10
            role_tint = (middle[..., 0].mean() - base) / 30
            donor = round((middle[..., 1].mean() - base) / 70)
            assert round(role_tint) == ROLES.index(photo.role)
            assert donor in ({position} if family == "real" or position == 2 else {0, 1})
            found.append((family, position, donor))
    # Donors are all photographs of the scene.
    assert {donor for family, position, donor in found if (family, position) == ("splice", 0)} == {0, 1}


def test_both_halves_of_a_set_that_is_only_cut_have_the_same_qualities_and_scales(photos: list[Photo]) -> None:
    small = Photo("small.png", "small", photos[0].pixels.parent / "small.npy", range(10), "test")
    np.save(small.pixels, np.random.default_rng(0).integers(0, 256, (48, 60, 3), dtype=np.uint8))
    settings = matched_settings([photos[0], small], SMALL)
    assert settings.short_side == [40.0, 48.0]
    quantization = []
    for photo in (photos[0], small):
        found = list(cut_photo(photo, settings, seed=1))
        assert found == list(cut_photo(photo, settings, seed=1)) != list(cut_photo(photo, settings, seed=2))
        assert [name for name, _ in found] == [f"{photo.name}_{number:04d}" for number in range(10)]
        images = [Image.open(io.BytesIO(data)) for _, data in found]
        assert {image.size for image in images} == {(32, 32)}
        quantization.append([image.quantization for image in images])
    assert quantization[0] == quantization[1]


def test_every_forgery_shows_also_where_walls_are_plain(tmp_path: Path) -> None:
    wall = np.full((120, 150, 3), 200, dtype=np.uint8)
    wall[40:70, 30:60] = np.random.default_rng(0).integers(0, 256, (30, 30, 3))
    np.save(tmp_path / "wall.npy", wall)
    photos = [Photo("wall.png", "wall", tmp_path / "wall.npy", range(24), "test")]
    settings = SMALL.model_copy(
        update={"families": ["blend", "resample", "inpaint"], "unseen": ["inpaint"], "jpeg_quality": [100, 100]}
    )
    reals: dict[str, np.ndarray] = {}
    for stem, family, data in run(0, photos, settings):
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        if family == "real":
            reals[stem] = pixels
        else:
            assert share_changed(reals[stem], pixels) > LEAST_CHANGE / 2, (stem, family)
    np.save(tmp_path / "wall.npy", np.full((120, 150, 3), 200, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"photograph wall\.png: resample or inpaint changes none of 30 crops"):
        run(0, [Photo("wall.png", "wall", tmp_path / "wall.npy", range(1, 2), "test")], settings)


def test_the_generator_learns_from_groups_that_nothing_else_shows() -> None:
    groups = ["a", "b", "b", "c", "d", "d", "d", "e"]
    options = {"settings": SMALL.model_copy(update={"recon": SMALL.recon.model_copy(update={"photos": 4})}), "seed": 0}
    assert set_aside(groups, **options) == {"d", "b"}
    assert set_aside(["x", *"abcdefgh"], **options) != set_aside(["x", *"abcdefgh"], **(options | {"seed": 1}))
    without = options["settings"].model_copy(update={"families": ["blend"], "unseen": []})
    assert set_aside(groups, without, seed=0) == set()
    with pytest.raises(ValueError, match=r"sets 4 photographs aside .* leaves none of 4 in 4 group"):
        set_aside(list("abcd"), **options)


def test_a_scene_has_its_crops_however_many_photographs_show_it() -> None:
    assert crop_numbers(["a", "b", "b", "a", "a"], crops_per_scene=7) == [
        range(3),
        range(4),
        range(4, 7),
        range(3, 5),
        range(5, 7),
    ]
    # A photograph has one at least.
    assert crop_numbers(["a"] * 3, crops_per_scene=1) == [range(1), range(1, 2), range(2, 3)]


def test_the_generator_learns_from_all_colours_in_windows_of_its_own_side(
    photos: list[Photo], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forge_set, "GENERATOR_CROPS", 90)
    pixels = [photo.load() for photo in photos[:3]]
    small = SMALL.model_copy(update={"recon": SMALL.recon.model_copy(update={"side": 16})})
    assert generator_crops(pixels, small, seed=1).shape == (90, 16, 16, 3)
    crops = generator_crops(pixels, SMALL, seed=1)
    assert (crops.shape, crops.dtype) == ((90, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(crops, generator_crops(pixels, SMALL, seed=1))
    strongest = crops.reshape(90, -1, 3).mean(axis=1).argmax(axis=1)
    assert set(strongest) == {0, 1, 2}


@pytest.mark.parametrize("shape", [(40, 40), (41, 400), (400, 41), (60, 70), (700, 500)])
def test_crops_lie_within_photographs_and_are_never_enlarged(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    # Pixels are independent: enlarged, neighbours would be alike.
    for _ in range(20):
        crop = cut_crop(photo, rng, SMALL)
        assert crop.shape == (32, 32, 3)
        assert abs(np.corrcoef(crop[:, 1:].ravel(), crop[:, :-1].ravel())[0, 1]) < 0.45
    with pytest.raises(AssertionError, match="smaller than short_side"):
        cut_crop(photo[:39, :39], rng, SMALL)


def test_flat_regions_are_avoided() -> None:
    photo = np.full((200, 400, 3), 90, dtype=np.uint8)
    photo[:, :200] = np.random.default_rng(0).integers(0, 256, (200, 200, 3))
    settings = SMALL.model_copy(update={"short_side": [199.0, 200.0], "min_contrast": 20.0})
    crops = [cut_crop(photo, np.random.default_rng(seed), settings) for seed in range(60)]
    busy = np.mean([crop.mean(axis=2).std() > 15 for crop in crops])
    assert busy > 0.85
    flat = np.full((100, 100, 3), 90, dtype=np.uint8)
    assert cut_crop(flat, np.random.default_rng(0), SMALL).std() == 0  # the best that there is


def test_photographs_are_made_smaller_never_larger() -> None:
    photo = np.zeros((300, 200, 3), dtype=np.uint8)
    assert forge_set.scale_to_short_side(photo, 100).shape == (150, 100, 3)
    assert forge_set.scale_to_short_side(photo, 500) is photo
    assert forge_set.scale_to_short_side(np.zeros((1, 5000, 3), np.uint8), 0.4).shape[0] == 1
