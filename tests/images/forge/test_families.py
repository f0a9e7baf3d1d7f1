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
from assay.images.forge.families import Photo, check_donors, cut_crop, families_for, forge_photo, generator_crops
from assay.params.images import Forge, Images

FORGE = load(Images, Path(__file__).resolve().parents[3] / "params.yaml").forge
SMALL = FORGE.model_copy(
    update={
        "size": 32,
        "crops_per_photo": 8,
        "short_side": [40.0, 80.0],
        "families": ["recon", "blend", "splice", "inpaint", "resample"],
        "unseen": "inpaint",
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
    """Three photographs per role; the first two of each are one group."""
    made = []
    for number, role in enumerate(ROLES):
        for i in range(3):
            tint = (30 * number, 70 * i, 10)
            pixels = tinted(tmp_path / f"{role}{i}.npy", tint, 10 * number + i)
            made.append(Photo(f"{role}.{i}.jpg", f"{role}-{'a' if i < 2 else 'b'}", role, pixels))
    return made


def invert(crops: np.ndarray) -> np.ndarray:
    return 255 - crops


def run(number: int, photos: list[Photo], settings: Forge = SMALL, *, seed: int = 3) -> list[tuple[str, str, bytes]]:
    return list(forge_photo(number, photos, settings, seed=seed, reconstruct=invert))


def test_families_take_turns_and_the_unseen_one_joins_in_test_alone(photos: list[Photo]) -> None:
    assert [families_for(i, "train", SMALL) for i in range(4)] == [["recon"], ["blend"], ["splice"], ["resample"]]
    assert families_for(5, "test", SMALL) == ["blend", "inpaint"]
    assert families_for(5, "test", SMALL.model_copy(update={"unseen": None})) == ["recon"]
    for number, photo in enumerate(photos):
        families = [family for _, family, _ in run(number, photos)]
        assert families.count("real") == 8
        assert families.count("inpaint") == (8 if photo.role == "test" else 0)
        assert {families.count(name) for name in ("recon", "blend", "splice", "resample")} == {2}


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
    alike = [Photo(name, name, "train", photos[0].pixels) for name in ("a.b.jpg", "a_b.jpg", "a.b_jpg")]
    names = [(stem, family) for number in range(3) for stem, family, _ in run(number, alike)]
    assert len(set(names)) == len(names)
    rows = [forge_set.manifest_row(alike[0], stem, family) for stem, family in names]
    assert len({row["path"] for row in rows}) == len(rows)
    assert all(str(row["path"]).startswith("real/" if row["label"] == 0 else "forged/") for row in rows)
    assert list(forge_set.manifest_frame([]).columns) == list(rows[0])


def test_splice_donors_share_the_role_but_never_the_group(photos: list[Photo]) -> None:
    settings = SMALL.model_copy(
        update={
            "families": ["splice"],
            "unseen": None,
            "crops_per_photo": 12,
            # A paste over the whole middle, so that the donor's colour shows there.
            "splice": SMALL.splice.model_copy(update={"area": [0.7, 0.7], "feather": 0.0}),
            "jpeg_quality": [100, 100],
        }
    )
    for number, photo in enumerate(photos):
        position = number % 3
        allowed = {2} if position < 2 else {0, 1}
        found = set()
        for _, family, data in run(number, photos, settings):
            middle = np.asarray(Image.open(io.BytesIO(data)))[12:20, 12:20].astype(float)
            base = middle[..., 2].mean() - 10
            role_tint = (middle[..., 0].mean() - base) / 30
            donor = round((middle[..., 1].mean() - base) / 70)
            assert round(role_tint) == ROLES.index(photo.role)
            assert donor == position if family == "real" else donor in allowed
            found |= {donor} if family == "splice" else set()
        assert found == allowed


def test_the_generator_sees_the_train_role_only(photos: list[Photo], monkeypatch: pytest.MonkeyPatch) -> None:
    for photo in photos:
        if photo.role != "train":
            photo.pixels.unlink()  # reading one would be an error
    crops = generator_crops(photos, SMALL, seed=1)
    assert crops.shape == (3 * SMALL.crops_per_photo, 32, 32, 3)
    assert crops.dtype == np.uint8
    np.testing.assert_array_equal(crops, generator_crops(photos, SMALL, seed=1))
    with pytest.raises(ValueError, match="role train holds no photograph"):
        generator_crops([photo for photo in photos if photo.role != "train"], SMALL, seed=1)
    monkeypatch.setattr(forge_set, "MAX_GENERATOR_CROPS", 7)
    assert len(generator_crops(photos, SMALL, seed=1)) == 6


def test_a_role_without_a_donor_is_named(photos: list[Photo]) -> None:
    check_donors(photos, SMALL)
    lonely = [photo for photo in photos if photo.group != "val-b"]
    with pytest.raises(ValueError, match="role val holds one group of photographs only, so splice has no donor"):
        check_donors(lonely, SMALL)
    check_donors(lonely, SMALL.model_copy(update={"families": ["blend", "inpaint"]}))
    # Unseen, splice stands in test only.
    unseen = SMALL.model_copy(update={"unseen": "splice"})
    check_donors(lonely, unseen)
    with pytest.raises(ValueError, match="role test"):
        check_donors([photo for photo in photos if photo.group != "test-b"], unseen)


def test_crops_lie_within_photographs_of_any_shape() -> None:
    rng = np.random.default_rng(0)
    for shape in ((32, 32), (33, 400), (400, 33), (700, 500)):
        photo = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        for _ in range(5):
            assert cut_crop(photo, rng, SMALL).shape == (32, 32, 3)


def test_flat_regions_are_avoided() -> None:
    photo = np.full((200, 400, 3), 90, dtype=np.uint8)
    photo[:, :200] = np.random.default_rng(0).integers(0, 256, (200, 200, 3))
    settings = SMALL.model_copy(update={"short_side": [199.0, 200.0], "min_contrast": 20.0})
    crops = [cut_crop(photo, np.random.default_rng(seed), settings) for seed in range(60)]
    busy = np.mean([crop.mean(axis=2).std() > 15 for crop in crops])
    assert busy > 0.85
    flat = np.full((100, 100, 3), 90, dtype=np.uint8)
    assert cut_crop(flat, np.random.default_rng(0), SMALL).std() == 0


def test_photographs_are_made_smaller_never_larger() -> None:
    photo = np.zeros((300, 200, 3), dtype=np.uint8)
    assert forge_set.scale_to_short_side(photo, 100).shape == (150, 100, 3)
    assert forge_set.scale_to_short_side(photo, 500) is photo
    assert forge_set.scale_to_short_side(np.zeros((1, 5000, 3), np.uint8), 0.4).shape[0] == 1
