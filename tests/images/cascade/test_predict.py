"""Judging many inputs: what becomes an input, what becomes a row, and what a row looks like in each format."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import assay.images.cascade
from assay.calibration.temperature import apply_temperature
from assay.data.decode import decode_rgb
from assay.data.image_inputs import Input, Row, escape_path, expand, unescape_path, write_rows
from assay.data.outputs import check_output
from assay.images.cascade.ensemble import load_ensemble
from assay.images.cascade.model import Cascade
from assay.images.cascade.predict import COLUMNS, NUMBERS, open_cascade, predict_paths
from assay.images.model.store import fit_square


def paths_of(*arguments: str, recursive: bool = False, listed: bytes = b"", null: bool = False) -> list[str]:
    items = expand(arguments, recursive=recursive, stdin=io.BytesIO(listed), null=null)
    return [item.path if item.problem is None else f"{item.path}!{item.problem.split(':')[0]}" for item in items]


TREE = "a/2.png a/1.JPG a/notes.txt a/deep/3.webp a/deep/er/0.tif b[1].png b1.png -d.png"
BELOW = ["a/1.JPG", "a/2.png", "a/deep/3.webp", "a/deep/er/0.tif"]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in TREE.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a/folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["a"], BELOW[:2]),
        (["./a/"], ["./a/1.JPG", "./a/2.png"]),
        # What names nothing comes with its problem.
        (["empty", "a/deep/er", "x/*.png"], ["empty!no_pictures", "a/deep/er/0.tif", "x/*.png!no_match"]),
        (["a/folder.png", "gone.png", ""], ["a/folder.png!no_pictures", "gone.png", ""]),
        # The order is kept, and nothing is taken together.
        (["b1.png", "a/2.png", "b1.png", "a"], ["b1.png", "a/2.png", "b1.png", *BELOW[:2]]),
        # An existing name is no glob, and a glob matches once.
        (["b[1].png"], ["b[1].png"]),
        (["b?.png", "*.png"], ["b1.png", "-d.png", "b1.png", "b[1].png"]),
        (["a*"], BELOW[:2]),
    ],
)
def test_files_folders_and_globs_give_their_images(arguments: list[str], wanted: list[str]) -> None:
    assert paths_of(*arguments) == wanted


@pytest.mark.usefixtures("tree")
def test_with_recursive_come_those_of_subfolders() -> None:
    assert paths_of("a", recursive=True) == BELOW
    assert sorted(paths_of("a/**", recursive=True)) == [*BELOW, "a/notes.txt"]


@pytest.mark.usefixtures("tree")
def test_a_list_holds_files_and_folders_as_they_are_named() -> None:
    listed = b"a/2.png\n\nb[1].png\r\ngone*.png\na/deep\nlast\xff.png"
    wanted = ["a/2.png", "b[1].png", "gone*.png", "a/deep/3.webp", os.fsdecode(b"last\xff.png")]
    assert paths_of("-", listed=listed) == wanted
    listed = b"two\nlines.png\0a/deep\0" + b"x" * 70_000 + b"\0end"
    assert paths_of("-", listed=listed, null=True) == ["two\nlines.png", "a/deep/3.webp", "x" * 70_000, "end"]


def test_links_that_lead_in_a_circle_end(tree: Path) -> None:
    (tree / "a/deep/up").symlink_to(tree / "a")
    (tree / "a/broken.png").symlink_to(tree / "nowhere.png")
    assert paths_of("a", recursive=True) == [*BELOW[:2], "a/broken.png", *BELOW[2:]]


def test_a_folder_that_may_not_be_read_is_an_input_and_hides_no_other() -> None:
    folder = Path(tempfile.mkdtemp())
    user = os.geteuid()
    try:
        for name in ("open", "shut", "up"):
            (folder / name).mkdir()
            (folder / name / "1.png").write_bytes(b"")
        folder.chmod(0o755)
        (folder / "shut").chmod(0)
        if user == 0:
            os.seteuid(65534)  # root may read everything
        assert paths_of(f"{folder}/shut") == [f"{folder}/shut!not_readable"]
        found = paths_of(str(folder), recursive=True)
    finally:
        os.seteuid(user)
        (folder / "shut").chmod(0o755)
        shutil.rmtree(folder)
    assert sorted(found) == [f"{folder}/open/1.png", f"{folder}/shut!not_readable", f"{folder}/up/1.png"]


def rows_of(cascade: Cascade, inputs: list[Input], **options: int) -> list[Row]:
    return list(predict_paths(cascade, inputs, **{"batch_size": 5, "decode_threads": 2, **options}))


def test_rows_say_what_the_cascade_says(cascade: Cascade, tiny_models: Path, images: Path) -> None:
    """The thresholds and the ensemble applied by hand to each image alone give the same rows."""
    inputs = [Input(str(path)) for path in sorted(images.iterdir())]
    rows = rows_of(cascade, inputs)
    assert {row["decided_by"] for row in rows} == {"stage1", "ensemble"}
    assert {row["verdict"] for row in rows if row["decided_by"] == "stage1"} == {"real", "forged"}
    ensemble = load_ensemble(tiny_models, device="cpu")
    for row in rows:
        pixels = fit_square(decode_rgb(row["path"], max_pixels=10**6), 40, resize="squash")
        alone = cascade.decide(pixels[None])
        assert row["verdict"] == alone.verdicts[0]
        assert row["probability"] == pytest.approx(alone.probs[0], abs=2e-6)
        if row["decided_by"] == "ensemble":
            logits = ensemble.logits(torch.from_numpy(pixels[None]).permute(0, 3, 1, 2))
            assert row["probability"] == pytest.approx(apply_temperature(logits, 2.0)[0], abs=2e-6)
            assert row["verdict"] == ("forged" if row["probability"] >= 0.5 else "real")
        else:
            assert row["verdict"] == ("real" if row["probability"] <= cascade.exit_real else "forged")


def test_batches_threads_and_order_change_nothing(cascade: Cascade, images: Path) -> None:
    inputs = [Input(str(path)) for path in sorted(images.iterdir())]
    first = pd.DataFrame(rows_of(cascade, inputs)).set_index("path")
    backwards = inputs[::-1]
    for batch_size, threads in ((1, 1), (7, 2), (100, 4)):
        other = pd.DataFrame(rows_of(cascade, backwards, batch_size=batch_size, decode_threads=threads))
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

    rows = predict_paths(cascade, endless(), batch_size=4, decode_threads=2)
    for _ in range(4):
        assert next(rows)["status"] == "ok"
    assert taken <= 3 * 4
    rows.close()


NAMES = [
    "plain",
    'comma, and "quotes"',
    "two\nlines",
    "return\rhere",
    "tab\there",
    "=1+1",
    "-dash",
    " space ",
    "ü☂",
    "back\\slash",
    "back\\\\two",
    "looks\\xff",
    os.fsdecode(b"latin\xe9"),
    os.fsdecode(b"mixed\\\xc3\xa9\xff\n"),
]


def read_back(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    frame = pd.read_csv(path, keep_default_na=False, na_values={"probability": ""})
    with path.open(encoding="utf-8", newline="") as stream:
        assert [row["path"] for row in csv.DictReader(stream)] == frame["path"].tolist()
    return frame.to_dict(orient="records")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".CSV"])
def test_every_name_comes_back_from_every_format(tmp_path: Path, suffix: str) -> None:
    judged = {"verdict": "real", "probability": 0.25, "decided_by": "stage1", "status": "ok", "reason": None}
    rows = [{"path": escape_path(name), **judged} for name in NAMES]
    rows += [dict.fromkeys(COLUMNS) | {"path": "bad", "status": "error", "reason": 'not_a_file: a\r\n"b", c'}]
    output = tmp_path / f"rows{suffix}"
    assert write_rows(iter(rows), output, columns=COLUMNS, numbers=NUMBERS) == (len(rows), 1)
    back = read_back(output.rename(output.with_suffix(suffix.lower())))
    assert [unescape_path(str(row["path"])) for row in back[:-1]] == NAMES
    assert {row["probability"] for row in back[:-1]} == {0.25}
    assert list(back[0]) == COLUMNS
    assert back[-1]["reason"] == rows[-1]["reason"]
    assert not back[-1]["verdict"]


@given(st.binary().filter(lambda raw: b"\0" not in raw) | st.text("\\xf0é").map(str.encode))
def test_escaping_a_path_can_be_undone(raw: bytes) -> None:
    text = escape_path(os.fsdecode(raw))
    text.encode("utf-8")
    assert os.fsencode(unescape_path(text)) == raw


def test_escaping_leaves_ordinary_paths_as_they_are() -> None:
    for name in ("a/b.png", "ü☂\n", "C:\\pictures\\new.png", "-", ""):
        assert escape_path(name) == name


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_run_that_fails_leaves_the_old_output_and_no_other_file(tmp_path: Path, suffix: str) -> None:
    def rows():
        yield from [{**dict.fromkeys(COLUMNS), "path": "a", "status": "ok"}] * 5000
        raise RuntimeError("the network failed")

    output = tmp_path / f"rows{suffix}"
    output.write_text("of last week")
    with pytest.raises(RuntimeError, match="network failed"):
        write_rows(rows(), output, columns=COLUMNS, numbers=NUMBERS)
    assert output.read_text() == "of last week"
    assert list(tmp_path.iterdir()) == [output]


def test_an_output_that_could_not_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match=r"is a folder"):
        check_output(tmp_path / "folder.csv")
    for name in ("rows.xlsx", "rows"):
        with pytest.raises(ValueError, match=r"use \.csv, \.jsonl, \.parquet"):
            check_output(tmp_path / name)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        check_output(tmp_path / "file/rows.csv")
    check_output(tmp_path / "new/rows.csv")
    check_output(None)


@pytest.mark.parametrize(
    ("part", "damage", "stage"),
    [
        ("stage1/model.json", None, "train_stage1"),
        ("experts/maxvit/fold_1/model.safetensors", None, "train_expert"),
        ("experts/maxvit/fold_1/model.safetensors", b"damaged", "evaluate_cascade"),
        ("meta/meta.json", None, "train_meta"),
        ("meta/alignment.safetensors", None, "train_meta"),
        ("meta/alignment.safetensors", b"damaged", "evaluate_cascade"),
        ("cascade/cascade.json", None, "evaluate_cascade"),
    ],
)
def test_what_is_missing_or_damaged_is_named_with_the_command_that_makes_it(
    tiny_models: Path, tmp_path: Path, part: str, damage: bytes | None, stage: str
) -> None:
    models = tmp_path / "models"
    shutil.copytree(tiny_models, models, copy_function=os.link)
    (models / part).unlink()
    if damage is not None:
        (models / part).write_bytes(damage)
    named = "" if damage else Path(part).name
    with pytest.raises(ValueError, match=rf"(?s){named}.*dvc repro {stage}"):
        open_cascade(models, device="cpu")


def test_the_python_call_agrees_with_the_command(cascade: Cascade, images: Path) -> None:
    paths = sorted(images.iterdir())
    table = cascade.predict([decode_rgb(path, max_pixels=10**6) for path in paths])
    rows = pd.DataFrame(rows_of(cascade, [Input(str(path)) for path in paths]))
    pd.testing.assert_frame_equal(table, rows[list(table.columns)], rtol=0, atol=2e-6)


def test_importing_the_package_is_light_and_load_is_there() -> None:
    code = (
        "import sys, assay.images.cascade; "
        "assert not {'torch', 'numpy', 'pandas', 'assay.images.cascade.model'} & set(sys.modules), 'not light'; "
        "from assay.images.cascade import load; assert load.__module__ == 'assay.images.cascade.model'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        assay.images.cascade.nothing_of_this_name  # noqa: B018
