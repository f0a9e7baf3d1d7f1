"""Before minutes of training: what exactly is learned, and whether every conversation fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.decode import decode_rgb, probe
from assay.vlm.examples import IGNORED, encode_many, render

# Encoded in full, image and all; of the others the tokens are counted.
NUM_ENCODED = 8


def count_tokens(processor: Any, records: Sequence[Mapping[str, Any]], *, max_pixels: int) -> np.ndarray:
    """Text and image tokens of each conversation, int64 [n, 2], without decoding an image."""
    texts = ["".join(render(processor, record)) for record in records]
    lengths = [len(ids) for ids in processor.tokenizer(texts, add_special_tokens=False)["input_ids"]]
    infos = [probe(Path(record["images"][0]), max_pixels=max_pixels) for record in records]
    images = processor._get_num_multimodal_tokens(image_sizes=[(info.height, info.width) for info in infos])
    # The text holds one placeholder already.
    return np.stack([np.array(lengths) - 1, np.array(images.num_image_tokens)], axis=1)


def check_conversations(
    processor: Any, records: Mapping[str, Sequence[Mapping[str, Any]]], *, max_tokens: int, max_pixels: int
) -> tuple[dict[str, float], list[str]]:
    """Check conversations before training.

    Args:
        records: kind (role or captions) -> conversations.
        max_tokens: a longer conversation is rejected: cutting it would cut image tokens.
        max_pixels: limit of decoding.

    Returns:
        Metrics, and a line in words for each kind that has conversations: sizes, and what is learned of the first one.

    Raises:
        ValueError: a conversation is too long, image tokens and image do not agree, or nothing is learned.
    """
    metrics: dict[str, float] = {}
    lines = []
    for kind, rows in records.items():
        if not rows:
            continue
        counts = count_tokens(processor, rows, max_pixels=max_pixels)
        total = counts.sum(axis=1)
        longest = int(total.argmax())
        if total[longest] > max_tokens:
            raise ValueError(
                f"{rows[longest]['images'][0]}: {total[longest]} tokens ({counts[longest, 1]} of the image), above "
                f"prepare_vlm.max_tokens {max_tokens}; raise it, or lower prepare_vlm.max_pixels"
            )
        first = rows[:NUM_ENCODED]
        images = [decode_rgb(row["images"][0], max_pixels=max_pixels) for row in first]
        encoded = encode_many(processor, first, images)
        for row, found, expected in zip(first, encoded, total, strict=False):
            if (found["labels"] == IGNORED).all():
                raise ValueError(f"{row['images'][0]}: nothing of the conversation is learned")
            if len(found["input_ids"]) != expected:
                raise ValueError(f"{row['images'][0]}: {len(found['input_ids'])} tokens, {expected} were expected")
        ids, labels = encoded[0]["input_ids"], encoded[0]["labels"]
        whole = processor.tokenizer.decode(ids[ids != processor.image_token_id])
        learned = processor.tokenizer.decode(labels[labels != IGNORED])
        lines.append(
            f"{kind}: {len(rows)} conversations, up to {total.max()} tokens, {counts[:, 1].max()} of the image; "
            f"learned: {learned!r} of {whole!r}"
        )
        metrics |= {
            f"{kind}.conversations": float(len(rows)),
            f"{kind}.tokens.max": float(total.max()),
            f"{kind}.tokens.median": float(np.median(total)),
            f"{kind}.image_tokens.max": float(counts[:, 1].max()),
        }
    return metrics, lines
