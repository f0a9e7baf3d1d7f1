"""Scoring keeps the order and does not depend on the batch size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.core.torch_setup import pick_device
from assay.images.model.backbones import Checkpoint, build
from assay.images.model.prediction import Predictor


def test_array_logits_do_not_depend_on_the_batch_size() -> None:
    torch.manual_seed(0)
    model, config = build("mobilenetv3_small_050", weights={}, image_size=32)
    torch.nn.init.normal_(model.get_classifier().weight)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    one, many = (Predictor(Checkpoint(model, config, {}), batch_size=size).array_logits(pixels) for size in (2, 64))
    assert one.dtype == np.float64
    assert one.std() > 0
    np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-4)
    with pytest.raises(AssertionError):
        Predictor(Checkpoint(model, config, {})).array_logits(pixels[:, :16, :16])


def test_cpu_is_the_cpu() -> None:
    assert pick_device("cpu").type == "cpu"
