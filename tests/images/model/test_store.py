"""The pixel store: what goes in comes out, and other tools can read it."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from assay.core.io import read_json, write_json
from assay.data.decode import decode_rgb
from assay.images.decode_set import Decoded, DecodeSettings, Refused, decode_all
from assay.images.model.store import fit_square, open_store, open_writer
from assay.params.shared import Limits


def images(count: int, side: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def write(folder: Path, values: np.ndarray, *, pieces: int = 1) -> list[str]:
    ids = [f"{i:016x}" for i in range(len(values))]
    with open_writer(folder, side=values.shape[1], sample_ids=ids) as writer:
        for part in np.array_split(values, pieces):
            writer.append(part)
    return ids


@pytest.mark.parametrize(("count", "pieces"), [(1, 1), (9, 9), (10, 3), (1234, 7)])
def test_round_trip(tmp_path: Path, count: int, pieces: int) -> None:
    values = images(count, 4)
    ids = write(tmp_path, values, pieces=pieces)
    store = open_store(tmp_path)
    assert store.side == 4
    np.testing.assert_array_equal(store.pixels, values)
    # NumPy alone must be able to read the file: its header was written before the count was known.
    np.testing.assert_array_equal(np.load(tmp_path / "pixels/pixels.npy", allow_pickle=False), values)
    assert store.sha256 == hashlib.sha256(values.tobytes()).hexdigest()
    assert list(pd.read_csv(tmp_path / "pixels/pixels_index.csv", dtype=str)["sample_id"]) == ids
    assert not store.pixels.flags.writeable


def test_rows_are_found_by_sample_and_unknown_ones_are_named(tmp_path: Path) -> None:
    ids = write(tmp_path, images(20, 4))
    order = np.random.default_rng(1).permutation(20)
    rows = open_store(tmp_path).rows_of([ids[i] for i in order])
    assert rows.dtype == np.int64
    np.testing.assert_array_equal(rows, order)
    assert len(open_store(tmp_path).rows_of([])) == 0
    with pytest.raises(ValueError, match=r"2 sample\(s\) are not in the pixel store: \['no', 'nor'\]"):
        open_store(tmp_path).rows_of([ids[0], "no", "nor"])


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    write(tmp_path, images(3, 4))
    meta = read_json(tmp_path / "pixels/pixels.json")
    write_json(tmp_path / "pixels/pixels.json", meta | {"shape": [4, 4, 4, 3]})
    with pytest.raises(ValueError, match="disagree"):
        open_store(tmp_path)
    write_json(tmp_path / "pixels/pixels.json", meta)
    (tmp_path / "pixels/pixels_index.csv").write_text("sample_id\na\nb\n")
    with pytest.raises(ValueError, match="disagree"):
        open_store(tmp_path)


def test_an_interrupted_write_leaves_the_old_store(tmp_path: Path) -> None:
    values = images(3, 4)
    write(tmp_path, values)

    def interrupted() -> None:
        with open_writer(tmp_path, side=4, sample_ids=["x"]) as writer:
            writer.append(images(1, 4, seed=5))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    np.testing.assert_array_equal(open_store(tmp_path).pixels, values)
    names = {path.name for path in (tmp_path / "pixels").iterdir()}
    assert names == {"pixels.json", "pixels.npy", "pixels_index.csv"}


@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_any_shape_becomes_a_square(resize: str) -> None:
    wanted = np.full((8, 8, 3), (10, 200, 30), dtype=np.uint8)
    for shape in ((1, 1), (8, 8), (5, 31), (31, 5), (64, 8), (40, 60)):
        square = fit_square(np.full((*shape, 3), (10, 200, 30), dtype=np.uint8), 8, resize=resize)
        assert square.dtype == np.uint8
        np.testing.assert_array_equal(square, wanted)


def test_crop_takes_the_middle_and_squash_everything() -> None:
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 10:20] = 100
    assert (fit_square(wide, 10, resize="crop") == 100).all()
    squashed = fit_square(wide, 10, resize="squash")
    assert squashed[5, 0, 0] == 0
    assert squashed[5, 5, 0] == 100
    assert squashed[5, 9, 0] == 0
    same = images(1, 10)[0]
    np.testing.assert_array_equal(fit_square(same, 10, resize="squash"), same)


LIMITS = Limits(picture_bytes=2**20, picture_seconds=30, table_bytes=2**20, text_characters=1)


@pytest.mark.parametrize("workers", [1, 2])
def test_decoding_many_keeps_their_order(tmp_path: Path, workers: int) -> None:
    rng = np.random.default_rng(3)
    paths = []
    for i in range(70):  # more than one chunk
        path = tmp_path / f"{i}.png"
        if i % 10 == 9:
            path.write_text("no image")
        else:
            Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path)
        paths.append(str(path))
    settings = DecodeSettings(side=8, resize="crop", max_pixels=10_000, min_side=4, hash_side=8)
    results = list(decode_all(paths, settings, workers=workers, limits=LIMITS))
    assert len(results) == len(paths)
    for i, (path, result) in enumerate(zip(paths, results, strict=True)):
        if i % 10 == 9:
            assert isinstance(result, Refused)
            assert result.reason == "not_an_image"
        else:
            assert isinstance(result, Decoded)
            expected = fit_square(decode_rgb(path, max_pixels=10_000), 8, resize="crop")
            np.testing.assert_array_equal(result.pixels, expected)
