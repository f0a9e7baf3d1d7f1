"""timm networks with one logit, and checkpoints that carry what is needed to use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data import resolve_model_data_config
from timm.models import group_parameters
from torch import nn

from assay.core.io import read_json, write_json
from assay.core.tensors import save_tensors


@dataclass(frozen=True)
class DataConfig:
    """How a network wants its images: side in pixels, mean and std per channel of values in 0..1, and what it looks at.

    ``input``: ``rgb``, the colours, or ``srm``, noise residuals (`assay.images.model.transforms.normalizer`).
    """

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    input: str = "rgb"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network in evaluation mode, its data config, and the JSON that stands beside its weights."""

    model: nn.Module
    data_config: DataConfig
    info: dict[str, Any]


def create_network(architecture: str, *, pretrained: bool, image_size: int) -> nn.Module:
    """A timm network with one output, its classifier last; ``pretrained`` takes timm's weights from the hub.

    Raises:
        ValueError: timm does not know the architecture.
    """
    if not timm.is_model(architecture.split(".")[0]):
        near = get_close_matches(architecture.split(".")[0], timm.list_models(), n=8, cutoff=0.5)
        raise ValueError(f"architecture {architecture!r} is not known to timm; near it: {near}")
    kwargs: dict[str, Any] = {"pretrained": pretrained, "num_classes": 1}
    try:
        # Networks with windows or position tables are built for one size.
        return timm.create_model(architecture, img_size=image_size, **kwargs)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return timm.create_model(architecture, **kwargs)


def build(
    architecture: str, *, weights: Mapping[str, torch.Tensor], image_size: int, input: str = "rgb"
) -> tuple[nn.Module, DataConfig]:
    """A timm network with one output, and the data config it was trained with, at ``image_size``.

    Args:
        architecture: timm name, with or without a pretrained tag.
        weights: all tensors but the classifier's, as the stage fetch_weights writes them; empty: torch's random ones.
        image_size: side of the images in pixels.
        input: what it is to look at, see `DataConfig`.

    Raises:
        ValueError: unknown architecture, or weights that do not fit it.
    """
    model = create_network(architecture, pretrained=False, image_size=image_size)
    if weights:
        load_body(model, weights)
    # A fresh head on a thousand pretrained features starts with large random logits, and the first steps would undo the
    # features to tame them; from zero it starts at p = 0.5.
    for parameter in model.get_classifier().parameters():  # type: ignore[operator]
        nn.init.zeros_(parameter)
    resolved = resolve_model_data_config(model)
    config = DataConfig(image_size, tuple(resolved["mean"]), tuple(resolved["std"]), resolved["interpolation"], input)
    return model, config


def freeze(model: nn.Module, layers: int) -> None:
    """Keep the lowest layers of a timm network as they are: so many of those that timm counts, the stem first, then stages.

    The lowest layers are the dearest, since they work on the largest maps, and the most general (Yosinski et al. 2014,
    "How transferable are features in deep neural networks?"). Training leaves what is frozen in evaluation mode.

    Raises:
        ValueError: none would be left to train.
    """
    found = group_parameters(model, model.group_matcher(coarse=True))  # type: ignore[operator]
    if layers >= len(found):
        raise ValueError(
            f"frozen_layers {layers}: {type(model).__name__} has {len(found)} layers, one is to be trained"
        )
    for layer in range(layers):
        for name in found[layer]:
            model.get_parameter(name).requires_grad_(False)


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """What the stage fetch_weights wrote, for `build`.

    Raises:
        ValueError: no such file, or not of safetensors.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} can't be read ({error}); run dvc repro fetch_weights") from error


def body_names(model: nn.Module) -> list[str]:
    """Names of a timm network's tensors, its classifier's left out."""
    classifier = str(model.pretrained_cfg["classifier"])  # type: ignore[index]
    return [name for name in model.state_dict() if not name.startswith(f"{classifier}.")]


def load_body(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy pretrained tensors into ``model``, its classifier left as it is.

    Raises:
        ValueError: naming what is missing, or of another shape.
    """
    target = model.state_dict()
    wanted = body_names(model)
    missing = sorted(set(wanted) - set(weights))
    if missing:
        raise ValueError(f"weights lack {len(missing)} tensors of the network, among them {missing[:3]}")
    shapes = sorted(name for name in wanted if weights[name].shape != target[name].shape)
    if shapes:
        name = shapes[0]
        raise ValueError(
            f"{len(shapes)} tensors of the weights have another shape: {name} is {tuple(weights[name].shape)}, "
            f"the network wants {tuple(target[name].shape)}"
        )
    model.load_state_dict({name: weights[name] for name in wanted}, strict=False)


def save_checkpoint(
    folder: Path,
    state: dict[str, torch.Tensor],
    *,
    architecture: str,
    data_config: DataConfig,
    info: dict[str, Any],
) -> Path:
    """Write ``model.safetensors`` and ``model.json`` into ``folder``; returns the path of the weights."""
    path = folder / "model.safetensors"
    save_tensors(path, state)
    write_json(
        folder / "model.json",
        {**info, "architecture": architecture, "data_config": asdict(data_config), "num_outputs": 1},
    )
    return path


def data_config_of(info: dict[str, Any]) -> DataConfig:
    """The data config in a checkpoint's JSON."""
    raw = info["data_config"]
    sizes = int(raw["image_size"]), tuple(raw["mean"]), tuple(raw["std"])
    return DataConfig(*sizes, str(raw["interpolation"]), str(raw["input"]))


def load_checkpoint(
    folder: Path,
    *,
    wrap: Callable[[nn.Module, dict[str, Any]], nn.Module] | None = None,
    image_size: int | None = None,
) -> Checkpoint:
    """Read what ``save_checkpoint`` wrote. Runs no code from the files.

    Args:
        wrap: makes the network that was saved from a fresh timm one and the checkpoint's JSON, where the two differ.
        image_size: the side in pixels to build the network for, in place of the one that it was trained at.

    Raises:
        ValueError: files missing or not fitting each other; weights that do not fit a network of this size (windows and
            tables of positions are made for one).
    """
    for name in ("model.json", "model.safetensors"):
        if not (folder / name).is_file():
            stage = "choose_stage1" if wrap is None else "train_expert"
            raise ValueError(f"no {name} in {folder}: run dvc repro {stage}, or give the folder that holds it")
    info = read_json(folder / "model.json")
    config = data_config_of(info)
    if image_size is not None:
        config = replace(config, image_size=image_size)
    model = create_network(info["architecture"], pretrained=False, image_size=config.image_size)
    if wrap is not None:
        model = wrap(model, info)
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder}: weights do not fit {info['architecture']}: {error}") from error
    return Checkpoint(model.eval(), config, info)
