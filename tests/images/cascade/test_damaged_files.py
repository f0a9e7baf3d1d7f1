"""``assay predict`` with models and pictures changed at random: rows or one sentence, never a crash or a traceback."""

import shutil

import pytest
import torch
from PIL import Image

from assay_tools.fuzz import attack, attack_models, changed

# Lossless and not, with alpha, several frames, a palette.
PICTURES = {
    "png": {},
    "jpg": {"quality": 90, "progressive": True},
    "webp": {"lossless": True},
    "gif": {"save_all": True},
    "tiff": {"compression": "tiff_lzw"},
    "bmp": {},
    "avif": {},
    "jp2": {},
}


@pytest.mark.parametrize("verify", [True, False])
def test_of_a_changed_model_nothing_is_loaded_or_one_sentence_is_said(tiny_models, images, tmp_path, verify):
    models = tmp_path / "models"
    shutil.copytree(tiny_models, models)
    # Both levels are asked.
    arguments = [
        "predict",
        "--models",
        str(models),
        "--device",
        "cpu",
        "--threads",
        "1",
        *(["--no-verify"] * (not verify)),
    ]
    torch.set_num_threads(1)
    numbers = range(20) if verify else range(60)
    assert attack_models(models, [*arguments, str(images)], numbers, tmp_path / "log") == []


@pytest.mark.parametrize("suffix", PICTURES)
def test_a_changed_picture_is_a_row(cascade, images, tmp_path, suffix):
    from assay.data.image_inputs import Input
    from assay.images.cascade.predict import read_image

    seed, path = tmp_path / f"seed.{suffix}", tmp_path / f"changed.{suffix}"
    with Image.open(images / "00.png") as picture:
        picture.save(seed, **PICTURES[suffix])
    whole = seed.read_bytes()

    def door() -> None:
        found = read_image(Input(str(path)), cascade.decode)
        assert isinstance(found, str) or found.shape == (40, 40, 3)

    assert (
        attack(lambda number: path.write_bytes(changed(whole, number)) and None, door, range(100), tmp_path / "log")
        == []
    )
