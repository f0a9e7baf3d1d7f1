"""Class probabilities of a vision-language model: how likely each class's answer is after the image and the question.

With answers of one token this is one forward pass and one position; longer answers take the image and the question
once, keep the attention cache, and go on from there for each answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.core.progress import progress
from assay.vlm.examples import Cache, Examples, pad
from assay.vlm.prompts import Prompt

NEEDED = ("input_ids", "attention_mask", "mm_token_type_ids", "pixel_values", "image_grid_thw")


def answer_tokens(tokenizer: Any, answers: Sequence[str]) -> list[list[int]]:
    """Token ids of each answer.

    Where one answer begins like another, what ends the turn is part of all, so that the shorter one does not win by
    being shorter.

    Raises:
        ValueError: two answers have the same tokens.
    """
    rows = [list(tokenizer(answer, add_special_tokens=False)["input_ids"]) for answer in answers]
    pairs = [(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
    if any(a == b for a, b in pairs):
        raise ValueError(f"answers {list(answers)} are not different tokens in this vocabulary")
    if any(b[: len(a)] == a for a, b in pairs):
        rows = [[*row, tokenizer.eos_token_id] for row in rows]
    return rows


@torch.inference_mode()
def answer_log_probs(model: Any, batch: Mapping[str, torch.Tensor], answers: Sequence[Sequence[int]]) -> torch.Tensor:
    """Log-likelihood of each answer, float64 [B, C]; ``batch`` is left-padded and ends where the answer begins."""
    device = next(model.parameters()).device
    inputs = {name: batch[name].to(device) for name in NEEDED}
    several = any(len(answer) > 1 for answer in answers)
    found = model(**inputs, logits_to_keep=1, use_cache=several)
    first = found.logits[:, -1].double().log_softmax(-1)
    columns = []
    for answer in answers:
        column = first[:, answer[0]]
        if len(answer) > 1:
            column = column + _continued(model, inputs["attention_mask"], found.past_key_values, answer)
        columns.append(column)
    return torch.stack(columns, dim=1).cpu()


def _continued(model: Any, attended: torch.Tensor, cache: Any, answer: Sequence[int]) -> torch.Tensor:
    """Log-likelihood [B] of an answer's tokens after the first, from the cache, which is left as it was."""
    rows = len(attended)
    given = torch.tensor(answer[:-1], device=attended.device).expand(rows, -1)
    mask = torch.cat([attended, torch.ones_like(given)], dim=1)
    # Multimodal positions go on after the image's, which take fewer steps than it has tokens.
    steps = torch.arange(len(answer) - 1, device=attended.device)
    # Under adapters or not.
    holder = next(module for module in model.modules() if hasattr(module, "rope_deltas"))
    start = attended.sum(dim=1, keepdim=True) + holder.rope_deltas.to(attended.device)
    positions = (start + steps).expand(3, -1, -1)
    found = model(input_ids=given, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
    # Minus: so many tokens less.
    cache.crop(-given.shape[1])
    chosen = torch.tensor(answer[1:], device=attended.device).expand(rows, -1)
    return found.logits.double().log_softmax(-1).gather(2, chosen[..., None]).sum(dim=(1, 2))


def record_log_probs(
    model: Any,
    records: Sequence[Mapping[str, Any]],
    processor: Any,
    prompt: Prompt,
    *,
    max_pixels: int,
    batch_size: int,
    name: str,
    cache: Cache | None = None,
) -> np.ndarray:
    """Log-probabilities of the classes, float64 [n, C], each row normalised over the classes.

    Args:
        records: conversations; their images are asked about with ``prompt``, answers in them are not looked at.
        max_pixels: limit of decoding.
        name: of the progress bar.
        cache: may be shared by networks that are asked about the same images.
    """
    asked = [prompt.record(record["images"][0]) for record in records]
    examples = Examples(asked, processor, root=Path(), max_pixels=max_pixels, cache=cache)
    answers = answer_tokens(processor.tokenizer, prompt.answers)
    pad_token_id = processor.tokenizer.pad_token_id
    model.eval()
    parts = []
    for start in progress(range(0, len(asked), batch_size), name=name, unit="batch"):
        rows = examples.__getitems__(range(start, min(start + batch_size, len(asked))))
        parts.append(answer_log_probs(model, pad(rows, pad_token_id=pad_token_id), answers))
    return torch.cat(parts).log_softmax(-1).numpy()
