"""What a network makes of an image before its last layer, beside its logit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from assay.images.model.dataset import PictureSet
from assay.images.model.prediction import Predictor

# Embeddings float32 [n, d] -> what is kept of them [n, ...].
Reduce = Callable[[np.ndarray], np.ndarray]


@contextmanager
def _watched(network: nn.Module, reduce: Reduce) -> Iterator[list[np.ndarray]]:
    """Collects what ``reduce`` makes of the input of a timm network's classifier, a batch at a time.

    A hook, so that the logits are those of plain scoring to the last bit, whatever the network's head looks like.
    """
    kept: list[np.ndarray] = []

    def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        kept.append(reduce(inputs[0].flatten(1).float().cpu().numpy()))

    handle = network.get_classifier().register_forward_pre_hook(keep)  # type: ignore[operator]
    try:
        yield kept
    finally:
        handle.remove()


def embed_set(
    predictor: Predictor, data: PictureSet, *, name: str, reduce: Reduce = np.asarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logits float64 [n] of a data set, and embeddings float32 [n, d], or what ``reduce`` makes of each batch of them."""
    with _watched(predictor.network, reduce) as kept:
        logits = predictor.logits(data, name=name)
    return logits, np.concatenate(kept)


def embed_arrays(
    predictor: Predictor, pixels: np.ndarray, *, reduce: Reduce = np.asarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same of uint8 [n, S, S, 3] at the network's own size."""
    with _watched(predictor.network, reduce) as kept:
        logits = predictor.array_logits(pixels)
    return logits, np.concatenate(kept)
