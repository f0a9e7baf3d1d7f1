"""``assay corridor``: what it prints, writes and returns, with a tiny predictor made by the real functions."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.special import expit

from assay.cli import main
from assay.core.io import read_json, write_json
from assay.data.decoders import decoders
from assay.data.image_inputs import Input
from assay.data.path_text import unescape_path
from assay.shipped.sums import write_sums
from assay.stages.vlm_predict import SHIPPED
from assay.vlm.command import TEXTS, judge, numbers, open_corridor, sentence
from assay.vlm.fusion import correct
from assay.vlm.prompts import Prompt
from assay.vlm.reading import read_image
from assay_tools.fuzz import attack_models, few

SYSTEM = "你是消防安全员。"
LABELS, NAMES = ("无风险", "低风险", "高风险"), ("none", "low", "high")
RISK = Prompt(SYSTEM, "这里的风险等级是什么？", ("无", "低", "高"), LABELS, NAMES)
HIGH = Prompt(SYSTEM, "这里是高风险吗？", ("否", "是"), ("否", "高风险"), ("rest", "high"))
FUSION = {
    "second": "both",
    "members": ["both"],
    "high": 2,
    "neutral": 0.3,
    "strength": 1.0,
    "high_temperature": 0.1,
    "scale": [2.0] * 3,
    "bias": [0.0] * 3,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory, base_folder, save_adapter) -> Path:
    """A folder as models/vlm, with adapters of random weights that matter."""
    folder = tmp_path_factory.mktemp("project") / "models"
    shutil.copytree(base_folder, folder / "base")
    for seed, (name, prompt) in enumerate({"sft/base": RISK, "high_risk/both": HIGH, "high_risk/plain": HIGH}.items()):
        save_adapter(folder / name, prompt, base=folder / "base", seed=seed)
    write_json(folder / "fusion.json", FUSION)
    write_sums(folder, SHIPPED)
    return folder


@pytest.fixture(autouse=True)
def good(tmp_path, monkeypatch):
    """Three images of different sizes in the folder ``good``; the working folder is the one above."""
    rng = np.random.default_rng(0)
    (tmp_path / "good").mkdir()
    for number, size in enumerate([(60, 80), (90, 50), (28, 5600)]):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "good" / f"{number}.png")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bad(good) -> dict[str, str]:
    """A file for each way to be no image: name -> the word of its reason."""
    whole = Path("good/0.png").read_bytes()
    Path("cut.png").write_bytes(whole[: len(whole) // 2])
    Path("text.jpg").write_text("no image")
    for name, size in {"dot.png": (1, 1), "rope.png": (28, 28 * 200 + 1), "huge.png": (400, 400)}.items():
        Image.new("RGB", size).save(name)
    os.mkfifo("pipe.png")
    words = {"gone.png": "not_a_file", "pipe.png": "not_a_file", "cut.png": "truncated", "text.jpg": "not_an_image"}
    words |= {"dot.png": "too_small", "rope.png": "too_narrow", "huge.png": "too_many_pixels"}
    return words | {"none*.png": "no_match"}


@pytest.fixture
def corridor(models, capfd) -> Callable[..., tuple[int, str, str]]:
    """Function from arguments to the status, standard output and standard error."""

    def run(*arguments: str, models: Path = models) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            status = main(["corridor", "--models", str(models), "--device", "cpu", "--threads", "1", *arguments])
        except SystemExit as stop:
            status = int(str(stop.code))
        shown = capfd.readouterr()
        return status, shown.out, shown.err

    return run


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def check_probs(rows: Sequence[dict[str, Any]]) -> None:
    """Good rows: both kinds of probabilities sum to 1, and the label is the class of the highest corrected one."""
    for row in rows:
        base, corrected = ([float(row[f"{kind}_{name}"]) for name in NAMES] for kind in ("base", "corrected"))
        assert [sum(base), sum(corrected)] == pytest.approx([1, 1], abs=1e-5)
        best = int(np.argmax(corrected))
        assert (row["label"], row["name"]) == (LABELS[best], NAMES[best])
        assert float(row["confidence"]) == corrected[best]


def test_a_folder_is_rows_on_standard_output(corridor):
    status, out, err = corridor("good")
    assert (status, err) == (0, "3 input(s), 0 error(s)\n")
    rows = rows_of(out)
    measured = ["confidence", *(f"{kind}_{name}" for kind in ("base", "corrected") for name in NAMES)]
    assert list(rows[0]) == ["path", "status", "reason", "label", "name", *measured]
    assert [row["path"] for row in rows] == ["good/0.png", "good/1.png", "good/2.png"]
    assert {(row["status"], row["reason"]) for row in rows} == {("ok", "")}
    check_probs(rows)
    assert len({row["base_high"] for row in rows}) == 3
    assert all(row["base_high"] != row["corrected_high"] for row in rows)


def test_one_image_is_a_sentence(corridor):
    status, out, err = corridor("good/0.png")
    assert (status, err) == (0, "")
    assert re.fullmatch(r"good/0.png: \w+ \((none|low|high)\) 0\.\d\d after correction, 0\.\d\d before[,;] .+\n", out)
    assert corridor("gone.png")[:2] == (3, "gone.png: error: not_a_file: No such file or directory\n")
    # A folder of one image is rows still, so that a script need not count.
    Path("single").mkdir()
    shutil.copy("good/0.png", "single")
    status, out, _ = corridor("single")
    assert (status, len(rows_of(out))) == (0, 1)


def test_the_sentence_tells_a_change_of_mind():
    row = {"path": "a.jpg", "status": "ok", "label": "高风险", "name": "high", "confidence": 0.87}
    row |= {"base_none": 0.02, "base_low": 0.6, "base_high": 0.38}
    row |= {"corrected_none": 0.01, "corrected_low": 0.12, "corrected_high": 0.87}
    assert sentence(row, SimpleNamespace(base=SimpleNamespace(prompt=RISK))) == (
        "a.jpg: 高风险 (high) 0.87 after correction, 0.38 before, when low was first with 0.60; none 0.01, low 0.12"
    )


def test_every_bad_input_is_a_row_and_stops_no_other(corridor, bad):
    alone = {row["path"]: row for row in rows_of(corridor("good")[1])}
    mixed = ["good/0.png", *bad, "good/1.png", "good/0.png", "good/2.png"]
    # good/2.png has 156,800 pixels, huge.png 160,000.
    status, out, err = corridor(*mixed, "--batch-size", "2", "--max-pixels", "159999")
    rows = rows_of(out)
    assert [row["path"] for row in rows] == mixed
    assert (status, err) == (3, f"{len(rows)} input(s), {len(bad)} error(s)\n")
    for row in rows:
        if row["path"] in bad:
            assert row["status"] == "error"
            assert re.fullmatch(f"{bad[row['path']]}: .+", row["reason"])
            assert {row[name] for name in row if name not in ("path", "status", "reason")} == {""}
        else:
            assert row["label"] == alone[row["path"]]["label"]
            for name in ("base_high", "corrected_high", "confidence"):
                assert float(row[name]) == pytest.approx(float(alone[row["path"]][name]), abs=1e-5)


@pytest.mark.parametrize(("end", "options"), [(b"\n", []), (b"\0", ["--null"])])
def test_a_list_on_standard_input(corridor, end, options, monkeypatch):
    odd = b"latin\xe9, \xe6\xa5\xbc.png"
    shutil.copy("good/0.png", os.fsdecode(odd))
    names = [odd, b"good/1.png", b"gone.png"]
    for given, states in ((names, ["ok", "ok", "error"]), ([], [])):
        stdin = SimpleNamespace(buffer=io.BytesIO(b"".join(name + end for name in given)))
        monkeypatch.setattr(sys, "stdin", stdin)
        status, out, _ = corridor("-", *options)
        rows = rows_of(out)
        assert [os.fsencode(unescape_path(row["path"])) for row in rows] == given
        assert [row["status"] for row in rows] == states
        assert status == (3 if given else 0)
        check_probs(rows[:2])


def test_every_format_holds_the_same(corridor, bad):
    for suffix in ("csv", "jsonl", "parquet"):
        found = corridor("good", "cut.png", "--output", f"new/rows.{suffix}")
        assert found == (3, "", f"4 input(s), 1 error(s), in new/rows.{suffix}\n")
    frame = pd.read_csv("new/rows.csv")
    check_probs(frame.to_dict("records")[:3])
    for other in (pd.read_parquet("new/rows.parquet"), pd.read_json("new/rows.jsonl", lines=True, precise_float=True)):
        assert other["base_high"].dtype == np.float64
        assert other.replace({np.nan: None}).equals(frame.replace({np.nan: None}))
    assert sorted(os.listdir("new")) == ["rows.csv", "rows.jsonl", "rows.parquet"]


def test_the_rows_are_those_of_the_predictor(models):
    predictor = open_corridor(models, device="cpu", batch_size=3, max_pixels=10**6)
    paths = sorted(str(path) for path in Path("good").iterdir())
    base, corrected = predictor.predict([RISK.record(path) for path in paths])
    with decoders(read_image, count=2, max_pixels=10**6) as readers:
        rows = list(judge(predictor, map(Input, paths), readers=readers, batch_size=3, max_pixels=10**6))
    columns = numbers(predictor)[1:]
    values = [[row[name] for name in columns] for row in rows]
    np.testing.assert_allclose(values, np.hstack([base, corrected]), atol=2e-6)
    assert set(rows[0]) == {*TEXTS, *numbers(predictor)}


def test_second_models_together_are_the_mean_of_their_log_odds(models, tmp_path):
    shutil.copytree(models, tmp_path / "models")
    write_json(tmp_path / "models/fusion.json", FUSION | {"second": "mean", "members": ["both", "plain"]})
    write_sums(tmp_path / "models", SHIPPED)
    predictor = open_corridor(tmp_path / "models", device="cpu", batch_size=3, max_pixels=10**6)
    records = [RISK.record(f"good/{number}.png") for number in range(3)]
    base, fused = predictor.predict(records)
    log_odds = [np.diff(scorer.log_probs(records, name="x"))[:, 0] for scorer in predictor.high_risk]
    assert np.ptp(log_odds, axis=0).min() > 1e-3, "both say the same"
    high = expit(np.mean(log_odds, axis=0) / FUSION["high_temperature"])
    np.testing.assert_allclose(fused, correct(base, high, high=2, neutral=0.3, strength=1.0), rtol=1e-6)
    with decoders(read_image, count=1, max_pixels=10**6) as readers:
        inputs = [Input(f"good/{number}.png") for number in range(3)]
        rows = list(judge(predictor, inputs, readers=readers, batch_size=3, max_pixels=10**6))
    np.testing.assert_allclose([row["corrected_high"] for row in rows], fused[:, 2], atol=2e-6)


def test_no_image_is_decoded_in_the_process_of_the_networks(corridor, monkeypatch):
    monkeypatch.setattr("assay.vlm.examples.decode_rgb", None)
    monkeypatch.setattr("assay.data.decode.decode_with_info", None)
    assert corridor("good", "-o", "rows.csv")[0] == 0


@pytest.mark.parametrize("verify", [True, False])
def test_of_a_changed_model_nothing_is_loaded_or_one_sentence_is_said(models, tmp_path, verify):
    """The base and the processor lie elsewhere; that they are those of the training is always looked at."""
    copy = tmp_path / "models"
    shutil.copytree(models, copy)
    torch.set_num_threads(1)
    arguments = ["corridor", "good/0.png", "--models", str(copy), "--device", "cpu", "--threads", "1"]
    assert (
        attack_models(copy, arguments + ["--no-verify"] * (not verify), few(2 if verify else 3), tmp_path / "log") == []
    )


def cut(size: int) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(path.read_bytes()[:size])


def fusion(**changes: object) -> Callable[[Path], Any]:
    return lambda path: path.write_text(json.dumps(FUSION | changes))


@pytest.mark.parametrize(
    ("name", "spoil", "named"),
    [
        ("base", shutil.rmtree, "models/base, which is not here: run from the root of the project"),
        ("fusion.json", Path.unlink, "fusion.json: run dvc repro vlm_predict"),
        ("high_risk/both/manifest.json", Path.unlink, "no manifest.json in "),
        ("sft/base/adapter_model.safetensors", Path.unlink, "adapter_model.safetensors"),
        ("sft/base/adapter_config.json", Path.unlink, "adapter_config.json"),
        ("sft/base/manifest.json", cut(20), "sft/base/manifest.json: Invalid JSON"),
        ("high_risk/both/adapter_model.safetensors", cut(50), "SafetensorError"),
        ("fusion.json", fusion(scale=[2.0]), "fusion.json: scale: List should have at least 2 items"),
        ("fusion.json", fusion(second="../other"), "fusion.json: second: String should match pattern"),
        ("fusion.json", fusion(high=7), "fusion.json: high 7 is none of 3 classes"),
        ("fusion.json", fusion(members=["plain"]), "fusion.json: members ['plain'] are not the second model both"),
    ],
)
def test_models_that_are_not_whole_are_one_line_and_status_2(models, corridor, name, spoil, named):
    copy = Path("models").absolute()
    shutil.copytree(models, copy)
    for part in ("sft/base", "high_risk/both"):
        record = read_json(copy / part / "manifest.json")
        write_json(copy / part / "manifest.json", record | {"base": (copy / "base").as_posix()})
    spoil(copy / name)
    status, out, err = corridor("good", "-o", "rows.csv", "--no-verify", models=copy)
    assert (status, out) == (2, "")
    line = err.splitlines()[-1]
    assert len(err.splitlines()) == 1 + Path(copy / "fusion.json").is_file()
    assert line.startswith("assay corridor: ")
    assert named in line
    assert not Path("rows.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.png", "-o", "rows.xls"], "suffix '.xls' is not known; use .csv, .jsonl, .parquet"),
        (["x.png", "-o", "good"], "suffix '' is not known"),
        (["x.png", "--batch-size", "0"], "0 is not at least 1"),
        (["x.png", "--max-pixels=-3"], "-3 is not at least 1"),
        ([], "the following arguments are required: PATH"),
    ],
)
def test_wrong_arguments_are_told_and_status_2(corridor, arguments, message):
    status, out, err = corridor(*arguments)
    assert (status, out) == (2, "")
    assert message in err.splitlines()[-1]


def test_missing_models_are_told_before_any_import():
    code = (
        "import sys; from assay.cli import main; status = main(['corridor', 'x.png']); "
        "print(status, *{'torch', 'numpy', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"
    assert done.stderr.startswith("assay corridor: no models/vlm/fusion.json: run dvc repro vlm_predict, or give ")


def test_too_little_memory_names_the_option(corridor, monkeypatch):
    full = torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr("assay.vlm.command.answer_log_probs", Mock(side_effect=full))
    status, _, err = corridor("good", "-o", "rows.csv")
    assert status == 2
    assert "out of memory with 3 image(s) at a time: lower --batch-size" in err
    assert not Path("rows.csv").exists()
