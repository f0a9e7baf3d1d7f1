"""render_corridors -> prepare_vlm -> pretrain_vlm -> vlm_sft, vlm_sft_high_risk -> vlm_predict, small, and own pictures."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from assay.core.io import read_json, sha256_file
from assay.stages import filter_vlm, prepare_vlm, pretrain_vlm, score_vlm, vlm_predict, vlm_sft, vlm_sft_high_risk
from assay.vlm.messages import read_messages
from assay.vlm.prediction import open_predictor

ROOT = Path(__file__).parents[2]
NETWORKS = {"no_augmentation": "rows/train.jsonl", "base": "filtered/train.jsonl"}
NETWORKS |= {"no_filter": "rows/train.jsonl", "order_1": "filtered/train.jsonl"}
FOLDS = {"fold_0_of_2": "rows/train.jsonl", "fold_1_of_2": "rows/train.jsonl"}
ROLES = ("train", "val", "calib", "tune", "test")
SECONDS = {"plain", "amplifier", "reweighting", "both", "vision"}
SYSTEMS = {"fused", "uncalibrated", "blank", "majority", *NETWORKS}
SYSTEMS |= {f"fused_{name}" for name in (SECONDS | {"mean"}) - {"both"}}
LABELS = ["无风险", "低风险", "中风险", "高风险", "非楼道"]


def write_params(**changes: dict[str, Any]) -> None:
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["runtime"] |= {"threads": 1, "device": "cpu"}
    params["render_corridors"] |= {"num_scenes": 60, "size": [84, 56]}
    params["prepare_vlm"]["roles"] = {"train": 0.4, "val": 0.15, "calib": 0.15, "tune": 0.15, "test": 0.15}
    sizes = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "intermediate_size": 32}
    vision = {"vision_hidden_size": 32, "vision_layers": 1, "vision_heads": 2, "vision_intermediate_size": 32}
    params["pretrain_vlm"]["small"] |= sizes | vision
    params["pretrain_vlm"] |= {"epochs": 1}
    for section in ("vlm_sft", "vlm_sft_high_risk"):
        params[section] |= {"epochs": 1, "batch_size": 8}
        params[section]["lora"] |= {"rank": 4, "alpha": 8}
    params["vlm_networks"] = NETWORKS | FOLDS
    params["vlm_predict"] |= {"num_mistakes": 6, "second": "both"}
    for section, values in changes.items():
        params[section] |= values
    with Path("params.yaml").open("w", encoding="utf-8") as stream:
        yaml.dump(params, stream)


def render() -> str:
    """In a process of its own, as dvc has it: OpenGL's compiler and torch's do not get on in one."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "assay.stages.render_corridors"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else done.stderr


def run_line() -> None:
    """Everything after the pictures."""
    prepare_vlm.main()
    pretrain_vlm.main()
    vlm_sft.main(["--network", "no_augmentation"])
    filter_vlm.main()
    for name in ("base", "no_filter", "order_1", *FOLDS):
        vlm_sft.main(["--network", name])
    for name in sorted(SECONDS):
        vlm_sft_high_risk.main(["--network", name])
    for stage in (score_vlm, vlm_predict):
        stage.main()


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("vlm")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_params()
        assert "60 pictures" in render()
        run_line()
    return folder


def test_roles_share_no_scene_and_copies_are_of_train_only(here):
    records = {role: read_messages(f"data/vlm/rows/{role}.jsonl") for role in ROLES}
    groups = {role: {record["group"] for record in rows} for role, rows in records.items()}
    assert sum(len(found) for found in groups.values()) == len(set().union(*groups.values())) == 60
    assert {record["transform"] for record in records["train"]} == {"none", "scale", "rotate", "colour", "sign"}
    assert all(record["transform"] == "none" for role in ROLES[1:] for record in records[role])
    assert all({record["label"] for record in rows} == set(LABELS) for rows in records.values())
    captions = read_messages("data/vlm/rows/captions.jsonl")
    assert {record["sample_id"] for record in captions} == groups["train"]


def test_what_is_written(here):
    assert (here / "plots/render_corridors/contact_sheet.png").stat().st_size > 1000
    assert {path.name for path in Path("models/vlm/sft").glob("*/")} == set(NETWORKS | FOLDS)
    assert {path.name for path in Path("models/vlm/high_risk").glob("*/")} == SECONDS
    for folder in (*Path("models/vlm/sft").glob("*/"), *Path("models/vlm/high_risk").glob("*/")):
        names = {path.name for path in folder.iterdir()}
        assert {"adapter_config.json", "adapter_model.safetensors", "manifest.json"} <= names
        assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    for plot in ("confusion_base", "confusion_fused", "reliability", "systems", "mistakes", "training", "amplified"):
        assert (here / f"plots/vlm/{plot}.png").is_file()
    assert (here / "plots/prepare_vlm/augmented.png").is_file()
    assert not list(Path(".assay/resume").glob("*"))


def test_the_submission_has_a_line_per_test_picture_in_order(here):
    lines = Path("data/vlm/b-submit.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    assert [name for name, _ in rows] == [record["name"] for record in read_messages("data/vlm/rows/test.jsonl")]
    table = pd.read_parquet("data/vlm/test_predictions.parquet")
    assert [label for _, label in rows] == list(table["predicted"])
    names = ["no_risk", "low", "medium", "high", "not_a_corridor"]
    fused = table[[f"fused_{name}" for name in names]].to_numpy()
    assert np.allclose(fused.sum(axis=1), 1)
    assert [LABELS[number] for number in fused.argmax(axis=1)] == list(table["predicted"])


def test_metrics_follow_from_the_predictions(here):
    figures, table = read_json("metrics/vlm.json"), pd.read_parquet("data/vlm/test_predictions.parquet")
    assert {key.split(".")[0] for key in figures} >= SYSTEMS | {"spread", "fusion", "filter"}
    assert figures["fused.accuracy"] == pytest.approx((table["predicted"] == table["label"]).mean())
    assert figures["majority.accuracy"] == pytest.approx(table["label"].value_counts(normalize=True).iloc[0], abs=0.2)
    assert figures["base.n"] == len(table)
    assert figures["spread.runs"] == 2
    fusion = read_json("models/vlm/fusion.json")
    fitted = {"scaling", "temperature", "scale", "bias", "vector_gain", "vector_gain_error"}
    assert set(fusion) == {"second", "members", "high", "neutral", "strength", "high_temperature"} | fitted
    assert figures["fusion.temperature_low"] <= fusion["temperature"] <= figures["fusion.temperature_high"]


def test_the_predictor_says_what_the_stage_said(here):
    table = pd.read_parquet("data/vlm/test_predictions.parquet")
    predictor = open_predictor(Path("models/vlm"), device="cpu", batch_size=3, decode_pixels=10**8)
    base, fused = predictor.predict(read_messages("data/vlm/rows/test.jsonl"))
    columns = [f"_{name}" for name in predictor.base.prompt.names]
    assert np.allclose(base, table[[f"base{name}" for name in columns]], atol=1e-5)
    assert np.allclose(fused, table[[f"fused{name}" for name in columns]], atol=1e-5)


def test_a_second_run_writes_the_same_bytes(here):
    files = sorted(path for part in ("models", "metrics") for path in Path(part).rglob("*") if path.is_file())
    before = {path: sha256_file(path) for path in files}
    run_line()
    assert {path: sha256_file(path) for path in files} == before


HIGH = {"label": "fire", "near_misses": [], "question": "高？", "yes": "是", "no": "否"}
CLASSES = [{"name": name, "label": name, "answer": answer} for name, answer in (("safe", "无"), ("fire", "高"))]
OWN = {"render_corridors": {"source": "own.jsonl"}, "prepare_vlm": {"classes": CLASSES, "high_risk": HIGH}}


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A messages file with twelve images of each of two labels, and rows that can't be used."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    records = []

    def add(answer: str, *images: str, question: str = "<image>哪一类？") -> None:
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        records.append({"messages": turns, "images": images})

    for number in range(24):
        size = (int(rng.integers(40, 120)), int(rng.integers(40, 120)))
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        add(("safe", "fire")[number % 2], f"{number}.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    Image.new("RGB", (2000, 1500), (9, 9, 9)).save(tmp_path / "large.png")
    add("safe", "missing.png")
    add("safe", "dot.png")
    add("safe", "0.png", "1.png")
    add("", "2.png")
    add("fire", "3.png", question="<image>看<|image_pad|>")
    add("odd", "large.png")
    (tmp_path / "own.jsonl").write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    write_params(**OWN)
    return tmp_path


def test_own_images_bad_rows_unknown_labels_and_long_conversations_are_told(own):
    assert "24 pictures" in render()
    rejected = pd.read_csv("data/vlm/source/rejected.csv")
    reasons = ["missing picture", "too_small", "not exactly one image", "no label", "literal token", "unknown label"]
    assert list(rejected["reason"]) == reasons
    assert rejected["detail"].iloc[-1] == "'odd' is none of safe, fire"
    assert "role" not in pd.read_parquet("data/vlm/source/table.parquet")
    prepare_vlm.main()
    assert read_json("metrics/vlm_data.json")["rejected"] == 6
    with pytest.raises(ValueError, match="no image has a caption; add a column caption, or give weights"):
        pretrain_vlm.main()
    write_params(**OWN | {"prepare_vlm": OWN["prepare_vlm"] | {"max_tokens": 16}})
    with pytest.raises(ValueError, match=r"\.png: \d+ tokens \(\d+ of the image\), above prepare_vlm.max_tokens 16"):
        prepare_vlm.main()


def write_own(*rows: tuple[str, str, str | None]) -> None:
    """A file of LLaVA's conversations: (number of the image, answer, declared split)."""
    records = []
    for image, answer, role in rows:
        turns = [{"from": "human", "value": "<image>\n?"}, {"from": "gpt", "value": answer}]
        records.append({"image": f"{image}.png", "conversations": turns} | ({"split": role} if role else {}))
    Path("own.json").write_text(json.dumps(records), encoding="utf-8")
    write_params(**OWN | {"render_corridors": {"source": "own.json"}})


def test_a_declared_split_is_kept_and_lends_what_it_lacks(own, capsys):
    declared = ["train"] * 8 + ["Validation"] * 10 + ["test"] * 6
    write_own(*((str(number), ("safe", "fire")[number % 2], role) for number, role in enumerate(declared)))
    assert "24 pictures" in render()
    prepare_vlm.main()
    assert "calib had no rows and takes" in capsys.readouterr().out
    names = {role: {row["name"] for row in read_messages(f"data/vlm/rows/{role}.jsonl")} for role in ROLES}
    assert names["train"] == {f"{number}.png" for number in range(8)}
    assert names["test"] == {f"{number}.png" for number in range(18, 24)}
    assert names["val"] | names["calib"] | names["tune"] == {f"{number}.png" for number in range(8, 18)}
    write_own(*((str(number), ("safe", "fire")[number % 2], "eval") for number in range(24)))
    assert "none of 24 rows of own.json can be used: 24 unknown role (row 0: ['eval'] is not one of train" in render()


def test_what_stops_the_stages_is_told_with_numbers_and_rejected_rows(own):
    answers = ["no", "It burns.", ""]
    write_own(*((str(number), answers[number % 3], None) for number in range(12)))
    words = "none of 12 rows of own.json can be used: 8 unknown label (row 0: 'no' is none of safe, fire), 4 no label (row 2"
    assert words in render()
    assert len(pd.read_csv("data/vlm/source/rejected.csv")) == 12
    rows = [(str(number), "fire" if number in (3, 4, 5) else "safe", None) for number in range(24)]
    write_own(*rows, ("24", "", None))
    assert "24 pictures" in render()
    words = r"fire \(fire\): 3 image\(s\) in 3 group\(s\), none for tune, test\. "
    words += r"Images by class: {'safe': 21, 'fire': 3}\. "
    with pytest.raises(
        ValueError, match=words + "Each class needs a group for each of the 5 roles: .* Rejected: 1 no label"
    ):
        prepare_vlm.main()
    assert Path("data/vlm/rows/rejected.csv").is_file()
    # Which of the scenes that are rendered are classes, is checked where they are split.
    table = pd.read_parquet("data/vlm/source/table.parquet")
    table.assign(label=["odd", "safe"] * 12).to_parquet("data/vlm/source/table.parquet")
    with pytest.raises(ValueError, match=r"fire \(fire\): 0 image\(s\) in 0 group\(s\)"):
        prepare_vlm.main()
    assert set(pd.read_csv("data/vlm/rows/rejected.csv")["reason"]) == {"unknown_label"}


def test_images_in_a_parquet_file_are_unpacked(own):
    """As Hugging Face's datasets write images."""
    rows = [{"image": {"bytes": Path(f"{number}.png").read_bytes(), "path": "same.png"}} for number in range(24)]
    rows = [row | {"label": ("SAFE", "fire")[number % 2]} for number, row in enumerate(rows)]
    rows += [{"image": {"bytes": Path("0.png").read_bytes(), "path": None}, "label": "fire"}]
    pd.DataFrame(rows).to_parquet("own.parquet")
    write_params(**OWN | {"render_corridors": {"source": "own.parquet"}})
    assert "23 pictures" in render()
    assert pd.read_csv("data/vlm/source/rejected.csv")["reason"].tolist() == ["conflicting labels"] * 2
    table = pd.read_parquet("data/vlm/source/table.parquet")
    assert set(table["name"]) == {"same.png"}
    pictures = [Path("data/vlm/source", picture) for picture in table["picture"]]
    assert [path.read_bytes() for path in pictures] == [Path(f"{number}.png").read_bytes() for number in range(1, 24)]
    names = {path.name for path in Path("data/vlm/source").iterdir()}
    assert names == {"pictures", "table.parquet", "rejected.csv"}
    assert {path.name for path in Path("data/vlm/source/pictures").iterdir()} == {path.name for path in pictures}
    prepare_vlm.main()


def test_given_weights_are_taken_and_a_hub_that_is_not_there_is_told(here, tmp_path, monkeypatch):
    weights = tmp_path / "weights"
    for source in ("models/vlm/pretrained/base", "data/vlm/rows/processor"):
        shutil.copytree(source, weights, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    given = {"processor": f"folder: {weights}"}
    write_params(prepare_vlm=given, pretrain_vlm={"base": f"folder: {weights}", "high_risk": f"folder: {weights}"})
    pretrain_vlm.main()
    assert read_json("models/vlm/pretrained/high_risk/source.json") == {"revision": "", "source": f"folder: {weights}"}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_params(prepare_vlm=given, pretrain_vlm={"base": "hub: Qwen/Qwen2.5-VL-7B-Instruct"})
    with pytest.raises(RuntimeError, match=r"set pretrain_vlm.base to 'folder: PATH'"):
        pretrain_vlm.main()
