"""Whole-word masks: words are never split, the share is kept, and a mask depends on seed, epoch and row alone."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import BertTokenizer

from assay.text import masking
from assay.text.masking import IGNORED, WholeWordCollator, whole_word_mask, word_spans

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = ["ip", "##hon", "##e", "ok", "caf", "при", "##вет", "2019", "##13", "50", "%", "3", ".", "5", "-", "wi", "fi"]
LETTERS = "我们在北京大学学习圖書館裡讀書的拍照用很好年拉卡寸，。!們學習"
VOCABULARY = [*SPECIALS, *PIECES, *LETTERS]
PAD, MASK = VOCABULARY.index("[PAD]"), VOCABULARY.index("[MASK]")
PLAIN = np.arange(len(SPECIALS), len(VOCABULARY))
TOKENIZER = BertTokenizer(vocab={token: number for number, token in enumerate(VOCABULARY)})
TEXTS = st.text(st.sampled_from(LETTERS + "iphone OK 13😀👍é\n"), max_size=40)
# Words of one to four tokens, with specials in between.
WORDS = st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=25).map(
    lambda parts: np.array(
        [number for index, (size, special) in enumerate(parts) for number in [index] * size + [-1] * special],
        dtype=np.int64,
    )
)


def encoded(text: str) -> tuple[list[int], list[str], np.ndarray]:
    """Ids, tokens and word numbers."""
    found = TOKENIZER(text, return_offsets_mapping=True)
    ids = found["input_ids"]
    return ids, TOKENIZER.convert_ids_to_tokens(ids), word_spans(text, found["offset_mapping"])


def masked(words: np.ndarray, *, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Original ids, which are all different and no token of `PLAIN`; masked ids; labels."""
    ids = np.arange(1000, 1000 + len(words))
    rng = np.random.default_rng(seed)
    found = whole_word_mask(ids, words, share=share, mask_id=MASK, vocab_ids=PLAIN, rng=rng)
    assert ids.tolist() == list(range(1000, 1000 + len(words)))
    return ids, *found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我们在北京大学学习", [0, 0, 1, 2, 2, 2, 2, 3, 3]),
        ("我們在圖書館學習。", [0, 0, 1, 2, 2, 2, 3, 3, 4]),
        ("用iphone拍照", [0, 1, 1, 1, 2, 2]),
        ("很OK的", [0, 1, 2]),
        ("Привет, OK", [0, 0, 1, 2]),
        ("iPhone13", [0, 0, 0, 0]),
        ("50%", [0, 0]),
        ("3.5寸", [0, 0, 0, 1]),
        ("wi-fi", [0, 1, 2]),
        ("我们 我们", [0, 0, 1, 1]),
        ("😀👍 😀", [0, 1]),
        (" ", []),
    ],
)
def test_the_words_of_a_text(text, expected):
    assert encoded(text)[2].tolist() == [-1, *expected, -1]


def test_a_token_over_two_words_joins_them():
    # 我们 | 在 | 北京大学 | 学习
    text = "我们在北京大学学习"
    assert word_spans(text, [(0, 1), (1, 3), (3, 5), (5, 7), (7, 9)]).tolist() == [0, 0, 1, 1, 2]
    assert word_spans(text, [(0, 0), (0, 2), (2, 8), (8, 9), (0, 0)]).tolist() == [-1, 0, 1, 1, -1]
    assert word_spans(text, [(0, 9)]).tolist() == [0]
    # Of a truncated text only the words of what is left count; tokens may be bytes of one character.
    assert word_spans(text, [(0, 1), (1, 2), (2, 3), (3, 4)]).tolist() == [0, 0, 1, 2]
    assert word_spans("😀好", [(0, 1), (0, 1), (0, 1), (1, 2), (1, 2)]).tolist() == [0, 0, 0, 1, 1]
    # A token for each character, as of a vocabulary that lacks the word: letters with marks belong to it.
    assert word_spans("cafe\u0301", [(i, i + 1) for i in range(5)]).tolist() == [0] * 5


@pytest.mark.parametrize("offsets", [[(0, 3)], [(-1, 1)], [(2, 1)]])
def test_offsets_of_another_text_are_rejected(offsets):
    with pytest.raises(ValueError, match="text of 2 characters"):
        word_spans("你好", offsets)


def test_the_segmenter_leaves_no_file_and_takes_none(tmp_path, monkeypatch):
    (tmp_path / "jieba.cache").write_bytes(b"not a dictionary")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    segmenter = masking._segmenter.__wrapped__()
    assert segmenter.lcut("我们在北京大学学习") == ["我们", "在", "北京大学", "学习"]
    assert [path.name for path in tmp_path.iterdir()] == ["jieba.cache"]
    assert (tmp_path / "jieba.cache").read_bytes() == b"not a dictionary"


@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
@example("iphone拉卡OK13é")
def test_words_are_runs_of_whole_tokens_in_order(text):
    _, tokens, words = encoded(text)
    assert len(words) == len(tokens)
    assert [word == -1 for word in words] == [token in ("[CLS]", "[SEP]") for token in tokens]
    real = words[words >= 0]
    assert set(np.diff(real).tolist()) <= {0, 1}
    assert real.tolist() == [] or real[0] == 0
    pieces = [number for number, token in enumerate(tokens) if token.startswith("##")]
    assert all(words[number] == words[number - 1] for number in pieces)


@settings(max_examples=150)
@given(words=WORDS, share=st.floats(0.01, 1.0), seed=st.integers(0, 2**32))
def test_a_mask_keeps_words_whole_and_the_share(words, share, seed):
    ids, changed, labels = masked(words, share=share, seed=seed)
    drawn = labels != IGNORED
    assert (labels[drawn] == ids[drawn]).all()
    assert (changed[~drawn] == ids[~drawn]).all()
    assert not drawn[words < 0].any()
    places = [np.flatnonzero(words == word) for word in set(words[drawn].tolist())]
    for word in places:
        assert drawn[word].all()
        assert len({kind(ids[place], changed[place]) for place in word}) == 1
    real = int((words >= 0).sum())
    assert drawn.sum() >= share * real - 1e-6
    if real:
        # Without the largest of the words drawn the share would not be reached, so neither without the last.
        assert drawn.sum() - max(map(len, places)) < share * real


def kind(before: int, after: int) -> str:
    if after == before:
        return "kept"
    return "mask" if after == MASK else "random"


def test_one_fate_for_each_word_in_the_shares_asked_for():
    words = np.repeat(np.arange(40_000), 2)
    ids, changed, labels = masked(words, share=0.5)
    drawn = np.flatnonzero(labels != IGNORED)
    assert len(drawn) == 40_000
    kinds = np.array([kind(ids[i], changed[i]) for i in drawn]).reshape(-1, 2)
    assert (kinds[:, 0] == kinds[:, 1]).all()
    # four standard deviations of a share of 20,000 words: 0.011 for 0.8, 0.0085 for 0.1
    for name, share, error in (("mask", 0.8, 0.012), ("random", 0.1, 0.009), ("kept", 0.1, 0.009)):
        assert (kinds[:, 0] == name).mean() == pytest.approx(share, abs=error)
    swapped = changed[drawn][kinds.ravel() == "random"]
    assert set(swapped.tolist()) == set(PLAIN.tolist())
    # each word is as likely to be drawn as another
    assert np.histogram(drawn, bins=8, range=(0, 80_000))[0] == pytest.approx([5000] * 8, rel=0.06)
    # 0.07 * 100 is a little more than 7
    assert (masked(np.arange(100), share=0.07)[2] != IGNORED).sum() == 7


def rows(texts: list[str]) -> list[dict[str, Any]]:
    found = [encoded(text) for text in texts]
    return [{"input_ids": ids, "words": words.tolist(), "key": key} for key, (ids, _, words) in enumerate(found)]


def collator(*, seed: int = 1, epoch: int | None = 0) -> WholeWordCollator:
    made = WholeWordCollator(share=0.3, mask_id=MASK, pad_id=PAD, vocab_ids=PLAIN, seed=seed)
    if epoch is not None:
        made.set_epoch(epoch)
    return made


MIXED = ["我们在北京大学学习", "", "😀", "用iphone拍照，很好!", "圖書館", "wi-fi OK", "好", "我们" * 20]


def test_a_batch_is_padded_to_its_longest_row():
    batch = collator()(rows(MIXED))
    assert sorted(batch) == ["attention_mask", "input_ids", "labels"]
    assert {(values.shape, values.dtype) for values in batch.values()} == {((8, 42), torch.int64)}
    lengths = [11, 2, 3, 12, 5, 6, 3, 42]
    for number, (row, length) in enumerate(zip(rows(MIXED), lengths, strict=True)):
        ids, seen, labels = (batch[name][number].tolist() for name in ("input_ids", "attention_mask", "labels"))
        assert seen == [1] * length + [0] * (42 - length)
        assert ids[length:] == [PAD] * (42 - length)
        assert labels[length:] == [IGNORED] * (42 - length)
        drawn = [label != IGNORED for label in labels[:length]]
        assert any(drawn) == (length > 2)
        assert not drawn[0] | drawn[-1]
        originals = [label if one else token for token, label, one in zip(ids, labels, drawn, strict=False)]
        assert originals == row["input_ids"]


def test_a_mask_is_a_function_of_seed_epoch_and_key():
    content = rows(["我们在北京大学学习圖書館很好" * 3] * 6)

    def batch(content, **options):
        found = collator(**options)(content)
        return (found["input_ids"] * 1000 + found["labels"]).tolist()

    whole = batch(content, seed=1, epoch=2)
    assert batch(content, seed=1, epoch=2) == whole
    # in other company, another order, and after other batches
    assert batch(content[3:], seed=1, epoch=2) == whole[3:]
    assert batch(content[::-1], seed=1, epoch=2) == whole[::-1]
    used = collator(seed=1, epoch=7)
    used(content)
    used.set_epoch(2)
    assert torch.equal(used(content)["labels"], collator(seed=1, epoch=2)(content)["labels"])
    # equal texts under other keys, other epochs and other seeds are masked otherwise
    assert len({tuple(row) for row in whole}) == 6
    assert not any(a == b for a, b in zip(whole, batch(content, seed=1, epoch=3), strict=True))
    assert not any(a == b for a, b in zip(whole, batch(content, seed=2, epoch=2), strict=True))


def test_a_missing_epoch_and_fields_that_the_trainer_took_away_are_named():
    with pytest.raises(ValueError, match="EpochOfMasks"):
        collator(epoch=None)(rows(MIXED))
    with pytest.raises(ValueError, match=r"\['key', 'words'\].*remove_unused_columns=False"):
        collator()([{"input_ids": [2, 3]}])
