"""Networks of every variant: built, planned, saved, read back, rejected."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config

from assay.core.params import load, validate
from assay.counts.causal import save_random_causal_lm
from assay.counts.memory import GIB, require_fit
from assay.counts.networks import build_network, load_network, load_tokenizer, memory_plan, read_record, save_network
from assay.counts.prediction import network_outputs
from assay.params.counts import CausalConfig, Counts
from assay.params.schema import validate_file

ROOT = Path(__file__).parents[2]
LOADED = load(Counts, ROOT / "params.yaml").train_counts
# The tiny encoder has two layers.
PARAMS = LOADED.model_copy(
    update={
        name: getattr(LOADED, name).model_copy(update={"frozen_layers": 1})
        for name in ("regression", "equal_width", "quantile", "staged", "ordinal")
    }
)
CORAL = PARAMS.ordinal.model_copy(update={"loss": "coral"})
FLOAT_LORA = PARAMS.llm_lora.model_copy(update={"weights_dtype": "float32"})
TEXTS = ["how many ways", "find the sum of all roots", "is w3 prime", "w1 w2 w5 w8 w9"]
SMALL = CausalConfig(hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32)


def build(base: Path, settings: Any, *, num_outputs: int = 8, seed: int = 1) -> Any:
    return build_network(base, settings, num_outputs=num_outputs, pad_token_id=0, seed=seed)


@pytest.fixture(scope="module")
def causal(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("causal") / "lm"
    save_random_causal_lm(folder, SMALL, tokenizer=tiny_encoder, seed=7)
    return folder


def one_step(model: Any, tokenizer: Any) -> None:
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    model(**batch).logits.float().square().sum().backward()
    optimizer.step()


def save_lora(base: Path, folder: Path) -> None:
    save_network(folder, build(base, PARAMS.llm_lora), load_tokenizer(base), base=base, record={})


@pytest.mark.parametrize(
    ("settings", "outputs"),
    [
        (PARAMS.regression, 1),
        (PARAMS.quantile, 8),
        (PARAMS.ordinal, 7),
        (CORAL, 7),
        (FLOAT_LORA, 8),
        (PARAMS.llm_lora, 8),
    ],
    ids=["regression", "classes", "corn", "coral", "lora_float32", "lora_bfloat16"],
)
def test_what_is_saved_predicts_the_same(
    tiny_encoder: Path, causal: Path, tmp_path: Path, settings: Any, outputs: int
) -> None:
    base = causal if hasattr(settings, "rank") else tiny_encoder
    tokenizer = load_tokenizer(base)
    model = build_network(base, settings, num_outputs=outputs, pad_token_id=tokenizer.pad_token_id, seed=1)
    one_step(model, tokenizer)
    before = network_outputs(model, tokenizer, TEXTS, max_tokens=16, what="x")
    save_network(tmp_path / "out", model, tokenizer, base=base, record={"variant": "x"})
    loaded = load_network(tmp_path / "out", settings, num_outputs=outputs)
    after = network_outputs(loaded, load_tokenizer(tmp_path / "out"), TEXTS, max_tokens=16, what="x")
    assert before.shape == (4, outputs)
    assert np.array_equal(before, after)
    assert not [path.name for path in (tmp_path / "out").rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]


def test_only_adapters_and_head_of_a_lora_are_trained_and_saved(causal: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(causal)
    model = build(causal, PARAMS.llm_lora)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert all("lora_" in name or "score" in name for name in trained)
    assert any("score" in name for name in trained)
    save_network(tmp_path, model, tokenizer, base=causal, record={})
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(value.numel() for value in saved.values()) == sum(
        value.numel() for name, value in model.named_parameters() if name in trained
    )
    assert not (tmp_path / "model.safetensors").exists()


def test_the_same_adapter_is_the_same_bytes_whatever_the_hash_seed(causal: Path, tmp_path: Path) -> None:
    """Another process, since the seed stands at the start of one: sets come out in another order."""
    save_lora(causal, tmp_path / "here")
    code = "import sys; sys.path.insert(0, sys.argv[3]); from test_networks import Path, save_lora\n"
    code += "save_lora(Path(sys.argv[1]), Path(sys.argv[2]))"
    command = [sys.executable, "-c", code, str(causal), str(tmp_path / "there"), str(Path(__file__).parent)]
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=env, cwd=ROOT, check=True, capture_output=True)
    here, there = (
        {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())} for name in ("here", "there")
    )
    assert "adapter_config.json" in here
    assert here == there


def test_an_adapter_rejects_another_base(causal: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(causal, base)
    tokenizer = load_tokenizer(base)
    model = build(base, FLOAT_LORA, num_outputs=3)
    assert isinstance(model, PeftModel)
    save_network(tmp_path / "out", model, tokenizer, base=base, record={})
    save_random_causal_lm(base, SMALL, tokenizer=tiny_encoder, seed=8)
    with pytest.raises(ValueError, match="trained on other weights"):
        load_network(tmp_path / "out", FLOAT_LORA, num_outputs=3)


def test_frozen_layers_stay_as_they_are_and_the_plan_knows(tiny_encoder: Path) -> None:
    tokenizer = load_tokenizer(tiny_encoder)
    model = build(tiny_encoder, PARAMS.quantile)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    one_step(model, tokenizer)
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert not [name for name in moved if "embeddings" in name or "layer.0." in name]
    assert [name for name in moved if "layer.1." in name]
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    assert memory_plan(tiny_encoder, PARAMS.quantile, num_outputs=8, device="cpu").gradients == 4 * trained
    many = PARAMS.quantile.model_copy(update={"frozen_layers": 3})
    with pytest.raises(ValueError, match="frozen_layers 3: BertForSequenceClassification has 2 layers"):
        build(tiny_encoder, many)


def test_heads_start_alike_for_a_seed(tiny_encoder: Path) -> None:
    first, again, other = (build(tiny_encoder, PARAMS.quantile, seed=seed).classifier.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_coral_has_one_weight_vector_and_a_bias_a_threshold(tiny_encoder: Path) -> None:
    head = build(tiny_encoder, CORAL, num_outputs=7).classifier
    assert head.coral_weights.weight.shape == (1, 16)
    assert head.coral_bias.shape == (7,)


def test_the_plan_is_made_from_the_config_and_refuses_what_cannot_fit(tiny_encoder: Path, causal: Path) -> None:
    plan = memory_plan(tiny_encoder, PARAMS.quantile, num_outputs=8, device="cpu")
    model = build(tiny_encoder, PARAMS.quantile)
    assert plan.parameters == 4 * sum(value.numel() for value in model.parameters())
    lora = memory_plan(causal, PARAMS.llm_lora, num_outputs=8, device="cpu")
    assert lora.gradients < lora.parameters
    require_fit(plan, what="quantile")
    with pytest.raises(ValueError, match="quantile needs"):
        require_fit(replace(plan, available=1), what="quantile")


def test_the_real_llm_with_lora_fits_a_24_gib_card_and_full_fp32_does_not(tmp_path: Path) -> None:
    """DeepSeek-R1-Distill-Qwen-1.5B by its published config, from params/full.yaml's settings; no weight is made."""
    Qwen2Config(
        vocab_size=151936,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        architectures=["Qwen2ForCausalLM"],
    ).save_pretrained(tmp_path)
    full = validate_file(ROOT / "params/full.yaml", base=ROOT / "params.yaml")
    settings = validate(Counts, full).train_counts.llm_lora
    plan = replace(memory_plan(tmp_path, settings, num_outputs=8, device="cpu"), available=24 * GIB)
    require_fit(plan, what="train_counts.llm_lora")
    assert plan.total < 12 * GIB
    full = settings.model_copy(update={"weights_dtype": "float32", "checkpointing": False, "batch_size": 64})
    large = replace(memory_plan(tmp_path, full, num_outputs=8, device="cpu"), available=24 * GIB)
    with pytest.raises(ValueError, match="Set "):
        require_fit(large, what="train_counts.llm_lora")


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_four_bits_without_their_package_say_what_to_install(causal: Path) -> None:
    four = PARAMS.llm_lora.model_copy(update={"weights_dtype": "4bit"})
    with pytest.raises(ValueError, match="needs the package bitsandbytes"):
        build(causal, four, num_outputs=3)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no variant.json .*dvc repro train_counts@quantile"):
        read_record(tmp_path / "quantile")
    with pytest.raises(ValueError, match="no tokenizer"):
        load_tokenizer(tmp_path)


def test_weights_of_another_network_are_rejected(tiny_encoder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_encoder)
    model = build(tiny_encoder, PARAMS.quantile)
    save_network(tmp_path, model, tokenizer, base=tiny_encoder, record={"variant": "quantile"})
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="do not fit its config"):
        load_network(tmp_path, PARAMS.quantile, num_outputs=8)
