"""Logits of a trained network for images of the pixel store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from assay.core.torch_setup import pick_device
from assay.images.model.backbones import Checkpoint, load_checkpoint
from assay.images.model.dataset import PictureSet, batches_in_order
from assay.images.model.transforms import normalizer


class Predictor:
    """A checkpoint's network in evaluation mode, ready to score images at the size that the checkpoint names."""

    def __init__(self, checkpoint: Checkpoint, *, device: str = "cpu", batch_size: int = 64) -> None:
        config = checkpoint.data_config
        self.device = pick_device(device)
        self.image_size = config.image_size
        self.network = checkpoint.model.eval().to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._batch_size = batch_size
        self._normalize = normalizer(config).to(self.device)

    @property
    def from_pixels(self) -> nn.Module:
        """Normalisation and network as one, for images [n, 3, S, S] of 0 to 255: all that an image costs."""
        return nn.Sequential(self._normalize, self.network)

    def normalized(self, images: torch.Tensor) -> torch.Tensor:
        """What the network is fed with for uint8 [n, 3, S, S], on its device."""
        return self._normalize(images.to(self.device))

    def batches(self, data: PictureSet, *, name: str) -> Iterator[torch.Tensor]:
        """The images of a data set in its order, a batch at a time, with a progress bar."""
        return batches_in_order(data, batch_size=self._batch_size, name=name)

    def logits(self, data: PictureSet, *, name: str) -> np.ndarray:
        """Logits float64 [n], in the order of the data set."""
        return np.concatenate([self._batch_logits(images) for images in self.batches(data, name=name)])

    def array_logits(self, pixels: np.ndarray) -> np.ndarray:
        """Logits float64 [n] of uint8 [n, S, S, 3] at the network's own size."""
        assert pixels.shape[1] == self.image_size, (pixels.shape, self.image_size)
        parts = np.array_split(pixels, max(1, -(-len(pixels) // self._batch_size)))
        return np.concatenate([self._batch_logits(torch.from_numpy(part).permute(0, 3, 1, 2)) for part in parts])

    @torch.inference_mode()
    def _batch_logits(self, images: torch.Tensor) -> np.ndarray:
        return self.network(self.normalized(images)).squeeze(1).double().cpu().numpy()


def load_predictor(folder: Path, *, device: str) -> Predictor:
    """The network of a model folder, ready to score."""
    return Predictor(load_checkpoint(folder), device=device)
