"""Experts: a timm backbone with one logit, an embedding of its pooled features, and the extractor that runs them.

backbone -> pooled features [d] -> ``Linear(d, 1)``; the embedding is the pooled features times a fixed matrix with
orthonormal columns, d to embedding_dim, which is drawn once and shared by all folds and the refit (`initial_state`). A
projection that is trained under a linear head gets gradients of rank one: the embedding comes down to the logit, copied
into every column. A fixed random one keeps distances (Johnson and Lindenstrauss 1984), so that the embedding knows what
the backbone knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from assay.images.model.backbones import DataConfig, build, load_checkpoint
from assay.images.model.dataset import PictureSet
from assay.images.model.prediction import Predictor


class ExpertNetwork(nn.Module):
    """Images [n, 3, S, S] -> logit [n, 1]; ``embed`` gives the embedding too."""

    projection: torch.Tensor

    def __init__(self, backbone: nn.Module, *, embedding_dim: int) -> None:
        super().__init__()
        backbone.reset_classifier(0)  # type: ignore[operator]
        width = int(backbone.head_hidden_size)  # type: ignore[arg-type]
        self.backbone = backbone
        self.register_buffer("projection", nn.init.orthogonal_(torch.empty(width, embedding_dim)))
        self.head = nn.Linear(width, 1)
        # From zero, for the reason that `build` gives.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def embed(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(embedding [n, embedding_dim], logit [n, 1])."""
        pooled = self.backbone(images)
        return pooled @ self.projection, self.head(pooled)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logit: torch.Tensor = self.head(self.backbone(images))
        return logit


def build_expert(
    architecture: str,
    *,
    weights: Mapping[str, torch.Tensor],
    image_size: int,
    embedding_dim: int,
    input: str = "rgb",
) -> tuple[ExpertNetwork, DataConfig]:
    """An expert with these weights in its backbone (see `build`); its projection is random until it is loaded."""
    backbone, config = build(architecture, weights=weights, image_size=image_size, input=input)
    return ExpertNetwork(backbone, embedding_dim=embedding_dim), config


def initial_state(
    architecture: str, *, weights: Mapping[str, torch.Tensor], image_size: int, embedding_dim: int, seed: int
) -> dict[str, torch.Tensor]:
    """Starting values of a whole expert, the same for every fold and the refit: name -> tensor."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone, _ = build(architecture, weights=weights, image_size=image_size)
        # The projection is the same on every backbone.
        torch.manual_seed(seed)
        return ExpertNetwork(backbone, embedding_dim=embedding_dim).state_dict()


def load_start(network: ExpertNetwork, path: Path) -> None:
    """Put the saved starting values into the network.

    Raises:
        ValueError: no such file, or one of another architecture or embedding size.
    """
    try:
        values = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} can't be read ({error}); run dvc repro init_expert") from error
    found = {name: value.shape for name, value in values.items()}
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    odd = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if odd:
        raise ValueError(f"{path} does not fit the network in {odd[:4]}; run dvc repro init_expert")
    network.load_state_dict(values)


class FeatureExtractor(Predictor):
    """An expert that gives its embedding [n, d] beside the logit [n]."""

    network: ExpertNetwork

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Embedding float32 [n, d] and logit float32 [n] of one batch uint8 [n, 3, S, S]."""
        embedding, logit = self.network.embed(self.normalized(images))
        return embedding.float().cpu().numpy(), logit.squeeze(1).float().cpu().numpy()

    def extract(self, data: PictureSet, *, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings float32 [n, d] and logits float32 [n] of a data set, in its order."""
        embeddings, logits = zip(*(self(images) for images in self.batches(data, name=name)), strict=True)
        return np.concatenate(embeddings), np.concatenate(logits)


def load_extractor(folder: Path, *, device: str, image_size: int | None = None) -> FeatureExtractor:
    """The expert of a model folder, at its own image size or at another.

    Raises:
        ValueError: as `load_checkpoint`.
    """

    def as_expert(backbone: nn.Module, info: dict[str, Any]) -> nn.Module:
        return ExpertNetwork(backbone, embedding_dim=int(info["embedding_dim"]))

    return FeatureExtractor(load_checkpoint(folder, wrap=as_expert, image_size=image_size), device=device)
