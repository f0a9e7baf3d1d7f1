"""assay check --data on small prepared data: what is missing, what is tried, and what it costs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import save_file

from assay.cli import main
from assay.core.io import write_json
from assay.params.schema import validate_file
from assay.stages import prepare

ROOT = Path(__file__).resolve().parents[2]


def write_params(**changes):
    """The parameters of params/tiny.yaml with one source of folders; ``changes`` are ``section__key=value``."""
    content = validate_file(ROOT / "params/tiny.yaml", base=ROOT / "params.yaml")
    content["prepare"] |= {"sources": [{"dataset": "own", "kind": "folders", "path": "own"}]}
    content["prepare"]["audit"] = {"max_auc": 1.0, "action": "warn"}
    for key, value in changes.items():
        *path, name = key.split("__")
        section = content
        for part in path:
            section = section[part]
        section[name] = value
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(content, file)


def pictures(groups):
    """So many pictures of each class, each a group of its own."""
    for number in range(groups):
        for label in ("real", "forged"):
            path = Path("own") / label / f"{label[0]}{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([number, len(label)])
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)


def write_text(rows_of_second_class):
    """Rows of the text line, as prepare_text leaves them, with so many of the second class in calib."""
    folder = Path("data/text/rows")
    folder.mkdir(parents=True)
    for role in ("train", "val", "calib", "test"):
        labels = [0] * 30 + [1] * (rows_of_second_class if role == "calib" else 30)
        names = [f"{role}-{number}" for number in range(len(labels))]
        pd.DataFrame({"sample_id": names, "text": names, "label": labels, "group": names}).to_parquet(
            folder / f"{role}.parquet"
        )
    write_json(folder / "classes.json", ["bad", "good"])


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_without_any_data_it_says_what_to_run(capsys):
    write_params(prepare__sources=[{"dataset": "photos", "kind": "forge"}])
    assert main(["check", "--data", "--quick"]) == 2
    said = capsys.readouterr().err
    assert "images: no data/forged/manifest.csv: run dvc repro forge" in said
    assert "counts: no data/counts/rows/train.parquet: run dvc repro prepare_counts" in said
    assert "vlm: no data/vlm/rows/train.jsonl: run dvc repro prepare_vlm" in said
    assert "no line has data yet" in said


def test_sources_are_counted_before_they_are_prepared(capsys):
    pictures(12)
    write_params(evaluate__external=[{"name": "phone", "path": "data/own/external/phone"}])
    assert main(["check", "--data", "--quick"]) == 1
    said = capsys.readouterr().out
    assert "counted from names" in said
    assert "external phone" in said
    assert "1 error(s)" in said
    for path in list(Path("own/forged").iterdir())[:8]:
        path.unlink()
    write_params()
    assert main(["check", "--data", "--quick"]) == 1
    assert "4 group(s) hold forged images" in capsys.readouterr().out


def test_what_prepare_would_say_of_its_sources_is_said(capsys):
    write_params()
    assert main(["check", "--data", "--quick"]) == 1
    assert "error    prepare  source own: no folder own" in capsys.readouterr().out
    pictures(12)
    (Path("own") / "notes.txt").write_text("mine")
    main(["check", "--data", "--quick"])
    assert "warning  prepare, files" in (said := capsys.readouterr().out)
    assert "1 rejected\n  1 no_class: folder '.' names no class" in said
    Path("own/real").rename("own/reals")
    assert main(["check", "--data", "--quick"]) == 1
    said = capsys.readouterr().out
    assert "source own: no real image in own" in said
    assert "13 no_class: folder 'reals' names no class (12)" in said


def test_errors_of_two_lines_are_counted_together(capsys):
    pictures(3)
    write_params()
    write_text(0)
    assert main(["check", "--data", "--quick"]) == 1
    said = capsys.readouterr().out
    assert "class real" in said
    assert "role calib 30 rows (30 bad in 30, 0 good in 0 groups): no good" in " ".join(said.split())


def test_prepare_stops_with_every_reason_and_rejected_is_there():
    pictures(3)
    (Path("own/real") / "words.jpg").write_text("no image")
    write_params()
    with pytest.raises(ValueError, match=r"for 2 reason\(s\)\n  class real: 3 group\(s\).*\n  class forged: 3 group"):
        prepare.main()
    assert list(pd.read_csv("data/processed/rejected.csv")["reason"]) == ["not_an_image"]
    assert not Path("data/processed/train_manifest.csv").exists()


def test_the_trainings_are_tried_and_a_broken_one_is_an_error(capsys):
    from assay.images.model.backbones import body_names, create_network

    pictures(40)
    write_params(
        train_stage1__batch_size=8,
        train_expert__maxvit__batch_size=4,
        train_expert__efficientnetv2_b3__batch_size=4,
    )
    prepare.main()
    networks = {"stage1": "test_efficientnet", "efficientnetv2_b3": "test_efficientnet", "maxvit": "test_resnet"}
    Path("data/weights").mkdir()
    for name, architecture in networks.items():
        network = create_network(architecture, pretrained=False, image_size=32)
        state = network.state_dict()
        save_file({key: state[key].contiguous() for key in body_names(network)}, f"data/weights/{name}.safetensors")
    # Weights of another network, which only its first step would show.
    Path("data/weights/maxvit.safetensors").write_bytes(Path("data/weights/stage1.safetensors").read_bytes())
    before = sorted(path.as_posix() for path in Path().rglob("*"))
    capsys.readouterr()
    assert main(["check", "--data", "--jobs", "2"]) == 1
    assert sorted(path.as_posix() for path in Path().rglob("*")) == before
    said = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in said.splitlines() if line.endswith((" trial", " forward"))}
    assert set(lines) == {"train_stage1", "distill_stage1", "train_expert@efficientnetv2_b3"}
    assert lines["train_expert@efficientnetv2_b3"][1] == "6"
    assert int(lines["train_stage1"][4]) > 100  # MiB
    (error,) = [line for line in said.splitlines() if line.startswith("error")]
    assert "train_expert@maxvit-full" in error
    assert "tensors" in error
    assert "memory, side by side" in said
