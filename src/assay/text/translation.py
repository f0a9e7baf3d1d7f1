"""Texts through a translation model of transformers, which lies in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM

from assay.core.pretrained import load_model
from assay.core.progress import progress
from assay.training.networks import read_tokenizer

BATCH = 32
MAX_TOKENS = 256


@torch.inference_mode()
def translated(texts: Sequence[str], folder: Path) -> list[str]:
    """What the model says of each text, in their order, without sampling; beyond ``MAX_TOKENS`` a text is cut.

    Raises:
        ValueError: no folder of a model that translates.
    """
    tokenizer = read_tokenizer(folder)
    try:
        model = load_model(AutoModelForSeq2SeqLM, folder).eval()
    except (OSError, KeyError) as error:
        raise ValueError(f"{folder}: no model that translates: {error}") from error
    order = sorted(range(len(texts)), key=lambda number: -len(texts[number]))
    found = [""] * len(texts)
    for start in progress(range(0, len(order), BATCH), name=f"translation by {folder.name}", unit="batch"):
        chosen = order[start : start + BATCH]
        batch = tokenizer(
            [texts[number] for number in chosen],
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        ids = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=MAX_TOKENS,
            do_sample=False,
            num_beams=1,
        )
        for number, text in zip(chosen, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
            found[number] = text.strip()
    return found
