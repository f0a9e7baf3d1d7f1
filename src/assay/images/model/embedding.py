"""What a network makes of an image on its way, beside its logit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from assay.images.model.dataset import PictureSet
    from assay.images.model.prediction import Predictor

# Embeddings float32 [n, d] -> what is kept of them [n, ...].
Reduce = Callable[[np.ndarray], np.ndarray]
# A network that looks for traces of forgery forgets the rest on its way, so that its last embedding hardly tells a drawing
# from a photograph (docs/protocol.md, Calibration): the first layer this many times smaller than the image still does.
STRIDE = 8


def _channel_means(features: torch.Tensor, *, channels_last: bool) -> np.ndarray:
    """Features [n, d, h, w], or [n, ..., d], as float32 [n, d]."""
    if features.ndim == 4 and not channels_last:
        features = features.permute(0, 2, 3, 1)
    return features.flatten(1, -2).mean(1).float().cpu().numpy()


def early_layer(network: nn.Module) -> nn.Module:
    """The first layer of a timm network at `STRIDE` or more.

    Raises:
        ValueError: timm names none: its strides stay below (convmixer), or the names are not the network's (mvitv2, twins).
    """
    stages: list[dict[str, int | str]] = network.feature_info  # type: ignore[assignment]
    names = (str(stage["module"]) for stage in stages if int(stage["reduction"]) >= STRIDE)
    layers, name = dict(network.named_modules()), next(names, "")
    if not name or name not in layers:
        raise ValueError(
            f"timm names no layer of {type(network).__name__} at stride {STRIDE}, by which unlike pictures are found; "
            "choose another train_stage1.architecture"
        )
    return layers[name]


@contextmanager
def _watched(network: nn.Module, reduce: Reduce) -> Iterator[list[np.ndarray]]:
    """Collects what ``reduce`` makes of a timm network's channel means at `STRIDE`, a batch at a time.

    A hook, so that the logits are those of plain scoring to the last bit, whatever the network looks like.
    """
    kept: list[np.ndarray] = []
    channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"

    def keep(_: nn.Module, __: tuple[torch.Tensor, ...], features: torch.Tensor) -> None:
        kept.append(reduce(_channel_means(features, channels_last=channels_last)))

    handle = early_layer(network).register_forward_hook(keep)
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
