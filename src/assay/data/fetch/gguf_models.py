"""Causal models in one GGUF file, llama.cpp's form, as a plain folder: config, safetensors and tokenizer.

transformers reads the file by the package gguf, both in Python and numpy alone: no code of the file runs, and no native
parser sees it. Weights of a few bits each become float16.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from assay.core.pretrained import load_pretrained


def save_from_gguf(path: Path, target: Path) -> int:
    """Write the model of the file ``path``, alone in its folder, into the folder ``target``; returns its parameters.

    Raises:
        ValueError: no GGUF file, or one that lacks weights.
    """
    with path.open("rb") as stream:
        head = stream.read(4)
    if int.from_bytes(head, "little") != gguf.GGUF_MAGIC:
        raise ValueError(f"{path.name} begins with {head!r}, a GGUF file with b'GGUF'; fetch it again")
    load_pretrained(AutoTokenizer, path.parent, gguf_file=path.name).save_pretrained(target)
    options = {"gguf_file": path.name, "dtype": torch.float32, "output_loading_info": True}
    read, told = load_pretrained(AutoModelForCausalLM, path.parent, **options)
    if missing := sorted(told["missing_keys"]):
        raise ValueError(f"{path.name} lacks {len(missing)} weights of its network, {missing[0]} first; fetch it again")
    # What was read from a GGUF file counts as quantised still, and would not be saved.
    config = read.config.__class__.from_dict({**read.config.to_dict(), "quantization_config": None})
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    model.load_state_dict(read.state_dict())
    model.to(torch.float16).save_pretrained(target)
    return int(model.num_parameters())
