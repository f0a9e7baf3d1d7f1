"""Judging many inputs: one row each, whatever the batch, and what the cascade says of it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import assay.images.cascade
from assay.calibration.temperature import apply_temperature
from assay.data.decode import decode_rgb
from assay.data.decoders import decoders
from assay.data.image_inputs import Input, Row
from assay.images.cascade.ensemble import load_ensemble
from assay.images.cascade.model import Cascade, load
from assay.images.cascade.predict import COLUMNS, predict_paths
from assay.images.cascade.reading import read_square
from assay.images.model.store import fit_square
from assay.images.model.transforms import resize


def rows_of(cascade: Cascade, inputs: list[Input], *, batch_size: int = 5, processes: int = 2) -> list[Row]:
    with decoders(read_square, count=processes, max_pixels=cascade.decode.max_pixels) as readers:
        return list(predict_paths(cascade, inputs, readers=readers, batch_size=batch_size))


def test_rows_say_what_the_cascade_says(cascade: Cascade, tiny_models: Path, images: Path) -> None:
    """The call from Python, and thresholds and ensemble applied by hand to each image alone, give the same rows."""
    inputs = [Input(str(path)) for path in sorted(images.iterdir())]
    rows = rows_of(cascade, inputs)
    assert {row["decided_by"] for row in rows} == {"stage1", "ensemble"}
    assert {row["verdict"] for row in rows if row["decided_by"] == "stage1"} == {"real", "forged"}
    table = cascade.predict([decode_rgb(item.path, max_pixels=10**6) for item in inputs])
    pd.testing.assert_frame_equal(table, pd.DataFrame(rows)[list(table.columns)], rtol=0, atol=2e-6)
    ensemble = load_ensemble(tiny_models, device="cpu")
    for row in rows:
        pixels = fit_square(decode_rgb(row["path"], max_pixels=10**6), 40, resize="squash")
        alone = cascade.decide(pixels[None])
        assert row["verdict"] == alone.verdicts[0]
        assert row["probability"] == pytest.approx(alone.probs[0], abs=2e-6)
        if row["decided_by"] == "ensemble":
            image = torch.from_numpy(pixels[None]).permute(0, 3, 1, 2)
            stage1 = cascade.levels[0].network.array_logits(resize(image, 32).permute(0, 2, 3, 1).numpy())
            logits = ensemble.logits(image, stage1)
            assert row["probability"] == pytest.approx(apply_temperature(logits, 2.0)[0], abs=2e-6)
            assert row["verdict"] == ("forged" if row["probability"] >= 0.5 else "real")
        else:
            assert row["verdict"] == ("real" if row["probability"] <= cascade.exit_real else "forged")


def test_batches_processes_and_order_change_nothing(cascade: Cascade, images: Path) -> None:
    inputs = [Input(str(path)) for path in sorted(images.iterdir())[:12]]
    first = pd.DataFrame(rows_of(cascade, inputs)).set_index("path")
    backwards = inputs[::-1]
    for batch_size, processes in ((1, 1), (7, 2), (100, 4)):
        other = pd.DataFrame(rows_of(cascade, backwards, batch_size=batch_size, processes=processes))
        assert other["path"].tolist() == [item.path for item in backwards]
        other = other.set_index("path").loc[first.index]
        np.testing.assert_allclose(other["probability"], first["probability"], rtol=0, atol=2e-6)
        pd.testing.assert_frame_equal(other.drop(columns="probability"), first.drop(columns="probability"))


def test_a_bad_file_is_a_row_and_its_neighbours_are_judged(cascade: Cascade, images: Path) -> None:
    (images / "text.png").write_text("no image")
    (images / "empty.png").write_bytes(b"")
    whole = (images / "01.jpg").read_bytes()
    (images / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (2000, 2000)).save(images / "large.png")
    Image.new("RGB", (4, 400)).save(images / "narrow.png")
    os.mkfifo(images / "pipe.png")
    wanted = {
        "00.png": None,
        "text.png": "not_an_image",
        "empty.png": "not_an_image",
        "cut.jpg": "truncated",
        "01.jpg": None,
        "large.png": "too_many_pixels",
        "narrow.png": "too_small",
        "pipe.png": "not_a_file",
        "gone.png": "not_a_file",
        "02.webp": None,
        "nul\0.png": "truncated",
        "x" * 300: "not_a_file",
    }
    inputs = [Input(str(images / name)) for name in wanted]
    rows = rows_of(cascade, [*inputs, Input("folder", "no_pictures: none")], batch_size=4)
    assert [row["reason"] and row["reason"].split(":")[0] for row in rows] == [*wanted.values(), "no_pictures"]
    for row in rows:
        assert list(row) == COLUMNS
        judged = [row[name] is not None for name in ("verdict", "probability", "decided_by")]
        assert judged == [row["status"] == "ok"] * 3
    assert [row["path"] for row in rows[:2]] == [str(images / "00.png"), str(images / "text.png")]


def test_the_input_is_read_no_further_than_a_few_batches_ahead(cascade: Cascade, images: Path) -> None:
    """What bounds memory: with a list without end the first rows come all the same."""
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield Input(str(images / "00.png"))

    with decoders(read_square, count=2, max_pixels=10**6) as readers:
        rows = predict_paths(cascade, endless(), readers=readers, batch_size=4)
        for _ in range(4):
            assert next(rows)["status"] == "ok"
        assert taken <= 3 * 4


@pytest.mark.parametrize(
    ("part", "damage", "stage"),
    [
        ("stage1/model.json", None, "choose_stage1"),
        ("experts/maxvit/fold_1/model.safetensors", None, "train_expert"),
        ("experts/maxvit/fold_1/model.safetensors", b"damaged", "evaluate_cascade"),
        ("meta/meta.json", None, "evaluate_cascade"),
        ("meta/alignment.safetensors", None, "train_meta"),
        ("meta/alignment.safetensors", b"damaged", "evaluate_cascade"),
        ("stage1/seen.safetensors", None, "score_stage1"),
        ("stage1/seen.safetensors", b"damaged", "score_stage1"),
        ("cascade/cascade.json", None, "evaluate_cascade"),
    ],
)
def test_what_is_missing_or_damaged_is_named_with_the_command_that_makes_it(tiny_models, tmp_path, part, damage, stage):
    models = tmp_path / "models"
    shutil.copytree(tiny_models, models, copy_function=os.link)
    (models / part).unlink()
    if damage is not None:
        (models / part).write_bytes(damage)
    named = "" if damage else Path(part).name
    with pytest.raises(ValueError, match=rf"(?s){named}.*dvc repro {stage}"):
        load(models, verify=False)


def test_importing_the_package_is_light_and_load_is_there() -> None:
    code = (
        "import sys, assay.images.cascade; "
        "assert not {'torch', 'numpy', 'pandas', 'assay.images.cascade.model'} & set(sys.modules), 'not light'; "
        "from assay.images.cascade import load; assert load.__module__ == 'assay.images.cascade.model'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        assay.images.cascade.nothing_of_this_name  # noqa: B018
