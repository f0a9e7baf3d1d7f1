"""pretrain_text: the own encoder, pretrained on the training texts with whole-word masks.

    python -m assay.stages.pretrain_text

Output, in models/text/encoder: config, weights, tokenizer, history.csv and pretraining.json (masked-token accuracy and loss
on val before and after, and the share of the most frequent token).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from assay.core.io import write_csv, write_json
from assay.core.params import load
from assay.core.resume import resumable
from assay.core.stage import run, timed
from assay.core.torch_setup import pick_device, set_up_torch
from assay.params.text import PretrainText, Text
from assay.text.encoder import Encoder, new_encoder, pair_keys, save_encoder
from assay.text.masking import WholeWordCollator
from assay.text.pretraining import MaskedLanguageModel, masked_figures, pretrain, with_words
from assay.text.vocabulary import cooccurrence, make_tokenizer, occurring_tokens, ppmi_embeddings, read_vocabulary

SOURCE = Path("data/text/source")
ROWS = Path("data/text/rows")
OUTPUT = Path("models/text/encoder")
# Tokens at most so far apart occur together.
WINDOW = 4
# Standard deviation of the start values from co-occurrence: a little above that of random ones.
SCALE = 0.05


def start(settings: PretrainText, texts: list[str], *, seed: int) -> tuple[Encoder, Any]:
    """An encoder with start values, and its tokenizer."""
    tokens = read_vocabulary(SOURCE / "vocab.txt")
    own = settings.encoder
    tokenizer = make_tokenizer(occurring_tokens(tokens, texts, min_count=own.min_token_count))
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    size, pad = len(tokenizer), tokenizer.pad_token_id
    pairs = pair_keys(rows, num_tokens=size, min_count=own.pair_min_count) if own.pair_size else None
    torch.manual_seed(seed)
    encoder = new_encoder(
        own,
        num_tokens=size,
        pad_token_id=pad,
        max_tokens=settings.max_tokens,
        dropout=settings.dropout,
        pairs=pairs,
    )
    if own.embeddings == "ppmi":
        counts = cooccurrence(rows, num_tokens=size, window=WINDOW)
        vectors = SCALE * ppmi_embeddings(counts, size=own.hidden_size, seed=seed)
        table = encoder.body.get_input_embeddings().weight
        with torch.no_grad():
            table[:, : vectors.shape[1]] = torch.from_numpy(vectors)
            table[pad] = 0
    known = 0 if pairs is None else len(pairs)
    print(
        f"{size} tokens and {known} pairs occur in train; {sum(p.numel() for p in encoder.parameters()):,} parameters"
    )
    return encoder, tokenizer


def train(encoder: Encoder, tokenizer: Any, texts: dict[str, list[str]], params: Text) -> dict[str, float]:
    """Pretrain ``encoder`` in place and write its history; returns what pretraining.json holds."""
    settings, seed, device = params.pretrain_text, params.runtime.seed, pick_device(params.runtime.device).type
    special = tokenizer.all_special_ids
    vocab_ids = np.setdiff1d(np.arange(len(tokenizer)), special)
    masks = {"share": settings.mask_share, "mask_id": tokenizer.mask_token_id, "pad_id": tokenizer.pad_token_id}
    collator = WholeWordCollator(vocab_ids=vocab_ids, seed=seed, **masks)
    rows = {role: with_words(tokenizer, texts[role], max_tokens=settings.max_tokens, name=role) for role in texts}
    model = MaskedLanguageModel(encoder)
    before = masked_figures(model.to(device), rows["val"], collator)
    inputs = [SOURCE, ROWS / "train.parquet", ROWS / "val.parquet"]
    values = {"settings": settings, "runtime": params.runtime}
    with resumable("pretrain_text", params=values, inputs=inputs) as checkpoints:
        history = pretrain(model, rows["train"], collator, settings, checkpoints, seed=seed, cpu=device == "cpu")
        after = masked_figures(model, rows["val"], collator)
        write_csv(OUTPUT / "history.csv", pd.DataFrame(history))
    found = {f"start_{name}": before[name] for name in ("masked_accuracy", "masked_loss")} | after
    print("masked tokens of val: " + ", ".join(f"{name} {value:.4g}" for name, value in found.items()))
    return found


def main() -> None:
    params = load(Text)
    settings = params.pretrain_text
    set_up_torch(threads=params.runtime.threads)
    with timed("pretrain_text") as measured:
        texts = {role: list(pd.read_parquet(ROWS / f"{role}.parquet")["text"]) for role in ("train", "val")}
        encoder, tokenizer = start(settings, texts["train"], seed=params.runtime.seed)
        found = train(encoder, tokenizer, texts, params) if settings.epochs > 0 else {}
        save_encoder(OUTPUT, encoder.cpu(), tokenizer)
        write_json(OUTPUT / "pretraining.json", found)
        measured["texts"] = settings.epochs * len(texts["train"])


if __name__ == "__main__":
    run(main)
