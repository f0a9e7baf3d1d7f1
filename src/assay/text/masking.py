"""Whole-word masking for masked-language-model pretraining, drawn anew in every epoch.

Words as in Cui et al. 2021, "Pre-Training with Whole Word Masking for Chinese BERT": a segmenter finds them, and all
tokens of a word are masked together. Masks that change from epoch to epoch as in Liu et al. 2019, "RoBERTa".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from jieba import Tokenizer
from transformers import TrainerCallback

# What a loss leaves out: torch's and transformers' own value.
IGNORED = -100
SPECIAL = -1
# Shares of the drawn words that become mask tokens, and other tokens.
MASKED, RANDOM = 0.8, 0.1
# Letters and digits of scripts that write their words apart, with their combining marks. Ideographs and kana are left
# out: there the segmenter tells the words.
SPELT = re.compile(
    r"(?:[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff][\u0300-\u036f]*)+"
)


@cache
def _segmenter() -> Tokenizer:
    """jieba with the dictionary it comes with, read from the package.

    jieba itself would rather take its dictionary from a file in the shared temporary folder, whoever left that there.
    """
    segmenter = Tokenizer()
    segmenter.FREQ, segmenter.total = segmenter.gen_pfdict(segmenter.get_dict_file())
    segmenter.initialized = True
    return segmenter


def words_of(text: str) -> list[str]:
    """The words of a text by jieba; joined they are the text."""
    return list(_segmenter().cut(text, HMM=True))


def word_spans(text: str, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """Word number of every token, int64 [num_tokens], from 0 in the order of the text; -1 for special tokens.

    Words are jieba's (with its hidden Markov model for words that its dictionary lacks), except that a run of letters and
    digits of another script is one word. Words that a token overlaps become one, so that no mask splits a token or a word.

    Args:
        offsets: first character of each token and the one after its last; equal ones mark a special token.

    Raises:
        ValueError: offsets that do not lie in the text.
    """
    spans = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
    starts, ends = spans[:, 0], spans[:, 1]
    if ((starts < 0) | (starts > ends) | (ends > len(text))).any():
        raise ValueError(f"offsets leave the text of {len(text)} characters: give those that the tokenizer has for it")
    opens = np.zeros(len(text) + 1, dtype=np.int64)
    opens[list(accumulate(map(len, words_of(text))))] = 1
    for start, end in [match.span() for match in SPELT.finditer(text)] + spans[ends > starts].tolist():
        opens[start + 1 : end] = 0
    words = np.full(len(spans), SPECIAL, dtype=np.int64)
    real = ends > starts
    words[real] = np.unique(np.cumsum(opens)[starts[real]], return_inverse=True)[1]
    return words


def whole_word_mask(
    input_ids: np.ndarray,
    words: np.ndarray,
    *,
    share: float,
    mask_id: int,
    vocab_ids: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Mask whole words drawn at random, one after another until they hold ``share`` of the tokens that are in words.

    The last word may go beyond the share; at least one word is drawn if there is any. Of the words drawn, `MASKED`
    become mask tokens, `RANDOM` other tokens, and the rest stay as they are (Devlin et al. 2019, "BERT", section 3.1;
    there each token draws for itself, here each word does, as in Cui et al. 2021).

    Args:
        input_ids: int64 [n].
        words: int64 [n], the word of each token; negative for tokens that are never masked.
        share: above 0 and up to 1.
        vocab_ids: int64 [any], what random tokens are drawn from.

    Returns:
        Masked ids int64 [n], and labels int64 [n]: the original id where a word was drawn, -100 elsewhere.
    """
    masked = np.array(input_ids, dtype=np.int64)
    labels = np.full_like(masked, IGNORED)
    real = np.flatnonzero(words >= 0)
    _, word, sizes = np.unique(words[real], return_inverse=True, return_counts=True)
    order = rng.permutation(len(sizes))
    covered_before = np.cumsum(sizes[order]) - sizes[order]
    drawn = order[covered_before < share * len(real) - 1e-9]  # 0.07 * 100 is a little more than 7
    # A number of each word decides: mask below MASKED, another token up to MASKED + RANDOM; infinite: not drawn.
    fate = np.full(len(sizes), np.inf)
    fate[drawn] = rng.random(len(drawn))
    fates = fate[word]
    labels[real[fates < 1]] = masked[real[fates < 1]]
    masked[real[fates < MASKED]] = mask_id
    swapped = real[(fates >= MASKED) & (fates < MASKED + RANDOM)]
    if len(swapped):
        masked[swapped] = vocab_ids[rng.integers(len(vocab_ids), size=len(swapped))]
    return masked, labels


class WholeWordCollator:
    """Batches for masked-language-model training by transformers' Trainer, masked anew in every epoch.

    Rows have ``input_ids``, ``words`` (`word_spans`) and ``key``, a number from 0 of their own. The mask of a row is a
    function of (seed, epoch, key) alone, not of its batch nor of what was drawn before. So a Trainer that resumes in the
    middle of an epoch, and never asks for the batches it skips, sees the masks of a run that was not stopped. The Trainer
    tells the epoch through `EpochOfMasks`:

        Trainer(..., data_collator=collator, callbacks=[EpochOfMasks(collator)])

    with ``remove_unused_columns=False``, which else takes ``words`` and ``key`` away, and ``dataloader_num_workers=0``: a
    worker would keep the epoch it was made in. For masks that never change, as for a validation loss, `set_epoch` once.
    """

    def __init__(self, *, share: float, mask_id: int, pad_id: int, vocab_ids: np.ndarray, seed: int) -> None:
        self._options: dict[str, Any] = {"share": share, "mask_id": mask_id, "vocab_ids": vocab_ids}
        self._pad_id = pad_id
        self._seed = seed
        self._epoch: int | None = None

    def set_epoch(self, epoch: int) -> None:
        """Masks are those of this epoch from now on."""
        self._epoch = epoch

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Masked rows padded to the longest: input_ids, attention_mask and labels, int64 [rows, tokens].

        Raises:
            ValueError: no epoch was set, or a row lacks a field.
        """
        if self._epoch is None:
            raise ValueError("no epoch is set, and masks would never change: give the Trainer EpochOfMasks(collator)")
        if lacking := {"input_ids", "words", "key"} - set(rows[0]):
            raise ValueError(f"rows lack {sorted(lacking)}: give them, and the Trainer remove_unused_columns=False")
        size = (len(rows), max(len(row["input_ids"]) for row in rows))
        ids, seen, labels = np.full(size, self._pad_id), np.zeros(size, dtype=np.int64), np.full(size, IGNORED)
        for number, row in enumerate(rows):
            rng = np.random.default_rng([self._seed, self._epoch, row["key"]])
            filled = slice(len(row["input_ids"]))
            ids[number, filled], labels[number, filled] = whole_word_mask(
                row["input_ids"], np.asarray(row["words"]), rng=rng, **self._options
            )
            seen[number, filled] = 1
        batch = {"input_ids": ids, "attention_mask": seen, "labels": labels}
        return {name: torch.from_numpy(values) for name, values in batch.items()}


class EpochOfMasks(TrainerCallback):
    """Tells a collator the epoch that begins, or goes on after a resumption."""

    def __init__(self, collator: WholeWordCollator) -> None:
        self._collator = collator

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer, before the first batch of the epoch is made."""
        self._collator.set_epoch(int(state.epoch))
