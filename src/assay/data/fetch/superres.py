"""The weights of the super-resolution network that the ``superres`` family of forgeries is made by.

They stand in an npm package as raw float32 numbers, with their names and shapes in a JSON file (the layers format of
TensorFlow.js). Both are read; no code of the package is.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from assay.data.fetch.archives import unpack
from assay.data.fetch.registry import Pin, fetch

PIN = Pin(
    package="@upscalerjs/esrgan-slim",
    version="1.0.0",
    sha256="b53070ff01363e74d33138106dcc72b58d341c9fb7e8fd648554a4e7744142b5",
    filename="upscalerjs-esrgan-slim-1.0.0.tgz",
    licence="MIT",
)
MODEL, NUMBERS = "package/models/x2/model.json", "package/models/x2/group1-shard1of1.bin"
MAX_BYTES = 2**24


def superres_weights(*, cache_dir: Path) -> dict[str, np.ndarray]:
    """Numbers of every layer, as torch orders them: ``<layer>.weight`` float32 [out, in, k, k] and ``<layer>.bias`` [out].

    Raises:
        RuntimeError: the package cannot be had.
    """
    archive = fetch(PIN, cache_dir=cache_dir)
    with tempfile.TemporaryDirectory(dir=cache_dir) as folder:
        model, numbers = unpack(archive, Path(folder), members=[MODEL, NUMBERS], max_bytes=MAX_BYTES)
        (group,) = json.loads(model.read_text(encoding="utf-8"))["weightsManifest"]
        values = np.frombuffer(numbers.read_bytes(), dtype="<f4").astype(np.float32)
    sizes = [int(np.prod(entry["shape"])) for entry in group["weights"]]
    assert sum(sizes) == len(values), (sum(sizes), len(values))
    found: dict[str, np.ndarray] = {}
    for entry, part in zip(group["weights"], np.split(values, np.cumsum(sizes)[:-1]), strict=True):
        layer, kind = entry["name"].split("/")
        array = part.reshape(entry["shape"])
        if kind == "kernel":
            found[f"{layer}.weight"] = np.ascontiguousarray(array.transpose(3, 2, 0, 1))
        else:
            found[f"{layer}.bias"] = array
    return found
