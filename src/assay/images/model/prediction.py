"""Logits of a trained network for pictures of the pixel store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from assay.core.progress import progress
from assay.core.torch_setup import pick_device
from assay.images.model.backbones import Checkpoint, load_checkpoint
from assay.images.model.dataset import PictureSet, make_loader
from assay.images.model.transforms import Normalize


@torch.inference_mode()
def predict_logits(
    model: nn.Module, batches: torch.Tensor, normalize: Normalize, *, device: torch.device
) -> np.ndarray:
    """Logits float64 [n] of one batch uint8 [n, 3, S, S], in float32 arithmetic."""
    logits = model(normalize(batches.to(device))).squeeze(1)
    return logits.double().cpu().numpy()


class Predictor:
    """A checkpoint ready to score pictures; the data config comes from the checkpoint."""

    def __init__(self, checkpoint: Checkpoint, *, device: str = "cpu", batch_size: int = 64) -> None:
        self.device = pick_device(device)
        self.image_size = checkpoint.data_config.image_size
        self._batch_size = batch_size
        self.network = checkpoint.model.eval().to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._normalize = Normalize(checkpoint.data_config.mean, checkpoint.data_config.std).to(self.device)

    def logits(self, data: PictureSet, *, what: str = "scoring") -> np.ndarray:
        """Logits float64 [n], in the order of the data set."""
        loader = make_loader(data, batch_size=self._batch_size, seed=0, shuffle=False, workers=0)
        parts = [
            predict_logits(self.network, pictures, self._normalize, device=self.device)
            for pictures, _ in progress(loader, name=what, unit="batch")
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def array_logits(self, pixels: np.ndarray) -> np.ndarray:
        """Logits float64 [n] of uint8 [n, S, S, 3] at the network's own size."""
        assert pixels.shape[1] == self.image_size, (pixels.shape, self.image_size)
        parts = [
            predict_logits(
                self.network, torch.from_numpy(part).permute(0, 3, 1, 2), self._normalize, device=self.device
            )
            for part in np.array_split(pixels, max(1, -(-len(pixels) // self._batch_size)))
        ]
        return np.concatenate(parts)


def load_predictor(folder: Path, *, device: str) -> Predictor:
    """The network of a model folder, ready to score."""
    return Predictor(load_checkpoint(folder), device=device)
