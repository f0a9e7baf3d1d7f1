"""``assay predict`` with models and pictures changed at random: rows or one sentence, never a crash or a traceback."""

import csv
import io
import shutil

import pillow_heif
import pytest
import torch
from PIL import Image

from assay_tools.fuzz import attack_models, changed, few

# Lossless and not, with alpha, several frames, a palette.
PICTURES = {
    "png": {},
    "jpg": {"quality": 90, "progressive": True},
    "webp": {"lossless": True},
    "gif": {"save_all": True},
    "tiff": {"compression": "tiff_lzw"},
    "bmp": {},
    "avif": {},
    "heic": {},
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
    assert attack_models(models, [*arguments, str(images)], few(1), tmp_path / "log") == []


def test_a_changed_picture_is_a_row(assay, images, tmp_path):
    pillow_heif.register_heif_opener()
    for suffix, options in PICTURES.items():
        with Image.open(images / "00.png") as picture:
            picture.save(tmp_path / f"seed.{suffix}", **options)
        whole = (tmp_path / f"seed.{suffix}").read_bytes()
        (tmp_path / "changed" / suffix).mkdir(parents=True)
        for number in range(few(40)):
            (tmp_path / "changed" / suffix / f"{number}.{suffix}").write_bytes(changed(whole, number))
    status, output, error = assay("changed", "--recursive")
    rows = list(csv.DictReader(io.StringIO(output.decode())))
    assert (status, len(rows)) == (3, few(40) * len(PICTURES))
    judged = {
        suffix: [row["status"] for row in rows if row["path"].endswith(suffix)].count("ok") for suffix in PICTURES
    }
    # Of a PNG each part has a checksum: hardly a change passes.
    assert all(count < few(40) for count in judged.values()), judged
    assert sum(judged.values()) > few(40)
    assert "Traceback" not in error
