"""The vision-language model: a small one built from a config, weights from a folder, adapters on top, and what is saved."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.utils import logging

from assay.core.io import read_json
from assay.core.pretrained import ADAPTER_FILES, check_adapter, load_model, load_peft
from assay.params.vlm import AmplifierSettings, SmallVlm, Tuning
from assay.training.networks import folder_hashes, loading_options
from assay.vlm.amplifier import NAME, Amplifying, add_amplifier

# With the usual 0.02 a random network gives adapters almost no signal to steer.
INITIALIZER_RANGE = 0.05
# Qwen's million turns the dimensions of height and width by next to nothing over so few tokens.
ROPE_THETA = 20.0
MAX_POSITIONS = 4096
PATCH, MERGE = 14, 2
# Its bars run through the stage's own lines, on a terminal or not.
logging.disable_progress_bar()
RECORD, SOURCE = "manifest.json", "source.json"


def small_config(settings: SmallVlm, tokenizer: Any) -> Qwen2_5_VLConfig:
    """Qwen2.5-VL's architecture at the sizes of ``settings``, for the vocabulary of ``tokenizer``."""
    half = settings.hidden_size // settings.num_heads // 2
    section = [half - 2 * (3 * half // 8), 3 * half // 8, 3 * half // 8]
    names = ("image_pad", "video_pad", "vision_start", "vision_end")
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": settings.hidden_size,
            "intermediate_size": settings.intermediate_size,
            "num_hidden_layers": settings.num_layers,
            "num_attention_heads": settings.num_heads,
            "num_key_value_heads": settings.num_heads,
            "max_position_embeddings": MAX_POSITIONS,
            "initializer_range": INITIALIZER_RANGE,
            "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA, "mrope_section": section},
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": settings.vision_layers,
            "hidden_size": settings.vision_hidden_size,
            "intermediate_size": settings.vision_intermediate_size,
            "num_heads": settings.vision_heads,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "out_hidden_size": settings.hidden_size,
            # Images are small: every layer sees all of one.
            "fullatt_block_indexes": list(range(settings.vision_layers)),
            "initializer_range": INITIALIZER_RANGE,
        },
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        tie_word_embeddings=True,
        initializer_range=INITIALIZER_RANGE,
    )


def small_network(settings: SmallVlm, tokenizer: Any, *, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """A small Qwen2.5-VL with random weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2_5_VLForConditionalGeneration(small_config(settings, tokenizer))


def load_base(folder: Path, *, weights_dtype: str, processor: Any) -> Any:
    """The pretrained network in ``folder``; its vocabulary must be the processor's.

    Raises:
        ValueError: not a model folder, another vocabulary, or 4-bit weights without the package that holds them.
    """
    options = loading_options(weights_dtype, field="weights_dtype")
    try:
        model = load_model(AutoModelForImageTextToText, folder, **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"no vision-language model in {folder}: {str(error).splitlines()[0]}") from error
    have, named = model.config.image_token_id, processor.image_token_id
    if len(processor.tokenizer) > model.config.text_config.vocab_size or have != named:
        raise ValueError(f"{folder}: its vocabulary is not the processor's (image token {have} against {named})")
    return model


def add_adapter(model: Any, settings: Tuning, *, seed: int, amplifier: AmplifierSettings | None = None) -> PeftModel:
    """LoRA on the modules that the pattern names; the vision tower frozen, or trained whole beside it; and a gate or none.

    Raises:
        ValueError: the pattern names no module.
    """
    lora = settings.lora
    whole = ["visual"] * settings.train_vision + [NAME] * (amplifier is not None)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_dora=lora.dora,
        use_rslora=lora.rslora,
        target_modules=lora.target,
        # Saved in the adapter's own file, and found again by a resumed training.
        modules_to_save=whole or None,
    )
    if not any(re.fullmatch(lora.target, name) for name, _ in model.named_modules()):
        raise ValueError(f"lora.target {lora.target!r} names no module of {type(model).__name__}")
    if amplifier is not None:
        add_amplifier(model, amplifier, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _at_work(get_peft_model(model, config), amplifier)


def _at_work(model: PeftModel, amplifier: AmplifierSettings | None) -> PeftModel:
    """The adapted network, its gate (if it has one) at work; ``model.amplifying`` is what does it."""
    model.amplifying = None if amplifier is None else Amplifying(model.get_base_model().model, amplifier)
    return model


def adapted_modules(model: PeftModel) -> list[str]:
    """Full names of the modules that carry an adapter, sorted."""
    return sorted(name for name, module in model.get_base_model().named_modules() if isinstance(module, LoraLayer))


def manifest(
    base: Path,
    processor: Path,
    prompt: Mapping[str, Any],
    *,
    model: PeftModel,
    weights_dtype: str,
    amplifier: AmplifierSettings | None = None,
) -> dict[str, Any]:
    """What an adapter belongs to: base weights and their source, processor with template, prompt, labels, pixels, gate."""
    return {
        "base": base.as_posix(),
        "base_files": folder_hashes(base),
        "source": read_json(base / SOURCE) if (base / SOURCE).is_file() else {},
        "processor": processor.as_posix(),
        "processor_files": folder_hashes(processor),
        "prompt": dict(prompt),
        "weights_dtype": weights_dtype,
        "adapted_modules": adapted_modules(model),
        "amplifier": None if amplifier is None else amplifier.model_dump(),
    }


def merge_adapter(folder: Path, processor: Any) -> None:
    """Write the whole network with the adapter in ``folder`` merged in, beside it."""
    record = read_manifest(folder)
    # Merged into rounded weights it would be rounded away in part.
    dtype = "float32" if record["weights_dtype"] == "float32" else "bfloat16"
    model = load_adapter(folder, load_base(Path(record["base"]), weights_dtype=dtype, processor=processor))
    model.merge_and_unload().save_pretrained(folder / "merged")
    processor.save_pretrained(folder / "merged")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a saved adapter; ValueError if there is none."""
    if not (folder / RECORD).is_file():
        raise ValueError(f"no {RECORD} in {folder}: run dvc repro vlm_sft vlm_sft_high_risk, or name another folder")
    return read_json(folder / RECORD)


def check_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an adapter whose base weights and processor are those of the training.

    Raises:
        ValueError: a file of the adapter is missing, or the base or the processor is missing or another; names the file.
    """
    record = read_manifest(folder)
    for name in ADAPTER_FILES:
        if not (folder / name).is_file():
            raise ValueError(f"no {folder / name}: run dvc repro vlm_predict")
    for part in ("base", "processor"):
        place = Path(record[part])
        if not place.is_dir():
            raise ValueError(
                f"{folder} belongs to {place}, which is not here: run from the root of the project, after dvc repro "
                "vlm_predict"
            )
        found, wanted = folder_hashes(place), record[f"{part}_files"]
        other = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        if other:
            raise ValueError(f"{folder} was trained with another {part}: {place / other[0]} differs; train it again")
    return record


def load_adapter(folder: Path, model: Any) -> PeftModel:
    """The adapter in ``folder`` on the network it was trained on (see `check_manifest`), in evaluation mode."""
    found = read_manifest(folder)["amplifier"]
    amplifier = None if found is None else AmplifierSettings(**found)
    if amplifier is not None:
        add_amplifier(model, amplifier, seed=0)
    return _at_work(load_peft(PeftModel, folder, model), amplifier)


def average_adapters(model: PeftModel, folders: Sequence[Path]) -> bool:
    """Put the mean of the changes that the adapters in ``folders`` make in the place of the one on ``model``.

    A model soup (Wortsman et al. 2022): one network, as fast as each. The mean is exact: adapters side by side, each with
    its share, are one of so many times the rank.

    Returns:
        False, and the model is as it was, where the adapters are not plain LoRA and have no such mean.
    """
    (first,) = model.peft_config
    settings = model.peft_config[first]
    if settings.modules_to_save or settings.use_dora or settings.use_rslora:
        return False
    device = str(next(model.parameters()).device)
    names = [f"part_{number}" for number in range(len(folders))]
    for name, folder in zip(names, folders, strict=True):
        check_adapter(folder)
        model.load_adapter(folder, adapter_name=name, torch_device=device)
    model.add_weighted_adapter(names, [1 / len(names)] * len(names), "soup", combination_type="cat")
    model.set_adapter("soup", inference_mode=True)
    for name in (first, *names):
        model.delete_adapter(name)
    model.eval()
    return True


def switch_adapter(model: PeftModel, folder: Path) -> None:
    """Put the adapter in ``folder`` in the place of the one on ``model``, of the same gate: the base is loaded once."""
    check_adapter(folder)
    (before,) = model.peft_config
    # A name that the one before does not have; it stands in no file.
    name = "second" if before == "default" else "default"
    model.load_adapter(folder, adapter_name=name, torch_device=str(next(model.parameters()).device))
    model.set_adapter(name, inference_mode=True)
    model.delete_adapter(before)
    model.eval()
