"""Conversations as the tensors that training and scoring take: loss on the answer only, padding on the left.

A record is a line of ``assay.vlm.messages``: system, user with one image, and for training the assistant's answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from assay.data.decode import decode_rgb
from assay.vlm.messages import chat

IGNORED = -100
PIXELS = ("pixel_values", "image_grid_thw")
# Points along a side of a token's part of the image, by which its danger is measured, and the share that counts as all.
FINE, COVERED = 8, 0.3
# Images ready for the network are kept up to this size, so that an epoch does not decode them again.
CACHED_BYTES = 2**30


def render(processor: Any, record: Mapping[str, Any]) -> tuple[str, str]:
    """The conversation up to the answer, and the answer with what ends the turn ("" where the record has none).

    Raises:
        ValueError: the template writes the first part otherwise once an answer follows.
    """
    turns = chat(record)
    asked = [turn for turn in turns if turn["role"] != "assistant"]
    prompt: str = processor.apply_chat_template(asked, add_generation_prompt=True)
    if len(asked) == len(turns):
        return prompt, ""
    full: str = processor.apply_chat_template(turns)
    if not full.startswith(prompt):
        raise ValueError(
            "the chat template does not begin a finished conversation as an open one; use another processor"
        )
    return prompt, full.removeprefix(prompt)


def encode(processor: Any, record: Mapping[str, Any], image: np.ndarray) -> dict[str, torch.Tensor]:
    """One conversation, see `encode_many`."""
    return encode_many(processor, [record], [image])[0]


def encode_many(
    processor: Any, records: Sequence[Mapping[str, Any]], images: Sequence[np.ndarray]
) -> list[dict[str, torch.Tensor]]:
    """Conversations without padding, in one call of the processor, which costs half of as many calls.

    Args:
        images: uint8 [H, W, 3], one for each record.

    Returns:
        For each: input_ids, mm_token_type_ids and labels int64 [T], labels ``IGNORED`` up to the answer; pixel_values
        float32 [patches, features] and image_grid_thw int64 [1, 3]; danger float32 [image tokens] (see `danger_of`).

    Raises:
        ValueError: the tokens of an answer depend on what stands before, or image tokens and image do not agree.
    """
    rendered = [render(processor, record) for record in records]
    found = processor(text=[prompt + answer for prompt, answer in rendered], images=list(images))
    if "mm_token_type_ids" not in found:
        raise ValueError("the processor gives no mm_token_type_ids: the model would silently use 1-D positions")
    tails = processor.tokenizer([answer for _, answer in rendered], add_special_tokens=False)["input_ids"]
    grids = torch.as_tensor(found["image_grid_thw"])
    patches = grids.prod(dim=1).tolist()
    pixels = torch.as_tensor(found["pixel_values"]).split(patches)
    rows = []
    for number, (_, answer) in enumerate(rendered):
        ids = torch.tensor(found["input_ids"][number])
        tail = torch.tensor(tails[number], dtype=torch.int64)
        if len(tail) and not torch.equal(ids[-len(tail) :], tail):
            raise ValueError(f"the answer {answer!r} is tokenized otherwise within its conversation")
        wanted = patches[number] // processor.image_processor.merge_size**2
        placeholders = int((ids == processor.image_token_id).sum())
        if placeholders != wanted:
            raise ValueError(f"{placeholders} image tokens for an image of {wanted}: is there one in the text?")
        labels = torch.full_like(ids, IGNORED)
        labels[len(ids) - len(tail) :] = tail
        row = {
            "input_ids": ids,
            "mm_token_type_ids": torch.tensor(found["mm_token_type_ids"][number]),
            "labels": labels,
            "pixel_values": pixels[number].clone(),
            "image_grid_thw": grids[number : number + 1].clone(),
            "danger": danger_of(records[number], grids[number], processor.image_processor.merge_size),
        }
        rows.append(row)
    return rows


def danger_of(record: Mapping[str, Any], grid: torch.Tensor, merge: int) -> torch.Tensor:
    """How dangerous the part of the image behind each of its tokens is, float32 [tokens] in 0..1.

    It is the share of the part that the record's ``danger`` covers (boxes [left, upper, right, lower] in shares of the
    image's sides), 1 from `COVERED` on; NaN everywhere where the record does not say.

    Args:
        grid: int64 [3], the image's patches by time, height and width.
        merge: patches along a side of a token.
    """
    height, width = (int(side) // merge for side in grid[1:])
    boxes = record.get("danger")
    if boxes is None:
        return torch.full((height * width,), torch.nan)
    fine = torch.zeros(height, FINE, width, FINE)
    down = ((torch.arange(height * FINE) + 0.5) / (height * FINE)).view(height, FINE, 1, 1)
    across = ((torch.arange(width * FINE) + 0.5) / (width * FINE)).view(1, 1, width, FINE)
    for left, upper, right, lower in boxes:
        fine[(down >= upper) & (down < lower) & (across >= left) & (across < right)] = 1.0
    return (fine.mean(dim=(1, 3)).flatten() / COVERED).clamp(max=1.0)


def pad(
    rows: Sequence[Mapping[str, torch.Tensor]], *, pad_token_id: int, side: str = "left"
) -> dict[str, torch.Tensor]:
    """Several conversations of `encode` as one batch.

    Returns:
        input_ids, attention_mask, mm_token_type_ids, labels int64 [B, T]; pixel_values and image_grid_thw of all images
        one after the other; logits_to_keep bool [B, T], true where the next token is to be learned.
    """

    def block(parts: list[torch.Tensor], fill: int) -> torch.Tensor:
        return pad_sequence(parts, batch_first=True, padding_value=fill, padding_side=side)

    fills = {"input_ids": pad_token_id, "mm_token_type_ids": 0, "labels": IGNORED}
    batch = {name: block([row[name] for row in rows], fill) for name, fill in fills.items()}
    batch["attention_mask"] = block([torch.ones_like(row["input_ids"]) for row in rows], 0)
    kept = torch.zeros_like(batch["labels"], dtype=torch.bool)
    kept[:, :-1] = batch["labels"][:, 1:] != IGNORED
    return batch | {name: torch.cat([row[name] for row in rows]) for name in PIXELS} | {"logits_to_keep": kept}


class Cache:
    """Encoded conversations, kept up to `CACHED_BYTES`, so that neither epochs nor networks decode an image again."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, torch.Tensor]] = {}
        self._bytes = 0

    def get(self, key: str) -> dict[str, torch.Tensor] | None:
        """What was kept under a key."""
        return self._kept.get(key)

    def put(self, key: str, value: dict[str, torch.Tensor]) -> None:
        """Keep a value if there is room."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in value.values())
        if self._bytes + size <= CACHED_BYTES:
            self._kept[key] = value
            self._bytes += size


class Examples(Dataset):
    """Records with their images, encoded as they are asked for."""

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        processor: Any,
        *,
        root: Path,
        max_pixels: int,
        cache: Cache | None = None,
    ) -> None:
        """``cache`` may be shared by examples of one processor and root."""
        self._records = list(records)
        self._keys = [repr((record["images"], record["messages"])) for record in self._records]
        self._processor, self._root, self._max_pixels = processor, root, max_pixels
        self._cache = Cache() if cache is None else cache

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """Several at once, as torch's loader asks for a batch."""
        found: dict[str, dict[str, torch.Tensor]] = {}
        missing: dict[str, Mapping[str, Any]] = {}
        for number in numbers:
            key = self._keys[number]
            if (kept := self._cache.get(key)) is None:
                missing[key] = self._records[number]
            else:
                found[key] = kept
        if missing:
            paths = [self._root / record["images"][0] for record in missing.values()]
            images = [decode_rgb(path, max_pixels=self._max_pixels) for path in paths]
            fresh = encode_many(self._processor, list(missing.values()), images)
            for key, row in zip(missing, fresh, strict=True):
                self._cache.put(key, row)
                found[key] = row
        return [found[self._keys[number]] for number in numbers]
