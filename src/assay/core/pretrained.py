"""Folders of transformers and PEFT, opened in one place: nothing is fetched, and no code runs that a folder brings or names.

A folder can ask for code in four ways. ``auto_map`` names classes in Python files beside the weights; left to itself
transformers asks on standard input whether to run them, which may be a user's list of files. An attention or expert
implementation can be a compiled kernel of the model hub. PEFT imports the module that ``megatron_core`` names.
And weights in PyTorch's own format are a pickle. All are refused, also where transformers would pass over them in silence:
a network that was made for other code is not the one that its weights were trained in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.core.io import inside, read_json

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILES = (ADAPTER_CONFIG, "adapter_model.safetensors")
# What the libraries read settings from; in tokenizer.json there are none.
SETTINGS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    ADAPTER_CONFIG,
)
# Lists of files, by which the libraries join names to the folder as they are.
INDEX = ".index.json"
KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")


def load_pretrained(kind: Any, folder: Path, **options: Any) -> Any:
    """``kind.from_pretrained(folder)`` for a config, tokenizer or processor of transformers; see `check_folder`."""
    from transformers import dynamic_module_utils

    check_folder(folder)
    # A class that opens further folders by itself, as RAG's tokenizer or a processor's audio tokenizer, does not pass
    # trust_remote_code on: it would ask. These are the seconds to answer in; with 0 it is a ValueError.
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)


def load_model(kind: Any, folder: Path, **options: Any) -> Any:
    """``kind.from_pretrained(folder)`` for a network of transformers: of safetensors alone; see `check_folder`.

    Raises:
        ValueError: the folder holds an adapter: transformers would load the model that it names, from wherever that lies.
    """
    if (folder / ADAPTER_CONFIG).exists():
        raise ValueError(f"{folder} holds an adapter ({ADAPTER_CONFIG}); a whole model is needed")
    return load_pretrained(kind, folder, use_safetensors=True, **options)


def load_peft(kind: Any, folder: Path, model: Any) -> Any:
    """``kind.from_pretrained(model, folder)``: the network with the LoRA adapter in ``folder``; see `check_adapter`."""
    check_adapter(folder)
    return kind.from_pretrained(model, folder).eval()


def check_adapter(folder: Path) -> None:
    """Raise a ValueError unless the folder holds a LoRA adapter that needs nothing else.

    Where a file is missing PEFT asks the model hub for a model of the folder's name, or takes a pickle beside it; of its
    other kinds of adapters some load further ones, from wherever they are told to.
    """
    check_folder(folder)
    missing = [name for name in ADAPTER_FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"no {folder / missing[0]}: train the adapter again, or name another folder")
    settings = read_json(folder / ADAPTER_CONFIG)
    kind = settings.get("peft_type") if isinstance(settings, dict) else None
    if kind != "LORA" or settings.get("megatron_config"):
        raise ValueError(f"{folder / ADAPTER_CONFIG}: peft_type LORA without megatron_config is what is read here")


def check_folder(folder: Path) -> None:
    """Check what is opened before any library sees it.

    Raises:
        ValueError: no folder, a file that asks for code, or a link or a name in an index that leads out of the folder.
    """
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}: give the folder of a model")
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_symlink() or entry.name.endswith(INDEX))
    for name in names:
        inside(folder, name)
    for name in SETTINGS:
        if (folder / name).is_file():
            _check_settings(folder, name)
    for name in names:
        if name.endswith(INDEX):
            index = read_json(folder / name)
            listed = index.get("weight_map") if isinstance(index, dict) else None
            if not isinstance(listed, dict):
                raise ValueError(f"{folder / name}: no weight_map; write the index again")
            _check_names(folder, listed.values(), field=f"{name}: weight_map")


def _check_settings(folder: Path, name: str) -> None:
    for key, value in _entries(read_json(folder / name)):
        if key == "auto_map" and value:
            what = "code of its own (auto_map)"
        elif key in KERNELS and _is_kernel(value):
            what = f"a kernel of the model hub ({key})"
        elif key == "configuration_files" and value:
            what = f"other settings than these ({key})"
        elif key == "fast_tokenizer_files":
            _check_names(folder, value if isinstance(value, list) else [value], field=f"{name}: {key}")
            continue
        else:
            continue
        raise ValueError(
            f"{folder / name} asks for {what}, which is refused: take a model of an architecture that transformers has, or "
            "remove the entry if it is one"
        )


def _is_kernel(value: Any) -> bool:
    """Whether an implementation, or one of several, is a repository; for flash attention transformers takes one, too."""
    items = value.values() if isinstance(value, dict) else [value]
    return any("/" in str(item) or "flash" in str(item) for item in items)


def _check_names(folder: Path, names: Any, *, field: str) -> None:
    for name in set(map(str, names)):
        try:
            inside(folder, name)
        except ValueError as error:
            raise ValueError(f"{folder} / {field}: {error}") from error


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a JSON value with its value, at any depth."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield from found.items()
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
