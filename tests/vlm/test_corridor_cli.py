"""``assay corridor``: what it prints, writes and returns, with a tiny predictor made by the real functions."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from assay.cli import main
from assay.data.decode import decode_rgb
from assay.data.image_inputs import Input, escape_path, unescape_path
from assay.params.vlm import Lora, SmallVlm, Tuning
from assay.vlm.command import TEXTS, judge, numbers, open_corridor, sentence
from assay.vlm.network import add_adapter, manifest, small_network
from assay.vlm.prediction import CorridorPredictor
from assay.vlm.processor import load_processor, save_small_processor
from assay.vlm.prompts import Prompt

SYSTEM = "你是消防安全员。"
LABELS, NAMES = ("无风险", "低风险", "高风险"), ("none", "low", "high")
RISK = Prompt(SYSTEM, "这里的风险等级是什么？", ("无", "低", "高"), LABELS, NAMES)
HIGH = Prompt(SYSTEM, "这里是高风险吗？", ("否", "是"), ("否", "高风险"), ("rest", "high"))
PIXELS = {"min_pixels": 784, "max_pixels": 3136}
FUSION = {"high": 2, "neutral": 0.3, "strength": 1.0, "temperature": 0.5, "high_temperature": 0.1}
SMALL = SmallVlm(
    hidden_size=32,
    num_layers=1,
    num_heads=2,
    intermediate_size=32,
    vision_hidden_size=32,
    vision_layers=1,
    vision_heads=2,
    vision_intermediate_size=32,
)
LORA = Lora(rank=2, alpha=4, dropout=0.0, dora=False, rslora=False, target=r".*language_model\.layers\.\d+.*q_proj")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as models/vlm, with adapters of random weights that matter."""
    root = tmp_path_factory.mktemp("project")
    folder, processor_folder = root / "models", root / "processor"
    texts = [SYSTEM, RISK.question, HIGH.question] * 4
    save_small_processor(processor_folder, texts, answers=[*RISK.answers, *HIGH.answers], vocab_size=300)
    processor = load_processor(processor_folder, **PIXELS)
    small_network(SMALL, processor.tokenizer, seed=1).save_pretrained(folder / "base")
    fields = dict.fromkeys(Tuning.model_fields) | {"lora": LORA, "train_vision": False}
    for number, (name, prompt) in enumerate({"sft/base": RISK, "high_risk": HIGH}.items()):
        settings = Tuning.model_construct(**fields)
        model = add_adapter(small_network(SMALL, processor.tokenizer, seed=1), settings, seed=number)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            for part, weights in model.named_parameters():
                if "lora_B" in part:
                    torch.nn.init.normal_(weights)
        model.save_pretrained(folder / name)
        asked = prompt.to_json() | PIXELS
        record = manifest(folder / "base", processor_folder, asked, model=model, weights_dtype="float32")
        (folder / name / "manifest.json").write_text(json.dumps(record))
    (folder / "fusion.json").write_text(json.dumps(FUSION))
    return folder


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three good pictures of different sizes in the folder ``good``; the working folder is the one above."""
    rng = np.random.default_rng(0)
    (tmp_path / "good").mkdir()
    for number, size in enumerate([(60, 80), (90, 50), (28, 5600)]):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "good" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "good"


@pytest.fixture
def bad(pictures: Path) -> dict[str, str]:
    """A picture for each way to be none: name -> the word of its reason."""
    whole = (pictures / "0.png").read_bytes()
    Path("cut.png").write_bytes(whole[: len(whole) // 2])
    Path("text.jpg").write_text("no picture")
    Path("empty.png").touch()
    for name, size in {"dot.png": (1, 1), "rope.png": (28, 28 * 200 + 1), "huge.png": (400, 400)}.items():
        Image.new("RGB", size).save(name)
    os.mkfifo("pipe.png")
    return {
        "gone.png": "not_a_file",
        "pipe.png": "not_a_file",
        "cut.png": "truncated",
        "text.jpg": "not_an_image",
        "empty.png": "not_an_image",
        "dot.png": "too_small",
        "rope.png": "too_narrow",
        "huge.png": "too_many_pixels",
        "none*.png": "no_match",
    }


def corridor(models: Path, *arguments: str) -> int:
    return main(["corridor", "--models", str(models), "--device", "cpu", "--threads", "1", *arguments])


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def give(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))


def check_probs(rows: Sequence[dict[str, object]]) -> None:
    """Good rows: both kinds of probabilities sum to 1, and the label is the class of the highest corrected one."""
    for row in rows:
        for kind in ("base", "corrected"):
            assert sum(float(str(row[f"{kind}_{name}"])) for name in NAMES) == pytest.approx(1, abs=1e-5)
        probs = [float(str(row[f"corrected_{name}"])) for name in NAMES]
        best = int(np.argmax(probs))
        assert (row["label"], row["name"]) == (LABELS[best], NAMES[best])
        assert float(str(row["confidence"])) == probs[best]


def test_a_folder_is_rows_on_standard_output(models: Path, pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert corridor(models, "good") == 0
    shown = capfd.readouterr()
    rows = rows_of(shown.out)
    measured = ["confidence", *(f"{kind}_{name}" for kind in ("base", "corrected") for name in NAMES)]
    assert list(rows[0]) == ["path", "status", "reason", "label", "name", *measured]
    assert [row["path"] for row in rows] == ["good/0.png", "good/1.png", "good/2.png"]
    assert {(row["status"], row["reason"]) for row in rows} == {("ok", "")}
    check_probs(rows)
    assert len({row["base_high"] for row in rows}) == 3
    assert all(row["base_high"] != row["corrected_high"] for row in rows)
    assert shown.err == "3 input(s), 0 error(s)\n"


def test_one_picture_is_a_sentence(models: Path, pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert corridor(models, "good/0.png") == 0
    shown = capfd.readouterr()
    (line,) = shown.out.splitlines()
    assert line.startswith("good/0.png: ")
    assert " after correction, " in line
    assert any(f"{label} ({name})" in line for label, name in zip(LABELS, NAMES, strict=True))
    assert shown.err == ""
    assert corridor(models, "gone.png") == 3
    assert capfd.readouterr().out == "gone.png: error: not_a_file: No such file or directory\n"
    # A folder of one picture is rows still, so that a script need not count.
    Path("single").mkdir()
    shutil.copy("good/0.png", "single")
    assert corridor(models, "single") == 0
    assert len(rows_of(capfd.readouterr().out)) == 1


def test_the_sentence_tells_a_change_of_mind() -> None:
    prompt = SimpleNamespace(base=SimpleNamespace(prompt=RISK))
    row = {"path": "a.jpg", "status": "ok", "label": "高风险", "name": "high", "confidence": 0.87}
    row |= {"base_none": 0.02, "base_low": 0.6, "base_high": 0.38}
    row |= {"corrected_none": 0.01, "corrected_low": 0.12, "corrected_high": 0.87}
    said = sentence(row, prompt)  # type: ignore[arg-type]
    assert said == (
        "a.jpg: 高风险 (high) 0.87 after correction, 0.38 before, when low was first with 0.60; none 0.01, low 0.12"
    )


def test_every_bad_input_is_a_row_and_stops_no_other(
    models: Path, pictures: Path, bad: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert corridor(models, "good") == 0
    alone = {row["path"]: row for row in rows_of(capfd.readouterr().out)}
    mixed = ["good/0.png", *bad, "good/1.png", "good/0.png"]
    # good/2.png has 156,800 pixels, huge.png 160,000.
    assert corridor(models, *mixed, "good/2.png", "--batch-size", "2", "--max-pixels", "159999") == 3
    shown = capfd.readouterr()
    rows = rows_of(shown.out)
    assert [row["path"] for row in rows] == [*mixed, "good/2.png"]
    assert shown.err == f"{len(rows)} input(s), {len(bad)} error(s)\n"
    for row in rows:
        if row["path"] in bad:
            assert row["status"] == "error"
            word, _, detail = row["reason"].partition(": ")
            assert word == bad[row["path"]]
            assert detail
            assert {row[name] for name in row if name not in ("path", "status", "reason")} == {""}
        else:
            assert row["label"] == alone[row["path"]]["label"]
            for name in ("base_high", "corrected_high", "confidence"):
                assert float(row[name]) == pytest.approx(float(alone[row["path"]][name]), abs=1e-5)


@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_a_list_on_standard_input(
    models: Path,
    pictures: Path,
    end: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    odd = b"latin\xe9, \xe6\xa5\xbc.png"
    shutil.copy("good/0.png", os.fsdecode(odd))
    names = [odd, b"good/1.png", b"gone.png"]
    give(monkeypatch, end.join(names) + end)
    assert corridor(models, "-", *(["--null"] if end == b"\0" else [])) == 3
    rows = rows_of(capfd.readouterr().out)
    assert [os.fsencode(unescape_path(row["path"])) for row in rows] == names
    assert [row["status"] for row in rows] == ["ok", "ok", "error"]
    check_probs(rows[:2])
    give(monkeypatch, b"")
    assert corridor(models, "-") == 0
    assert rows_of(capfd.readouterr().out) == []


def test_folders_with_and_without_their_subfolders(
    models: Path, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("outer").mkdir()
    shutil.move("good", "outer/good")
    assert corridor(models, "outer") == 3
    (row,) = rows_of(capfd.readouterr().out)
    assert row["reason"].startswith("no_pictures")
    assert corridor(models, "outer", "--recursive") == 0
    assert len(rows_of(capfd.readouterr().out)) == 3


def test_every_format_holds_the_same(
    models: Path, pictures: Path, bad: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        assert corridor(models, "good", "cut.png", "--output", f"new/rows.{suffix}") == 3
        shown = capfd.readouterr()
        assert shown.out == ""
        assert shown.err == f"4 input(s), 1 error(s), in new/rows.{suffix}\n"
    frames = [pd.read_csv("new/rows.csv"), pd.read_parquet("new/rows.parquet")]
    frames.append(pd.read_json("new/rows.jsonl", lines=True, precise_float=True))
    for frame in frames:
        assert frame.replace({np.nan: None}).to_dict("list") == frames[0].replace({np.nan: None}).to_dict("list")
        assert frame["base_high"].dtype == np.float64
    check_probs(frames[0].to_dict("records")[:3])
    assert sorted(os.listdir("new")) == ["rows.csv", "rows.jsonl", "rows.parquet"]


def test_strength_0_leaves_the_base(models: Path, pictures: Path) -> None:
    predictor = open_corridor(models, device="cpu", batch_size=2, max_pixels=10**6)
    inputs = [Input(escape_path(str(path))) for path in sorted(pictures.iterdir())]
    rows = list(judge(replace(predictor, strength=0.0), inputs, batch_size=2, max_pixels=10**6))
    assert len(rows) == 3
    for row in rows:
        assert [row[f"base_{name}"] for name in NAMES] == [row[f"corrected_{name}"] for name in NAMES]


def test_the_rows_are_those_of_the_predictor(models: Path, pictures: Path) -> None:
    """The command decodes and encodes by itself; what it finds is what the stage would find."""
    predictor = open_corridor(models, device="cpu", batch_size=3, max_pixels=10**6)
    paths = sorted(str(path) for path in pictures.iterdir())
    base, corrected = predictor.predict([RISK.record(path) for path in paths])
    rows = list(judge(predictor, map(Input, paths), batch_size=3, max_pixels=10**6, threads=2))
    columns = numbers(predictor)[1:]
    np.testing.assert_allclose(
        [[row[name] for name in columns] for row in rows], np.hstack([base, corrected]), atol=2e-6
    )
    assert set(rows[0]) == {*TEXTS, *numbers(predictor)}


def test_each_picture_is_decoded_once(models: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def counting(path: str, **limits: int) -> np.ndarray:
        seen.append(path)
        return decode_rgb(path, **limits)

    monkeypatch.setattr("assay.vlm.command.decode_rgb", counting)
    monkeypatch.setattr("assay.vlm.examples.decode_rgb", counting)
    assert corridor(models, "good", "-o", "rows.csv") == 0
    assert sorted(seen) == ["good/0.png", "good/1.png", "good/2.png"]


def spoil_base(models: Path) -> None:
    path = models / "base" / "config.json"
    path.write_text(path.read_text() + "\n")


def drop_base(models: Path) -> None:
    shutil.rmtree(models / "base")


def cut(name: str, size: int) -> object:
    def spoil(models: Path) -> None:
        (models / name).write_bytes((models / name).read_bytes()[:size])

    return spoil


def drop(name: str) -> object:
    return lambda models: (models / name).unlink()


def write_fusion(**changes: object) -> object:
    return lambda models: (models / "fusion.json").write_text(json.dumps(FUSION | changes))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (spoil_base, "models/base/config.json differs"),
        (drop_base, "models/base, which is not here: run from the root of the project"),
        (drop("fusion.json"), "fusion.json: run dvc repro vlm_predict"),
        (drop("high_risk/manifest.json"), "no manifest.json in "),
        (drop("sft/base/adapter_model.safetensors"), "adapter_model.safetensors"),
        (drop("sft/base/adapter_config.json"), "adapter_config.json"),
        (cut("sft/base/manifest.json", 20), "sft/base/manifest.json: not valid JSON"),
        (cut("high_risk/adapter_model.safetensors", 50), "SafetensorError"),
        (cut("fusion.json", 10), "fusion.json: not valid JSON"),
        (write_fusion(more=1), "more"),
        (write_fusion(high=7), "high must be a column of probs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_models_that_are_not_whole_are_one_line_and_status_2(
    models: Path, pictures: Path, spoil, named: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    copy = tmp_path / "models"
    shutil.copytree(models, copy)
    for name in ("sft/base", "high_risk"):
        record = json.loads((copy / name / "manifest.json").read_text())
        (copy / name / "manifest.json").write_text(json.dumps(record | {"base": (copy / "base").as_posix()}))
    assert corridor(copy, "good", "-o", "before.csv") == 0
    spoil(copy)
    capfd.readouterr()
    assert corridor(copy, "good", "-o", "rows.csv") == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
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
def test_wrong_arguments_are_told_and_status_2(
    models: Path, pictures: Path, arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        status = corridor(models, *arguments)
    except SystemExit as stop:
        status = int(str(stop.code))
    assert status == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert message in shown.err.splitlines()[-1]


def test_missing_models_are_told_before_any_import(tmp_path: Path) -> None:
    code = (
        "import sys; from assay.cli import main; status = main(['corridor', 'x.png']); "
        "print(status, *{'torch', 'numpy', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == "2\n"
    assert done.stderr == (
        "assay corridor: no models/vlm/fusion.json: run dvc repro vlm_predict, or give the folder of models by --models\n"
    )


def test_too_little_memory_names_the_option(
    models: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("assay.vlm.command.answer_log_probs", full)
    assert corridor(models, "good", "-o", "rows.csv") == 2
    assert "out of memory with 3 picture(s) at a time: lower --batch-size" in capfd.readouterr().err
    assert not Path("rows.csv").exists()


def test_a_predictor_is_what_opens(models: Path) -> None:
    assert isinstance(open_corridor(models, device="cpu", batch_size=1, max_pixels=100), CorridorPredictor)
