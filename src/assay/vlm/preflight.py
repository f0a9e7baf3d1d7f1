"""Before minutes of training: what exactly is learned, and whether every conversation fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.decode import decode_rgb, probe
from assay.vlm.examples import IGNORED, encode_many, render
from assay.vlm.scoring import answer_tokens

# Encoded in full, picture and all; of the others the tokens are counted.
NUM_ENCODED = 8


@dataclass(frozen=True)
class Flight:
    """What the check found: ``figures`` for metrics, and one conversation per kind, decoded, with what is learned of it."""

    figures: dict[str, float]
    decoded: dict[str, tuple[str, str]]


def count_tokens(processor: Any, records: Sequence[Mapping[str, Any]], *, max_pixels: int) -> np.ndarray:
    """Text and image tokens of each conversation, int64 [n, 2], without decoding a picture."""
    texts = ["".join(render(processor, record)) for record in records]
    if not texts:
        return np.zeros((0, 2), dtype=np.int64)
    lengths = [len(ids) for ids in processor.tokenizer(texts, add_special_tokens=False)["input_ids"]]
    infos = [probe(Path(record["images"][0]), max_pixels=max_pixels) for record in records]
    pictures = processor._get_num_multimodal_tokens(image_sizes=[(info.height, info.width) for info in infos])
    # The text holds one placeholder already.
    return np.stack([np.array(lengths) - 1, np.array(pictures.num_image_tokens)], axis=1)


def check_conversations(
    processor: Any, records: Mapping[str, Sequence[Mapping[str, Any]]], *, max_tokens: int, max_pixels: int
) -> Flight:
    """Check conversations before training.

    Args:
        records: kind (role or captions) -> conversations.
        max_tokens: a longer conversation is refused: cutting it would cut image tokens.
        max_pixels: limit of decoding.

    Raises:
        ValueError: a conversation is too long, image tokens and picture do not agree, or nothing is learned.
    """
    figures: dict[str, float] = {}
    decoded = {}
    for kind, rows in records.items():
        counts = count_tokens(processor, rows, max_pixels=max_pixels)
        if not len(counts):
            continue
        total = counts.sum(axis=1)
        longest = int(total.argmax())
        if total[longest] > max_tokens:
            raise ValueError(
                f"{rows[longest]['images'][0]}: {total[longest]} tokens ({counts[longest, 1]} of the picture), above "
                f"prepare_vlm.max_tokens {max_tokens}; raise it, or lower prepare_vlm.max_pixels"
            )
        first = rows[:NUM_ENCODED]
        images = [decode_rgb(row["images"][0], max_pixels=max_pixels) for row in first]
        for number, (row, found) in enumerate(zip(first, encode_many(processor, first, images), strict=True)):
            learned = found["labels"] != IGNORED
            if not learned.any():
                raise ValueError(f"{row['images'][0]}: nothing of the conversation is learned")
            if len(found["input_ids"]) != total[number]:
                raise ValueError(f"{row['images'][0]}: {len(found['input_ids'])} tokens, {total[number]} were expected")
            if number == 0:
                ids = found["input_ids"][found["input_ids"] != processor.image_token_id]
                decoded[kind] = (processor.tokenizer.decode(ids), processor.tokenizer.decode(found["labels"][learned]))
        figures |= {
            f"{kind}.conversations": float(len(rows)),
            f"{kind}.tokens.max": float(total.max()),
            f"{kind}.tokens.median": float(np.median(total)),
            f"{kind}.image_tokens.max": float(counts[:, 1].max()),
        }
    return Flight(figures, decoded)


def answer_lengths(processor: Any, answers: Sequence[str]) -> dict[str, int]:
    """Tokens of each answer as it is scored."""
    return dict(zip(answers, map(len, answer_tokens(processor.tokenizer, answers)), strict=True))


def preflight_text(flight: Flight) -> str:
    """The check in words: one line a kind with its sizes, and what is learned of its first conversation."""
    lines = []
    for kind, (full, learned) in flight.decoded.items():
        number, tokens, image = (
            int(flight.figures[f"{kind}.{name}"]) for name in ("conversations", "tokens.max", "image_tokens.max")
        )
        sizes = f"{number} conversations, up to {tokens} tokens, {image} of the picture"
        lines.append(f"{kind}: {sizes}; learned: {learned!r} of {full!r}")
    return "\n".join(lines)
