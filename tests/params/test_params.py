"""Every way params.yaml can be wrong is told by key, value and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from assay.core.params import ParamsError, load, read_yaml, validate
from assay.params.images import Images, check_weights
from assay.params.schema import validate_file

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))]
Edit = Callable[[str, object], dict[str, Any]]


def message(content: dict[str, Any]) -> str:
    with pytest.raises(ParamsError) as caught:
        validate(Images, content)
    return str(caught.value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_files_that_ship_are_valid(path: Path) -> None:
    assert validate_file(path) == validate_file(path, base=FILES[0])


@pytest.mark.parametrize("text", ["1e-05", "1e-5", "1.0e-5", "0.00001"])
def test_an_exponent_is_a_number(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    yaml = YAML()
    content = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    content["train_stage1"]["lr"] = yaml.load(text)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)  # as DVC writes -S train_stage1.lr=1e-5
    lr = load(Images, path).train_stage1.lr
    assert isinstance(lr, float)
    assert lr == 1e-5


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("train_stage1.lr", "abc", "valid number"),
        ("train_stage1.lr", True, "valid number"),
        ("train_stage1.lr", 0, "greater than 0"),
        ("train_stage1.lr", 2.0, "less than or equal to 1"),
        ("train_stage1.lr", float("nan"), "finite"),
        ("train_stage1.epochs", True, "valid integer"),
        ("train_stage1.epochs", 3.0, "valid integer"),
        ("train_stage1.epochs", 0, "greater than or equal to 1"),
        ("train_stage1.mixed_precision", "int8", "'no', 'bf16' or 'fp16'"),
        ("train_stage1.augment.hue", 0.6, "less than or equal to 0.5"),
        ("train_stage1.augment.blur_sigma", [2.0, 1.0], "must not be larger"),
        ("runtime.seed", -1, "greater than or equal to 0"),
        ("runtime.device", "cuda", "'auto' or 'cpu'"),
        ("forge.families", ["blend", "warp"], "'recon', 'blend', 'splice', 'inpaint' or 'resample'"),
        ("forge.short_side", [1.0], "at least 2"),
        ("prepare.resize", "stretch", "'crop' or 'squash'"),
        ("calibrate.role", "test", "'calib' or 'val'"),
        ("evaluate.robustness.blur_sigma", 0.5, "valid list"),
        ("roles", None, "dictionary"),
    ],
)
def test_a_bad_value_is_told_by_key_value_and_what_is_allowed(put: Edit, key: str, value: object, told: str) -> None:
    text = message(put(key, value))
    line = next(line for line in text.splitlines() if line.strip().startswith(key))
    assert told in line
    shown = value[-1] if key == "forge.families" and isinstance(value, list) else value
    assert repr(shown) in line


def test_an_integer_is_a_good_float(put: Edit) -> None:
    settings = validate(Images, put("train_stage1.weight_decay", 0))
    assert settings.train_stage1.weight_decay == 0.0


def test_all_errors_stand_in_one_message(put: Edit) -> None:
    content = put("train_stage1.lr", "abc")
    content["train_stage1"]["epoch"] = 5
    content["prepare"]["sources"] = [{"dataset": "a b", "kind": "forge"}]
    del content["forge"]["recon"]["lr"]
    lines = message(content).splitlines()
    assert lines[0] == "params.yaml: 4 value(s) can't be used"
    assert sorted(line.split(":")[0].strip() for line in lines[1:]) == [
        "forge.recon.lr",
        "prepare.sources.0.dataset",
        "train_stage1.epoch",
        "train_stage1.lr",
    ]
    assert next(line for line in lines if "epoch:" in line).endswith(
        "unknown key (value 5); remove it or mend its spelling"
    )
    assert next(line for line in lines if "recon.lr" in line).endswith("missing, and it has no default")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("roles.test", 0.9, "must be above 0 and sum to 1, they sum to 1."),
        ("forge.unseen", "blend", None),
        ("forge.jpeg_quality", [90, 80], "must not be larger than the second, got [90, 80]"),
        ("forge.jpeg_quality", [0, 80], "greater than or equal to 1"),
        ("forge.size", 512, "short_side"),
        ("forge.size", 50, "size must be a multiple of 4 for family recon, got 50"),
        ("forge.resample.factor", [1.0, 2.0], "resample.factor must be above 1"),
        ("forge.families", ["blend", "blend", "inpaint"], "an entry twice"),
        ("forge.families", ["inpaint"], "at least one family besides the unseen one"),
        ("forge.families", ["blend", "splice"], "unseen 'inpaint' must be one of families ['blend', 'splice']"),
        ("prepare.sources", [{"dataset": "a", "kind": "folders"}], "path is needed"),
        ("prepare.sources", [{"dataset": "a", "kind": "forge", "path": "x"}], "not taken by kind forge"),
        ("prepare.sources", [{"dataset": "a", "kind": "folders", "path": "x"}] * 2, "share a dataset name: ['a', 'a']"),
        ("prepare.sources", [{"dataset": name, "kind": "forge"} for name in "ab"], "only one source"),
        ("train_stage1.warmup_epochs", 500, "warmup_epochs 500 must be below epochs"),
        ("train_stage1.augment.blur_sigma", [-1.0, 2.0], "greater than or equal to 0"),
        ("train_stage1.augment.jpeg_quality", [95, 70], "must not be larger than the second, got [95, 70]"),
        ("train_stage1.augment.scale", 1.0, "less than 1"),
    ],
)
def test_keys_that_contradict_each_other(put: Edit, key: str, value: object, told: str | None) -> None:
    content = put(key, value)
    if told is None:
        assert validate(Images, content).forge.seen == [name for name in content["forge"]["families"] if name != value]
        return
    text = message(content)
    assert told in text
    line = next(line for line in text.splitlines() if told in line)
    assert line.strip().startswith(key.split(".")[0])
    assert len(line) < 250  # the values that matter, not the whole section


def test_no_unseen_family_makes_all_of_them_seen(put: Edit) -> None:
    content = put("forge.unseen", None)
    assert validate(Images, content).forge.seen == content["forge"]["families"]


def test_settings_cannot_be_changed_later() -> None:
    settings = validate(Images, read_yaml(FILES[0]))
    with pytest.raises(ValueError, match="frozen"):
        settings.train_stage1.lr = 1.0  # type: ignore[misc]


def test_a_section_no_line_knows(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    path.write_text(text + "\ntrain_stage9: {lr: 1}\n3: {}\n", encoding="utf-8")
    with pytest.raises(ParamsError, match=r"unknown section\(s\) \[3, 'train_stage9'\]; known: .*'train_stage1'"):
        validate_file(path)


@pytest.mark.parametrize("name", ["runtime", "roles", "prepare", "train_stage1"])
def test_a_missing_section(put: Edit, name: str) -> None:
    content = put(name, None)
    del content[name]
    assert f"  {name}: missing" in message(content)


@pytest.mark.parametrize("value", ["hub", "random", "file: a/b c.safetensors", "file:x", "package: some-pkg==0.1.0"])
def test_good_weights(value: str) -> None:
    assert check_weights(value) == value
    assert check_weights(f"package: p==1+cu#sha256={'0a' * 32}")


@pytest.mark.parametrize(
    "value",
    [
        *("", "Hub", "file:", "file:  ", "package: p", "package: p>=1", "package: p==1 --index-url=x"),
        *("https://x/y.bin", f"package: p==1#sha256={'0' * 63}", f"package: p==1#sha256={'A' * 64}"),
        *("package: -r evil", "file: a\nb"),
    ],
)
def test_bad_weights(put: Edit, value: str) -> None:
    text = message(put("train_stage1.weights", value))
    assert "train_stage1.weights" in text
    assert repr(value) in text
    assert "allowed: hub, random, 'file: PATH'" in text


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "params.yaml", tmp_path):
        with pytest.raises(ParamsError, match="no parameter file at"):
            load(Images, path)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "must be a mapping of sections, got NoneType"),
        (b"- 1\n- 2\n", "got list"),
        (b"just text", "got str"),
        (b"a: b: c", "is not YAML"),
        (b"a: [1", "is not YAML"),
        (b"a: 1\na: 2", "is not YAML"),
        (b"\xff\xfe\x00a", "is not YAML"),
        (b"a: !!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_files_that_are_no_mapping(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(data)
    with pytest.raises(ParamsError, match=told):
        validate_file(path, base=FILES[0])
