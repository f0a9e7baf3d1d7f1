"""A small causal language model built from a config: what the LoRA variant adapts where no pretrained one can be had."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from assay.core.pretrained import load_pretrained
from assay.params.counts import CausalConfig

# LoRA adds a small change to frozen weights; with the usual 0.02 a random network gives it almost no signal to steer.
INITIALIZER_RANGE = 0.2
MAX_POSITIONS = 4096


def save_random_causal_lm(target: Path, settings: CausalConfig, *, tokenizer: Path, seed: int) -> int:
    """Write a Qwen2 with random weights and the tokenizer of the folder ``tokenizer``; returns its parameters."""
    words = load_pretrained(AutoTokenizer, tokenizer)
    config = Qwen2Config(
        vocab_size=len(words),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        num_key_value_heads=settings.num_heads,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        initializer_range=INITIALIZER_RANGE,
        pad_token_id=words.pad_token_id,
        bos_token_id=None,
        eos_token_id=words.sep_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    shutil.rmtree(target, ignore_errors=True)
    model.save_pretrained(target)
    words.save_pretrained(target)
    return int(model.num_parameters())
