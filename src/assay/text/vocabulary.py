"""The tokenizer of an own encoder, cut down to what occurs, and start values for its embeddings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.linalg import svds
from transformers import BertTokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Contexts are smoothed by this power, so that rare ones do not dominate (Levy, Goldberg and Dagan 2015).
SMOOTHING = 0.75


def read_vocabulary(path: Path) -> list[str]:
    """Tokens of a vocab.txt, one per line, in order.

    Raises:
        ValueError: a special token of BERT is missing, or a token stands twice.
    """
    # Not splitlines: a line separator (U+2028) is a token.
    tokens = path.read_bytes().decode("utf-8").replace("\r\n", "\n").removesuffix("\n").split("\n")
    if missing := [token for token in SPECIAL if token not in tokens]:
        raise ValueError(f"fetch_text.vocabulary: {path.name} lacks {missing}; give the vocab.txt of a BERT")
    if twice := [token for token, count in Counter(tokens).items() if count > 1]:
        raise ValueError(f"fetch_text.vocabulary: {twice[:5]} stand twice in {path.name}")
    return tokens


def make_tokenizer(tokens: Sequence[str]) -> Any:
    """A BERT tokenizer (one character per token in Chinese) whose ids are the places in ``tokens``."""
    return BertTokenizer(vocab={token: number for number, token in enumerate(tokens)})


def occurring_tokens(tokens: Sequence[str], texts: Sequence[str], *, min_count: int) -> list[str]:
    """The special tokens, then those that occur at least ``min_count`` times in ``texts``, in their old order.

    The rest becomes [UNK]: an output layer over 21,128 tokens, of which 3,000 occur, learns slowly and costs seven times
    as much.
    """
    rows = make_tokenizer(tokens)(list(texts), add_special_tokens=False)["input_ids"]
    counts = Counter(chain.from_iterable(rows))
    kept = [token for number, token in enumerate(tokens) if counts[number] >= min_count and token not in SPECIAL]
    return [*SPECIAL, *kept]


def cooccurrence(rows: Iterable[Sequence[int]], *, num_tokens: int, window: int) -> csr_array:
    """Symmetric counts [num_tokens, num_tokens] of tokens at most ``window`` apart, weighted by 1 / distance."""
    gap = [-1] * window
    flat = np.concatenate([np.array([*row, *gap], dtype=np.int64) for row in rows])
    total = csr_array((num_tokens, num_tokens), dtype=np.float64)
    for distance in range(1, window + 1):
        left, right = flat[:-distance], flat[distance:]
        inside = (left >= 0) & (right >= 0)
        weights = np.full(int(inside.sum()), 1.0 / distance)
        total = total + coo_array((weights, (left[inside], right[inside])), shape=total.shape).tocsr()
    return csr_array(total + total.T)


def ppmi_embeddings(counts: csr_array, *, size: int, seed: int) -> np.ndarray:
    """Embeddings float32 [num_tokens, size]: truncated SVD of the positive pointwise mutual information.

    Levy and Goldberg, "Neural Word Embedding as Implicit Matrix Factorization", 2014; symmetric square root of the
    singular values and smoothed contexts as in Levy, Goldberg and Dagan 2015. Scaled to a standard deviation of 1.
    """
    size = min(size, counts.shape[0] - 1)
    cells = counts.tocoo()
    sums = np.asarray(counts.sum(axis=1)).ravel()
    smoothed = sums**SMOOTHING
    expected = sums[cells.row] * (smoothed / smoothed.sum())[cells.col]
    values = np.log(np.maximum(cells.data, 1e-12) / np.maximum(expected, 1e-12))
    kept = values > 0
    matrix = csr_array((values[kept], (cells.row[kept], cells.col[kept])), shape=counts.shape)
    start = np.random.default_rng(seed).standard_normal(counts.shape[0])
    left, strengths, _ = svds(matrix, k=size, v0=start)
    # A singular vector's sign is arbitrary: the largest entry is made positive.
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(size)])
    vectors = left * np.where(signs == 0, 1, signs) * np.sqrt(strengths)
    return (vectors / max(vectors.std(), np.finfo(np.float64).tiny)).astype(np.float32)
