"""What an adapter changes and what it leaves, what is saved, and what is not put together."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from assay.core.io import read_json, write_json
from assay.params.vlm import SmallVlm, Tuning
from assay.vlm.examples import encode
from assay.vlm.messages import messages_record
from assay.vlm.network import (
    RECORD,
    adapted_modules,
    add_adapter,
    check_manifest,
    load_adapter,
    load_base,
    merge_adapter,
    read_manifest,
    small_config,
    small_network,
)
from assay.vlm.processor import save_small_processor
from assay.vlm.prompts import Prompt
from assay.vlm.training import answer_loss

Make = Callable[..., list[dict[str, Any]]]
PROMPT = Prompt("S", "?", ("a", "b"), ("a", "b"), ("a", "b"))
NAMES = [f"self_attn.{letter}_proj" for letter in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]


@pytest.fixture
def batch(padded, make_records, encoded) -> dict[str, torch.Tensor]:
    return padded(encoded(make_records(["高", "没有风险", "低"])))


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


def logits_of(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(**{name: batch[name] for name in batch if name not in ("labels", "logits_to_keep")}).logits


def test_the_default_pattern_adapts_the_language_model_and_nothing_else(network, default_tuning):
    model = add_adapter(network, default_tuning, seed=0)
    expected = [f"model.language_model.layers.{layer}.{name}" for layer in range(2) for name in NAMES]
    assert adapted_modules(model) == sorted(expected)
    trained = [name for name, value in model.named_parameters() if value.requires_grad]
    assert len(trained) == 2 * len(expected)
    assert all(re.search(r"language_model\..*lora_[AB]", name) for name in trained)


def test_the_vision_tower_stays_as_it_is_unless_it_is_to_be_trained(load_network, default_tuning, batch):
    for train_vision in (False, True):
        model = add_adapter(load_network(), default_tuning.model_copy(update={"train_vision": train_vision}), seed=0)
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        step(model, batch)
        # One more: in the first, all that stands before an adapter whose B is zero has no gradient.
        step(model, batch)
        changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
        lora = {name for name in changed if "lora_" in name}
        assert len(lora) == 2 * 2 * len(NAMES)
        tower = {name for name in before if "visual.modules_to_save" in name}
        assert changed - lora == tower
        assert (len(tower) > 10) == train_vision


def test_a_pattern_is_followed_and_must_name_something(network, default_tuning):
    for target in ("nothing", r"language_model\.layers", r".*self_attention\.q_proj"):
        with pytest.raises(ValueError, match=r"lora\.target .* names no module"):
            add_adapter(network, with_lora(default_tuning, target=target), seed=0)
    model = add_adapter(network, with_lora(default_tuning, target=r".*language_model\.layers\.1\.mlp\.up_proj"), seed=0)
    assert adapted_modules(model) == ["model.language_model.layers.1.mlp.up_proj"]


def assert_made_by_the_seed(make: Callable[[int], Any]) -> Any:
    """The same seed gives the same parameters, another others, and torch's own generator stays; returns one model."""
    state = torch.random.get_rng_state()
    one, two, other = (list(make(seed).parameters()) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    return make(1)


def test_a_new_adapter_changes_nothing_and_is_the_seeds(load_network, default_tuning, batch):
    model = assert_made_by_the_seed(lambda seed: add_adapter(load_network(), default_tuning, seed=seed))
    assert torch.equal(logits_of(model, batch), logits_of(load_network(), batch))


@pytest.fixture
def saved(base_folder, processor_folder, default_tuning, save_adapter, tmp_path) -> Callable[..., tuple[Path, Any]]:
    """Function from changes of the settings to a saved adapter on copies of base and processor, and the model."""

    def save(*, train_vision: bool = False, **changes: Any) -> tuple[Path, Any]:
        base, tools, folder = (tmp_path / name for name in ("base", "processor", "adapter"))
        shutil.copytree(base_folder, base)
        shutil.copytree(processor_folder, tools)
        tuning = with_lora(default_tuning.model_copy(update={"train_vision": train_vision}), **changes)
        return folder, save_adapter(folder, PROMPT, tuning=tuning, base=base, tools=tools)

    return save


@pytest.mark.parametrize("changes", [{}, {"dora": True}, {"rslora": True}, {"train_vision": True}], ids=str)
def test_each_kind_of_adapter_trains_and_is_loaded_and_merged_with_the_same_logits(
    saved, load_network, open_processor, processor, default_tuning, batch, changes
):
    folder, model = saved(**changes)
    layer = next(module for module in model.modules() if isinstance(module, LoraLayer))
    rank, alpha = default_tuning.lora.rank, default_tuning.lora.alpha
    assert layer.scaling["default"] == (alpha / rank**0.5 if changes.get("rslora") else alpha / rank)
    assert bool(layer.lora_magnitude_vector) == changes.get("dora", False)
    expected = logits_of(model, batch)
    real = batch["attention_mask"].bool()
    assert (expected - logits_of(load_network(), batch))[real].abs().max() > 0.1
    loaded = load_adapter(folder, load_network())
    assert not loaded.training
    assert torch.equal(logits_of(loaded, batch)[real], expected[real])
    merge_adapter(folder, processor)
    whole = load_network(folder / "merged")
    assert not any(isinstance(module, LoraLayer) for module in whole.modules())
    assert (logits_of(whole, batch) - expected)[real].abs().max() < 1e-5
    again = open_processor(folder / "merged")
    assert again.chat_template == processor.chat_template
    assert again.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    # No pickle among them.
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".safetensors", ".json", ".jinja", ".md"}
    before, after = step(model, batch)
    assert after < before - 0.01


def test_the_manifest_says_what_the_adapter_belongs_to(saved):
    folder, model = saved()
    record = check_manifest(folder)
    assert record["prompt"] == json.loads(json.dumps(PROMPT.to_json() | {"min_pixels": 784, "max_pixels": 7056}))
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
        ("base", "model.safetensors", Path.unlink),
        ("base", "more.json", lambda path: path.write_text("{}")),
        ("processor", "chat_template.jinja", flip),
    ],
)
def test_another_base_or_processor_or_none_is_rejected_and_named(saved, part, name, change):
    folder, _ = saved()
    place = Path(read_json(folder / RECORD)[part])
    change(place / name)
    with pytest.raises(ValueError, match=f"trained with another {part}: {re.escape(str(place / name))} differs"):
        check_manifest(folder)
    shutil.rmtree(place)
    with pytest.raises(ValueError, match=f"belongs to .*{part}, which is not here"):
        check_manifest(folder)


def test_a_base_with_another_vocabulary_is_rejected(
    small, base_folder, load_network, processor, open_processor, tmp_path
):
    save_small_processor(tmp_path / "other", ["another text"] * 3, answers=["yes", "no"], vocab_size=280)
    other = open_processor(tmp_path / "other")
    small_network(small, other.tokenizer, seed=0).save_pretrained(tmp_path / "base")
    load_base(tmp_path / "base", weights_dtype="float32", processor=other)
    with pytest.raises(ValueError, match="base: its vocabulary is not the processor's"):
        load_network(tmp_path / "base")
    shutil.copytree(base_folder, tmp_path / "base", dirs_exist_ok=True)
    config = read_json(tmp_path / "base/config.json")
    config["image_token_id"] += 1
    write_json(tmp_path / "base/config.json", config)
    named = processor.image_token_id
    with pytest.raises(ValueError, match=rf"not the processor's \(image token {named + 1} against {named}\)"):
        load_network(tmp_path / "base")


@pytest.mark.parametrize("content", ["missing", "no weights", "no model", "cut off"])
def test_a_folder_without_a_model_is_rejected(content, base_folder, load_network, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(base_folder, folder)
    weights = folder / "model.safetensors"
    if content == "missing":
        shutil.rmtree(folder)
    elif content == "no model":
        (folder / "config.json").write_text('{"model_type": "bert"}')
    elif content == "no weights":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=re.escape(str(folder))):
        load_network(folder)


def test_bfloat16_weights_keep_adapters_in_float32(load_network, default_tuning, batch):
    model = add_adapter(load_network(dtype="bfloat16"), default_tuning, seed=0)
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


@pytest.mark.parametrize(("hidden_size", "num_heads"), [(16, 1), (16, 2), (48, 2), (64, 4), (128, 1), (320, 5)])
def test_every_size_runs_and_time_height_and_width_fill_each_head(small, processor, batch, hidden_size, num_heads):
    sizes = {"hidden_size": hidden_size, "num_heads": num_heads, "num_layers": 1}
    settings = SmallVlm(**small.model_dump() | sizes)
    model = assert_made_by_the_seed(lambda seed: small_network(settings, processor.tokenizer, seed=seed))
    time, height, width = model.config.text_config.rope_parameters["mrope_section"]
    assert time + height + width == hidden_size // num_heads // 2
    assert time > 0
    assert height == width > 0
    assert torch.isfinite(loss_of(model, batch))
    # Output and input embeddings are one.
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight


def real_config(small: SmallVlm, tokenizer: Any) -> Qwen2_5_VLConfig:
    """Config of Qwen2.5-VL-7B-Instruct with fewer and narrower layers.

    As there: grouped queries, untied embeddings, windows of 112 pixels in all vision layers but some, M-RoPE sections in
    the proportion 16:24:24, a million as theta, a vocabulary padded beyond the tokenizer's.
    """
    sizes = {"hidden_size": 64, "num_layers": 1, "num_heads": 4, "vision_layers": 2}
    config = small_config(SmallVlm(**small.model_dump() | sizes), tokenizer).to_dict()
    config["text_config"] |= {
        "vocab_size": len(tokenizer) + 7,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128000,
        "max_window_layers": 28,
        "sliding_window": 32768,
        "use_sliding_window": False,
        "initializer_range": 0.1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
    }
    config["vision_config"] |= {"window_size": 112, "fullatt_block_indexes": [1], "initializer_range": 0.1}
    return Qwen2_5_VLConfig(**config | {"tie_word_embeddings": False})


def test_the_real_architecture_is_loaded_adapted_trained_saved_and_merged(
    small, open_processor, padded, load_network, save_adapter, default_tuning, tmp_path
):
    processor = open_processor(max_pixels=200_000)
    torch.manual_seed(0)
    Qwen2_5_VLForConditionalGeneration(real_config(small, processor.tokenizer)).save_pretrained(tmp_path / "base")
    model = load_network(tmp_path / "base")
    assert model.lm_head.weight is not model.model.language_model.embed_tokens.weight
    # Of several windows each, whole and cut.
    rng = np.random.default_rng(0)
    records = [messages_record("a.png", system="你是", question="风险？", answer=text) for text in ("高", "没有风险")]
    pixels = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((140, 280), (336, 252))]
    rows = [encode(processor, record, image) for record, image in zip(records, pixels, strict=True)]
    assert rows[1]["image_grid_thw"].tolist() == [[1, 24, 18]]
    batch = padded(rows)
    model = add_adapter(model, default_tuning, seed=0)
    assert adapted_modules(model) == sorted(f"model.language_model.layers.0.{name}" for name in NAMES)
    before, after = step(model, batch)
    assert after < before
    model = save_adapter(tmp_path / "adapter", PROMPT, base=tmp_path / "base")
    expected, real = logits_of(model, batch), batch["attention_mask"].bool()
    merge_adapter(tmp_path / "adapter", processor)
    whole = load_network(tmp_path / "adapter" / "merged")
    assert (logits_of(whole, batch) - expected)[real].abs().max() < 1e-5
