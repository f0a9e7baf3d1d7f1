"""The vocabulary that is read and cut down, co-occurrence by brute force, and embeddings against a dense computation."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from assay.text.vocabulary import (
    SPECIAL,
    cooccurrence,
    make_tokenizer,
    occurring_tokens,
    ppmi_embeddings,
    read_vocabulary,
)


def written(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_token_a_line_and_a_line_separator_is_a_token_too(tmp_path, end):
    expected = [*SPECIAL, "好", "\u2028", "\x85", "差"]
    for last in ("", end):
        assert read_vocabulary(written(tmp_path / "vocab.txt", end.join(expected) + last)) == expected


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "好"], r"vocab.txt lacks \['\[MASK\]'\]"),
        ([*SPECIAL, "好", "差", "好"], r"\['好'\] stand twice in vocab.txt"),
    ],
)
def test_what_is_no_vocabulary_is_rejected(tmp_path, tokens, message):
    with pytest.raises(ValueError, match=f"fetch_text.vocabulary: .*{message}"):
        read_vocabulary(written(tmp_path / "vocab.txt", "\n".join(tokens)))


def test_ids_are_places_in_the_list(tokens):
    tokenizer = make_tokenizer(tokens)
    ids = tokenizer("房间龘ab 👍")["input_ids"]
    assert [tokens[number] for number in ids] == ["[CLS]", "房", "间", "[UNK]", "a", "##b", "👍", "[SEP]"]
    assert len(tokenizer) == len(tokens)


def test_what_occurs_often_enough_is_kept_in_its_order_behind_the_special_tokens():
    tokens = ["丙", "[UNK]", "甲", "[CLS]", "[SEP]", "乙", "[MASK]", "[PAD]", "丁"]
    texts = ["甲乙甲丙丁", "乙丁丁", "龘龘龘", "[MASK]"]
    assert occurring_tokens(tokens, texts, min_count=2) == [*SPECIAL, "甲", "乙", "丁"]
    assert occurring_tokens(tokens, texts, min_count=1) == [*SPECIAL, "丙", "甲", "乙", "丁"]
    assert occurring_tokens(tokens, texts, min_count=4) == list(SPECIAL)


@pytest.mark.parametrize("window", [1, 2, 4])
def test_cooccurrence_is_the_brute_force_sum(window):
    rng = np.random.default_rng(window)
    rows = [rng.integers(0, 6, rng.integers(0, 9)).tolist() for _ in range(12)]
    expected = np.zeros((7, 7))
    for row in rows:
        for i, first in enumerate(row):
            for j, second in enumerate(row):
                if i != j and abs(i - j) <= window:
                    expected[first, second] += 1 / abs(i - j)
    found = cooccurrence(rows, num_tokens=7, window=window)
    assert np.allclose(found.toarray(), expected)
    assert expected[6].sum() == 0
    assert expected.max() > 1


def counts(num_tokens: int, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    half = rng.poisson(1.0, (num_tokens, num_tokens)).astype(float) * rng.random((num_tokens, num_tokens))
    return half + half.T


def dense_ppmi(table: np.ndarray) -> np.ndarray:
    joint = table / table.sum()
    word = table.sum(axis=1) / table.sum()
    context = table.sum(axis=0) ** 0.75 / (table.sum(axis=0) ** 0.75).sum()
    with np.errstate(divide="ignore"):
        found = np.maximum(np.log(joint / np.outer(word, context)), 0)
    return found


@pytest.mark.parametrize("size", [3, 8])
def test_embeddings_are_the_truncated_svd_of_the_dense_ppmi(size):
    table = counts(12)
    left, strengths, _ = np.linalg.svd(dense_ppmi(table))
    expected = (left[:, :size] * strengths[:size]) @ left[:, :size].T
    found = ppmi_embeddings(csr_array(table), size=size, seed=1)
    assert found.shape == (12, size)
    assert found.dtype == np.float32
    assert found.std() == pytest.approx(1, abs=1e-5)
    products = found.astype(np.float64) @ found.T
    assert np.allclose(products / np.linalg.norm(products), expected / np.linalg.norm(expected), atol=1e-5)


def test_signs_are_fixed_and_the_seed_decides_nothing_else():
    table = csr_array(counts(12, seed=3))
    first, second = (ppmi_embeddings(table, size=5, seed=seed) for seed in (1, 2))
    assert np.allclose(first, second, atol=1e-4)
    assert (first[np.abs(first).argmax(axis=0), np.arange(5)] > 0).all()
    assert np.array_equal(first, ppmi_embeddings(table, size=5, seed=1))


def test_a_token_without_neighbours_has_no_embedding_and_there_are_fewer_dimensions_than_tokens():
    table = counts(8)
    table[7] = table[:, 7] = 0
    found = ppmi_embeddings(csr_array(table), size=64, seed=0)
    assert found.shape == (8, 7)
    assert np.isfinite(found).all()
    assert np.allclose(found[7], 0, atol=1e-6)
    assert np.abs(found[:7]).max() > 1
