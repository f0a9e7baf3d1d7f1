"""Networks of every variant: built, planned, saved, read back, rejected."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from assay.core.io import read_json
from assay.core.params import load
from assay.counts.causal import save_random_causal_lm
from assay.counts.networks import (
    build_network,
    embed_questions,
    load_network,
    load_tokenizer,
    memory_plan,
    network_outputs,
    read_record,
    save_network,
)
from assay.params.counts import CausalConfig, Counts

ROOT = Path(__file__).parents[2]
LOADED = load(Counts, ROOT / "params.yaml").train_counts
# The tiny encoder has two layers.
PARAMS = LOADED.model_copy(
    update={
        name: getattr(LOADED, name).model_copy(update={"frozen_layers": 1})
        for name in ("regression", "quantile", "ordinal")
    }
)
CORAL = PARAMS.ordinal.model_copy(update={"loss": "coral"})
FLOAT_LORA = PARAMS.llm_lora.model_copy(update={"weights_dtype": "float32", "num_layers": None})
ONE_LAYER = FLOAT_LORA.model_copy(update={"num_layers": 1})
TEXTS = ["how many ways", "find the sum of all roots", "is w3 prime", "w1 w2 w5 w8 w9"]
SMALL = CausalConfig(hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32)


def build(base: Path, settings: Any, *, num_outputs: int = 8, seed: int = 1) -> Any:
    return build_network(base, settings, num_outputs=num_outputs, pad_token_id=0, seed=seed)


@pytest.fixture(scope="module")
def causal(tiny_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("causal") / "lm"
    save_random_causal_lm(folder, SMALL, tokenizer=tiny_encoder, seed=7)
    return folder


def one_step(model: Any, tokenizer: Any) -> None:
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    model(**batch).logits.float().square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("settings", "outputs"),
    [
        (PARAMS.regression, 1),
        (PARAMS.quantile, 8),
        (PARAMS.ordinal, 7),
        (CORAL, 7),
        (FLOAT_LORA, 8),
        (ONE_LAYER, 8),
    ],
    ids=["regression", "classes", "corn", "coral", "lora", "lora_on_the_lowest_layer"],
)
def test_what_is_saved_predicts_the_same(tiny_encoder, causal, tmp_path, settings, outputs):
    base = causal if hasattr(settings, "rank") else tiny_encoder
    tokenizer = load_tokenizer(base)
    model = build_network(base, settings, num_outputs=outputs, pad_token_id=tokenizer.pad_token_id, seed=1)
    if settings is CORAL:  # one weight vector, and a bias for each threshold
        assert [tuple(value.shape) for value in model.classifier.parameters()] == [(7,), (1, 16)]
    one_step(model, tokenizer)
    before = network_outputs(model, tokenizer, TEXTS, max_tokens=16, what="x")
    save_network(tmp_path / "out", model, tokenizer, base=base, record={"variant": "x"})
    loaded = load_network(tmp_path / "out", settings, num_outputs=outputs)
    after = network_outputs(loaded, load_tokenizer(tmp_path / "out"), TEXTS, max_tokens=16, what="x")
    assert before.shape == (4, outputs)
    assert np.array_equal(before, after)
    assert not [path.name for path in (tmp_path / "out").rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]


def test_only_adapters_and_head_of_a_lora_are_trained_and_saved(causal, tmp_path):
    tokenizer = load_tokenizer(causal)
    model = build(causal, FLOAT_LORA)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert all("lora_" in name or "score" in name for name in trained)
    assert any("score" in name for name in trained)
    save_network(tmp_path, model, tokenizer, base=causal, record={})
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(value.numel() for value in saved.values()) == sum(
        value.numel() for name, value in model.named_parameters() if name in trained
    )
    assert not (tmp_path / "model.safetensors").exists()
    # A list that peft keeps as a set would be written in an order that changes with the hash seed.
    config = read_json(tmp_path / "adapter_config.json")
    assert isinstance(config["target_modules"], str)
    assert all(value == sorted(value) for value in config.values() if isinstance(value, list))


def test_the_lowest_layers_are_those_of_the_whole_model_and_the_plan_knows(causal):
    whole, lowest = (build(causal, settings).get_base_model().model for settings in (FLOAT_LORA, ONE_LAYER))
    assert [len(model.layers) for model in (whole, lowest)] == [2, 1]
    assert torch.equal(whole.layers[0].mlp.up_proj.weight, lowest.layers[0].mlp.up_proj.weight)
    plans = [memory_plan(causal, settings, num_outputs=8, device="cpu") for settings in (FLOAT_LORA, ONE_LAYER)]
    assert [plan.shape.num_layers for plan in plans] == [2, 1]
    assert plans[1].parameters < plans[0].parameters
    with pytest.raises(ValueError, match=r"train_counts.llm_lora.num_layers 3: .* has 2; or set null"):
        build(causal, FLOAT_LORA.model_copy(update={"num_layers": 3}))


def test_an_adapter_rejects_another_base(causal, tiny_encoder, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(causal, base)
    tokenizer = load_tokenizer(base)
    model = build(base, FLOAT_LORA, num_outputs=3)
    assert isinstance(model, PeftModel)
    save_network(tmp_path / "out", model, tokenizer, base=base, record={})
    save_random_causal_lm(base, SMALL, tokenizer=tiny_encoder, seed=8)
    with pytest.raises(ValueError, match="trained on other weights"):
        load_network(tmp_path / "out", FLOAT_LORA, num_outputs=3)


def test_frozen_layers_stay_as_they_are_and_the_plan_knows(tiny_encoder):
    tokenizer = load_tokenizer(tiny_encoder)
    model = build(tiny_encoder, PARAMS.quantile)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    heads = [build(tiny_encoder, PARAMS.quantile, seed=seed).classifier.weight for seed in (1, 2)]
    assert [torch.equal(head, before["classifier.weight"]) for head in heads] == [True, False]
    one_step(model, tokenizer)
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert not [name for name in moved if "embeddings" in name or "layer.0." in name]
    assert [name for name in moved if "layer.1." in name]
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    many = PARAMS.quantile.model_copy(update={"frozen_layers": 3})
    # The plan is made from the config alone.
    plan = memory_plan(tiny_encoder, PARAMS.quantile, num_outputs=8, device="cpu")
    assert plan.parameters == 4 * sum(value.numel() for value in model.parameters())
    assert plan.gradients == 4 * trained
    with pytest.raises(ValueError, match="frozen_layers 3: BertForSequenceClassification has 2 layers"):
        build(tiny_encoder, many)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_four_bits_without_their_package_say_what_to_install(causal):
    four = FLOAT_LORA.model_copy(update={"weights_dtype": "4bit"})
    with pytest.raises(ValueError, match="needs the package bitsandbytes"):
        build(causal, four, num_outputs=3)


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"no variant.json .*dvc repro train_counts@quantile"):
        read_record(tmp_path / "quantile")
    with pytest.raises(ValueError, match="no tokenizer"):
        load_tokenizer(tmp_path)


def test_weights_of_another_network_are_rejected(tiny_encoder, tmp_path):
    tokenizer = load_tokenizer(tiny_encoder)
    model = build(tiny_encoder, PARAMS.quantile)
    save_network(tmp_path, model, tokenizer, base=tiny_encoder, record={"variant": "quantile"})
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="do not fit its config"):
        load_network(tmp_path, PARAMS.quantile, num_outputs=8)


def test_embeddings_are_means_over_tokens_whatever_stands_beside_them(tiny_encoder):
    found = embed_questions(tiny_encoder, [*TEXTS, "how " * 200], device="cpu")
    assert found.shape == (5, 16)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    model, tokenizer = AutoModel.from_pretrained(tiny_encoder).eval(), load_tokenizer(tiny_encoder)
    for text, vector in zip(TEXTS, found, strict=False):
        with torch.no_grad():
            mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)
        assert np.allclose(vector, mean / mean.norm(), atol=1e-5)


def test_texts_beyond_the_encoders_positions_are_refused_before_it_trains(tiny_encoder, tmp_path):
    longest, longer = (PARAMS.regression.model_copy(update={"max_tokens": length}) for length in (96, 97))
    model = build(tiny_encoder, longest)
    refusal = "max_tokens 97: BertModel has positions for 96; take 96 at most"
    with pytest.raises(ValueError, match=refusal):
        build(tiny_encoder, longer)
    with pytest.raises(ValueError, match=refusal):
        memory_plan(tiny_encoder, longer, num_outputs=8, device="cpu")
    save_network(tmp_path / "m", model, load_tokenizer(tiny_encoder), base=tiny_encoder, record={})
    with pytest.raises(ValueError, match=refusal):
        load_network(tmp_path / "m", longer, num_outputs=8)
