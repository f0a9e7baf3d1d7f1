"""Experts: a timm backbone, a projection to a small embedding, one logit; and the extractor that reads them back.

backbone -> pooled features -> ``Linear(d, embedding_dim)`` -> ``Linear(embedding_dim, 1)``. Projection and head of all
folds and of the refit start from the same values (``initial_head``): networks that start apart do not share coordinates.
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

from assay.core.progress import progress
from assay.core.torch_setup import pick_device
from assay.images.model.backbones import DataConfig, build, create_network, load_checkpoint
from assay.images.model.dataset import PictureSet, make_loader
from assay.images.model.transforms import Normalize

# How the names of projection and head begin.
START = ("projection.", "head.")


class ExpertNetwork(nn.Module):
    """Pictures [n, 3, S, S] -> logit [n, 1]; ``embed`` gives the embedding too."""

    def __init__(self, backbone: nn.Module, *, embedding_dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection = nn.Linear(int(backbone.head_hidden_size), embedding_dim)  # type: ignore[arg-type]
        self.head = nn.Linear(embedding_dim, 1)

    def embed(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(embedding [n, embedding_dim], logit [n, 1])."""
        embedding = self.projection(self.backbone(pictures))
        return embedding, self.head(embedding)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.embed(pictures)[1]


def build_expert(
    architecture: str, *, weights: Mapping[str, torch.Tensor], image_size: int, embedding_dim: int
) -> tuple[ExpertNetwork, DataConfig]:
    """An expert with these weights in its backbone (see `build`); the head is torch's random one until it is loaded."""
    backbone, config = build(architecture, weights=weights, image_size=image_size)
    backbone.reset_classifier(0)  # type: ignore[operator]
    return ExpertNetwork(backbone, embedding_dim=embedding_dim), config


def initial_head(architecture: str, *, image_size: int, embedding_dim: int, seed: int) -> dict[str, torch.Tensor]:
    """Starting values of projection and head, the same for every fold and the refit: name -> tensor."""
    backbone = create_network(architecture, pretrained=False, image_size=image_size)
    backbone.reset_classifier(0)  # type: ignore[operator]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ExpertNetwork(backbone, embedding_dim=embedding_dim)
    return {name: value for name, value in network.state_dict().items() if name.startswith(START)}


def load_head(network: ExpertNetwork, path: Path) -> None:
    """Put the saved starting values into projection and head.

    Raises:
        ValueError: no such file, or one of another architecture or embedding size, or with more than these values.
    """
    try:
        values = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} can't be read ({error}); run dvc repro init_expert") from error
    found = {name: value.shape for name, value in values.items()}
    wanted = {name: value.shape for name, value in network.state_dict().items() if name.startswith(START)}
    odd = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if odd:
        raise ValueError(f"{path} does not fit the network in {odd[:4]}; run dvc repro init_expert")
    network.load_state_dict(values, strict=False)


class FeatureExtractor:
    """From pictures to (embedding [n, d], logit [n]), in evaluation mode, configured by the checkpoint alone."""

    def __init__(
        self, network: ExpertNetwork, config: DataConfig, *, device: str = "cpu", batch_size: int = 64
    ) -> None:
        self.device = pick_device(device)
        self.image_size = config.image_size
        self.dim = network.head.in_features
        self._batch_size = batch_size
        self.network = network.eval().to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._normalize = Normalize(config.mean, config.std).to(self.device)

    @torch.inference_mode()
    def __call__(self, pictures: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Embedding float32 [n, d] and logit float32 [n] of one batch uint8 [n, 3, S, S]."""
        embedding, logit = self.network.embed(self._normalize(pictures.to(self.device)))
        return embedding.float().cpu().numpy(), logit.squeeze(1).float().cpu().numpy()

    def extract(self, data: PictureSet, *, what: str) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings float32 [n, d] and logits float32 [n] of a data set, in its order."""
        loader = make_loader(data, batch_size=self._batch_size, seed=0, shuffle=False, workers=0)
        parts = [self(pictures) for pictures, _ in progress(loader, name=what, unit="batch")]
        return np.concatenate([e for e, _ in parts]), np.concatenate([z for _, z in parts])


def load_extractor(folder: Path, *, device: str) -> FeatureExtractor:
    """The expert of a model folder.

    Raises:
        ValueError: files missing or not fitting each other.
    """

    def as_expert(backbone: nn.Module, info: dict[str, Any]) -> nn.Module:
        backbone.reset_classifier(0)  # type: ignore[operator]
        return ExpertNetwork(backbone, embedding_dim=int(info["embedding_dim"]))

    checkpoint = load_checkpoint(folder, wrap=as_expert)
    assert isinstance(checkpoint.model, ExpertNetwork)
    return FeatureExtractor(checkpoint.model, checkpoint.data_config, device=device)
