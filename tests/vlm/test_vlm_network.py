"""What an adapter changes and what it leaves, what is saved, and what is refused to be put together."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from assay.core.io import read_json, write_json
from assay.data.decode import decode_rgb
from assay.params.vlm import SmallVlm, Tuning
from assay.vlm.examples import IGNORED, encode, pad
from assay.vlm.messages import messages_record
from assay.vlm.network import (
    RECORD,
    adapted_modules,
    add_adapter,
    check_manifest,
    load_adapter,
    load_base,
    manifest,
    merge_adapter,
    read_manifest,
    small_config,
    small_network,
)
from assay.vlm.processor import load_processor, save_small_processor
from assay.vlm.training import answer_loss

Make = Callable[..., list[dict[str, Any]]]
NAMES = [f"self_attn.{letter}_proj" for letter in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]


@pytest.fixture
def batch(processor: Any, make_records: Make) -> dict[str, torch.Tensor]:
    records = make_records(["高", "没有风险", "低"])
    rows = [encode(processor, record, decode_rgb(record["images"][0], max_pixels=1_000_000)) for record in records]
    return pad(rows, pad_token_id=processor.tokenizer.pad_token_id)


def with_lora(settings: Tuning, **changes: Any) -> Tuning:
    return settings.model_copy(update={"lora": settings.lora.model_copy(update=changes)})


def loss_of(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits
    return answer_loss(logits.reshape(-1, logits.shape[-1]), batch["labels"], torch.ones(len(batch["labels"])))


def step(model: Any, batch: dict[str, torch.Tensor], *, lr: float = 1e-2) -> tuple[float, float]:
    """One step of AdamW; the loss before and after it."""
    before = loss_of(model.train(), batch)
    before.backward()
    torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=lr).step()
    model.zero_grad()
    return float(before), float(loss_of(model.eval(), batch))


def fill(model: Any, *, seed: int = 0) -> None:
    """Weights of the adapters that do something: they begin at zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            torch.nn.init.normal_(value, std=0.1, generator=generator)


def logits_of(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(**{name: batch[name] for name in batch if name not in ("labels", "logits_to_keep")}).logits


def test_the_default_pattern_adapts_the_language_model_and_nothing_else(network: Any, default_tuning: Tuning) -> None:
    model = add_adapter(network, default_tuning, seed=0)
    expected = [f"model.language_model.layers.{layer}.{name}" for layer in range(2) for name in NAMES]
    assert adapted_modules(model) == sorted(expected)
    trained = [name for name, value in model.named_parameters() if value.requires_grad]
    assert len(trained) == 2 * len(expected)
    assert all(re.search(r"language_model\..*lora_[AB]", name) for name in trained)
    assert not any("visual" in name for name in trained)


def test_the_vision_tower_stays_as_it_is_unless_it_is_to_be_trained(
    load_network: Callable[[], Any], default_tuning: Tuning, batch: dict[str, torch.Tensor]
) -> None:
    for train_vision in (False, True):
        model = add_adapter(load_network(), default_tuning.model_copy(update={"train_vision": train_vision}), seed=0)
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        step(model, batch)
        # One more: in the first, all that stands before an adapter whose B is zero has no gradient.
        step(model, batch)
        changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
        vision = {name for name in changed if "visual" in name}
        assert bool(vision) == train_vision
        assert not any("original_module" in name for name in changed)
        assert all("lora_" in name for name in changed - vision)
        assert sum("lora_" in name for name in changed) == 2 * 2 * len(NAMES)
        if train_vision:
            tower = {name for name in before if "visual.modules_to_save" in name}
            assert vision == tower
            assert len(tower) > 10


@pytest.mark.parametrize("target", ["nothing", r"language_model\.layers", r".*self_attention\.q_proj"])
def test_a_pattern_that_names_nothing_is_refused(network: Any, default_tuning: Tuning, target: str) -> None:
    with pytest.raises(ValueError, match=r"lora\.target .* names no module"):
        add_adapter(network, with_lora(default_tuning, target=target), seed=0)


def test_a_narrower_pattern_is_followed(network: Any, default_tuning: Tuning) -> None:
    model = add_adapter(network, with_lora(default_tuning, target=r".*language_model\.layers\.1\.mlp\.up_proj"), seed=0)
    assert adapted_modules(model) == ["model.language_model.layers.1.mlp.up_proj"]


def test_a_new_adapter_changes_nothing_and_is_the_seeds(
    load_network: Callable[[], Any], default_tuning: Tuning, batch: dict[str, torch.Tensor]
) -> None:
    plain = logits_of(load_network(), batch)
    state = torch.random.get_rng_state()
    one, two, other = (add_adapter(load_network(), default_tuning, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(logits_of(one, batch), plain)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    "changes", [{}, {"dora": True}, {"rslora": True}, {"dora": True, "rslora": True}, {"dropout": 0.3}], ids=str
)
def test_each_kind_of_adapter_trains(
    network: Any, default_tuning: Tuning, batch: dict[str, torch.Tensor], changes: dict[str, Any]
) -> None:
    model = add_adapter(network, with_lora(default_tuning, **changes), seed=0)
    before, after = step(model, batch)
    assert after < before - 0.01
    layer = next(module for module in model.modules() if isinstance(module, LoraLayer))
    rank, alpha = default_tuning.lora.rank, default_tuning.lora.alpha
    assert layer.scaling["default"] == (alpha / rank**0.5 if changes.get("rslora") else alpha / rank)
    assert bool(layer.lora_magnitude_vector) == changes.get("dora", False)


@pytest.fixture
def saved(
    base_folder: Path, processor_folder: Path, processor: Any, default_tuning: Tuning, tmp_path: Path
) -> Callable[..., tuple[Path, Any]]:
    """Function from changes of the settings to a saved adapter on copies of base and processor, and the model."""

    def save(**changes: Any) -> tuple[Path, Any]:
        base, tools, folder = (tmp_path / name for name in ("base", "processor", "adapter"))
        shutil.copytree(base_folder, base)
        shutil.copytree(processor_folder, tools)
        settings = default_tuning.model_copy(
            update={key: changes.pop(key) for key in ("train_vision",) if key in changes}
        )
        model = add_adapter(
            load_base(base, weights_dtype="float32", processor=processor), with_lora(settings, **changes), seed=0
        )
        fill(model)
        if settings.train_vision:
            with torch.no_grad():
                for name, value in model.named_parameters():
                    if "visual.modules_to_save" in name:
                        value.mul_(1.5)
        model.save_pretrained(folder)
        record = manifest(base, tools, {"question": "?"}, model=model, weights_dtype="float32")
        write_json(folder / RECORD, record)
        return folder, model

    return save


@pytest.mark.parametrize(
    "changes", [{}, {"dora": True}, {"rslora": True}, {"train_vision": True}], ids=lambda value: str(value)
)
def test_a_loaded_adapter_is_the_saved_one_and_merging_changes_no_logits(
    saved: Callable[..., tuple[Path, Any]],
    load_network: Callable[[], Any],
    processor: Any,
    batch: dict[str, torch.Tensor],
    changes: dict[str, Any],
) -> None:
    folder, model = saved(**changes)
    expected = logits_of(model, batch)
    real = batch["attention_mask"].bool()
    assert (expected - logits_of(load_network(), batch))[real].abs().max() > 0.1
    loaded = load_adapter(folder, load_network())
    assert not loaded.training
    assert torch.equal(logits_of(loaded, batch)[real], expected[real])
    merge_adapter(folder, processor)
    whole = load_base(folder / "merged", weights_dtype="float32", processor=processor)
    assert not any(isinstance(module, LoraLayer) for module in whole.modules())
    assert (logits_of(whole, batch) - expected)[real].abs().max() < 1e-5
    again = load_processor(folder / "merged", min_pixels=784, max_pixels=7056)
    assert again.chat_template == processor.chat_template
    assert again.tokenizer.get_vocab() == processor.tokenizer.get_vocab()


def test_no_pickle_is_written(saved: Callable[..., tuple[Path, Any]], processor: Any) -> None:
    folder, _ = saved()
    merge_adapter(folder, processor)
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".safetensors", ".json", ".jinja", ".md"}


def test_the_manifest_says_what_the_adapter_belongs_to(saved: Callable[..., tuple[Path, Any]]) -> None:
    folder, model = saved()
    record = check_manifest(folder)
    assert record["prompt"] == {"question": "?"}
    assert record["adapted_modules"] == adapted_modules(model)
    assert {"config.json", "model.safetensors"} <= set(record["base_files"])
    assert {"tokenizer.json", "chat_template.jinja"} <= set(record["processor_files"])
    assert record["source"] == {}
    assert read_manifest(folder) == record


def flip(path: Path) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("part", "name", "change"),
    [
        ("base", "model.safetensors", flip),
        ("base", "config.json", flip),
        ("base", "model.safetensors", Path.unlink),
        ("base", "more.json", lambda path: path.write_text("{}")),
        ("processor", "chat_template.jinja", lambda path: path.write_text(path.read_text() + " ")),
        ("processor", "tokenizer.json", flip),
    ],
)
def test_another_base_or_processor_is_refused_and_named(
    saved: Callable[..., tuple[Path, Any]], part: str, name: str, change: Callable[[Path], Any]
) -> None:
    folder, _ = saved()
    place = Path(read_json(folder / RECORD)[part]) / name
    change(place)
    with pytest.raises(ValueError, match=f"trained with another {part}: {re.escape(str(place))} differs"):
        check_manifest(folder)


@pytest.mark.parametrize("part", ["base", "processor"])
def test_a_base_or_processor_that_is_gone_is_refused(saved: Callable[..., tuple[Path, Any]], part: str) -> None:
    folder, _ = saved()
    shutil.rmtree(read_json(folder / RECORD)[part])
    with pytest.raises(ValueError, match=f"belongs to .*{part}, which is not here"):
        check_manifest(folder)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"no {RECORD} in .*: run dvc repro vlm_sft"):
        check_manifest(tmp_path)


def test_a_base_with_a_smaller_vocabulary_is_refused(small: SmallVlm, processor: Any, tmp_path: Path) -> None:
    save_small_processor(tmp_path / "other", ["another text"] * 3, answers=["yes", "no"], vocab_size=280)
    other = load_processor(tmp_path / "other", min_pixels=784, max_pixels=7056)
    assert len(other.tokenizer) < len(processor.tokenizer)
    small_network(small, other.tokenizer, seed=0).save_pretrained(tmp_path / "base")
    load_base(tmp_path / "base", weights_dtype="float32", processor=other)
    with pytest.raises(ValueError, match="base: its vocabulary is not the processor's"):
        load_base(tmp_path / "base", weights_dtype="float32", processor=processor)


def test_a_base_with_another_image_token_is_refused(base_folder: Path, processor: Any, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base_folder, folder)
    config = read_json(folder / "config.json")
    config["image_token_id"] += 1
    write_json(folder / "config.json", config)
    named = processor.image_token_id
    with pytest.raises(ValueError, match=rf"not the processor's \(image token {named + 1} against {named}\)"):
        load_base(folder, weights_dtype="float32", processor=processor)


@pytest.mark.parametrize("content", ["missing", "empty", "no weights", "no model", "cut off"])
def test_a_folder_without_a_model_is_refused(content: str, base_folder: Path, processor: Any, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    if content != "missing":
        folder.mkdir()
    if content == "no weights":
        shutil.copy(base_folder / "config.json", folder)
    if content == "no model":
        (folder / "config.json").write_text('{"model_type": "bert"}')
    if content == "cut off":
        shutil.copytree(base_folder, folder, dirs_exist_ok=True)
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=re.escape(str(folder))):
        load_base(folder, weights_dtype="float32", processor=processor)


def test_4_bit_weights_without_their_package_are_refused(base_folder: Path, processor: Any) -> None:
    if find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(ValueError, match="weights_dtype 4bit needs the package bitsandbytes"):
        load_base(base_folder, weights_dtype="4bit", processor=processor)


def test_bfloat16_weights_keep_adapters_in_float32(
    base_folder: Path, processor: Any, default_tuning: Tuning, batch: dict[str, torch.Tensor]
) -> None:
    model = add_adapter(load_base(base_folder, weights_dtype="bfloat16", processor=processor), default_tuning, seed=0)
    kinds = {value.requires_grad: value.dtype for value in model.parameters()}
    assert kinds == {False: torch.bfloat16, True: torch.float32}
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-2)
    losses = []
    for _ in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model.train(), batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    assert losses[2] < losses[1] < losses[0]


@pytest.mark.parametrize(
    ("hidden_size", "num_heads"), [(16, 1), (16, 2), (32, 2), (48, 2), (64, 4), (96, 4), (128, 4), (128, 1), (320, 5)]
)
def test_the_dimensions_of_time_height_and_width_fill_each_head(
    small: SmallVlm, processor: Any, hidden_size: int, num_heads: int
) -> None:
    settings = SmallVlm(**small.model_dump() | {"hidden_size": hidden_size, "num_heads": num_heads})
    config = small_config(settings, processor.tokenizer)
    section = config.text_config.rope_parameters["mrope_section"]
    assert sum(section) == hidden_size // num_heads // 2
    assert all(part > 0 for part in section)
    assert section[1] == section[2]


def test_every_size_that_the_parameters_allow_runs(
    small: SmallVlm, processor: Any, batch: dict[str, torch.Tensor]
) -> None:
    for changes in ({"hidden_size": 16, "num_heads": 1}, {"hidden_size": 48, "vision_hidden_size": 48}):
        settings = SmallVlm(**small.model_dump() | {"num_layers": 1, "vision_heads": 2} | changes)
        model = small_network(settings, processor.tokenizer, seed=0)
        assert torch.isfinite(loss_of(model, batch))


@pytest.mark.parametrize(("hidden_size", "num_heads"), [(20, 1), (32, 3), (32, 8), (16, 4)])
def test_sizes_that_do_not_divide_are_refused(small: SmallVlm, hidden_size: int, num_heads: int) -> None:
    with pytest.raises(ValueError, match="hidden_size"):
        SmallVlm(**small.model_dump() | {"hidden_size": hidden_size, "num_heads": num_heads})


def test_the_same_seed_gives_the_same_network(small: SmallVlm, processor: Any) -> None:
    state = torch.random.get_rng_state()
    one, two, other = (small_network(small, processor.tokenizer, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    # Output and input embeddings are one.
    assert one.lm_head.weight is one.model.language_model.embed_tokens.weight


def real_config(tokenizer: Any) -> Qwen2_5_VLConfig:
    """Config of Qwen2.5-VL-7B-Instruct with fewer and narrower layers.

    As there: grouped queries, untied embeddings, windows of 112 pixels in all vision layers but some, M-RoPE sections in
    the proportion 16:24:24, a million as theta, a vocabulary padded beyond the tokenizer's.
    """
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer) + 7,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128000,
            "max_window_layers": 28,
            "sliding_window": 32768,
            "use_sliding_window": False,
            "rms_norm_eps": 1e-6,
            "initializer_range": 0.1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": None,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "in_channels": 3,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
            "fullatt_block_indexes": [1],
            "out_hidden_size": 64,
            "initializer_range": 0.1,
        },
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=False,
    )


def test_the_real_architecture_is_loaded_adapted_trained_saved_and_merged(
    processor_folder: Path, default_tuning: Tuning, tmp_path: Path
) -> None:
    processor = load_processor(processor_folder, min_pixels=784, max_pixels=200_000)
    torch.manual_seed(0)
    Qwen2_5_VLForConditionalGeneration(real_config(processor.tokenizer)).save_pretrained(tmp_path / "base")
    model = load_base(tmp_path / "base", weights_dtype="float32", processor=processor)
    assert model.lm_head.weight is not model.model.language_model.embed_tokens.weight
    # Of several windows each, whole and cut.
    rng = np.random.default_rng(0)
    records = [messages_record("a.png", system="你是", question="风险？", answer=text) for text in ("高", "没有风险")]
    pixels = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((140, 280), (336, 252))]
    rows = [encode(processor, record, image) for record, image in zip(records, pixels, strict=True)]
    assert rows[1]["image_grid_thw"].tolist() == [[1, 24, 18]]
    batch = pad(rows, pad_token_id=processor.tokenizer.pad_token_id)
    model = add_adapter(model, default_tuning, seed=0)
    assert adapted_modules(model) == sorted(f"model.language_model.layers.0.{name}" for name in NAMES)
    before, after = step(model, batch)
    assert after < before
    assert (batch["labels"] != IGNORED).any()
    fill(model)
    expected, real = logits_of(model, batch), batch["attention_mask"].bool()
    model.save_pretrained(tmp_path / "adapter")
    record = manifest(tmp_path / "base", processor_folder, {}, model=model, weights_dtype="float32")
    write_json(tmp_path / "adapter" / RECORD, record)
    merge_adapter(tmp_path / "adapter", processor)
    whole = load_base(tmp_path / "adapter" / "merged", weights_dtype="float32", processor=processor)
    assert (logits_of(whole, batch) - expected)[real].abs().max() < 1e-5
