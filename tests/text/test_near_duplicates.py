"""Near-duplicates against every pair compared, and their cost where thousands of texts are alike."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import DisjointSet

from assay.text import near_duplicates
from assay.text.near_duplicates import bands, near_duplicate_groups, shingles

REVIEW = "这家酒店的服务非常好房间也很干净下次来北京出差还会选择住在这里推荐给大家早餐种类丰富价格合理交通方便"


def jaccard(one: str, other: str, size: int) -> float:
    a, b = shingles(one, size), shingles(other, size)
    return len(a & b) / len(a | b)


def compared_one_by_one(texts: list[str], *, threshold: float, shingle: int) -> list[int]:
    joined = DisjointSet(range(len(texts)))
    for i, one in enumerate(texts):
        for j, other in enumerate(texts[:i]):
            if jaccard(one, other, shingle) >= threshold:
                joined.merge(i, j)
    numbers = {}
    return [numbers.setdefault(joined[i], len(numbers)) for i in range(len(texts))]


def variants(count: int, *, seed: int) -> list[str]:
    """Random texts, and copies with some characters changed, cut away or doubled."""
    rng = np.random.default_rng(seed)
    texts = ["".join(map(chr, rng.integers(0x4E00, 0x4E00 + 300, size=rng.integers(2, 60)))) for _ in range(count)]
    for _ in range(count):
        letters = list(texts[rng.integers(len(texts))])
        for place in rng.integers(len(letters), size=rng.integers(0, 4)):
            letters[place] = ["", "改", letters[place] * 2][rng.integers(3)]
        texts.append("".join(letters))
    return texts


def test_groups_are_numbered_as_they_appear():
    assert shingles("今天天气", 3) == {"今天天", "天天气"}
    assert [shingles(text, 3) for text in ("好", "")] == [{"好"}, {""}]
    texts = [REVIEW, "好", "物流太慢了客服也不理人", REVIEW + "!", "好", "好的", REVIEW[1:], ""]
    groups = near_duplicate_groups(texts, threshold=0.8)
    assert groups.tolist() == [0, 1, 2, 0, 1, 3, 0, 4]
    nothing = near_duplicate_groups([], threshold=0.8)
    assert nothing.shape == (0,)
    assert nothing.dtype == groups.dtype == np.int64
    # Repetition of shingles plays no part.
    assert near_duplicate_groups(["哈" * 9, "哈" * 30], threshold=1.0).tolist() == [0, 0]
    # abc bcd cde, abc bcd cdx: two of four, and the threshold itself is near enough.
    assert near_duplicate_groups(["abcde", "abcdx"], threshold=0.5).tolist() == [0, 0]
    assert near_duplicate_groups(["abcde", "abcdx"], threshold=0.51).tolist() == [0, 1]


def test_texts_are_joined_through_others():
    first, last = "甲乙丙丁戊己庚辛壬癸子丑", "丙丁戊己庚辛壬癸子丑寅卯"
    middle = "乙丙丁戊己庚辛壬癸子丑寅"
    assert jaccard(first, last, 3) < 0.8 <= jaccard(first, middle, 3)
    assert near_duplicate_groups([first, last, middle], threshold=0.8).tolist() == [0, 0, 0]
    assert near_duplicate_groups([first, last], threshold=0.8).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("threshold", "shingle"), [(0.4, 1), (0.4, 5), (0.6, 3), (0.8, 1), (0.8, 3), (0.95, 5), (1.0, 3)]
)
def test_the_groups_are_those_of_all_pairs_compared(threshold, shingle):
    texts = variants(40, seed=shingle)
    found = near_duplicate_groups(texts, threshold=threshold, num_perm=128, shingle=shingle).tolist()
    assert found == compared_one_by_one(texts, threshold=threshold, shingle=shingle)
    assert 1 < len(set(found)) < len(texts)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text("好差很的", max_size=12), max_size=12), threshold=st.floats(0.2, 1.0))
def test_no_pair_is_joined_wrongly(texts, threshold):
    found = near_duplicate_groups(texts, threshold=threshold, num_perm=16)
    truth = np.array(compared_one_by_one(texts, threshold=threshold, shingle=3))
    assert all(len(set(truth[found == number].tolist())) == 1 for number in range(found.max(initial=-1) + 1))


def test_the_groups_do_not_depend_on_the_order():
    texts = variants(150, seed=9)
    order = np.random.default_rng(0).permutation(len(texts))
    groups = near_duplicate_groups(texts, threshold=0.7)
    moved = near_duplicate_groups([texts[i] for i in order], threshold=0.7)
    pairs = set(zip(groups[order].tolist(), moved.tolist(), strict=True))
    assert len(pairs) == len(set(groups.tolist())) == len(set(moved.tolist())) < len(texts)


def test_the_groups_do_not_depend_on_the_run():
    """With four hashes many pairs are missed: which ones would change with Python's hash, another in each process."""
    texts = variants(100, seed=1)
    groups = near_duplicate_groups(texts, threshold=0.5, num_perm=4)
    assert hashlib.sha256(groups.tobytes()).hexdigest().startswith("7511cea564070407")
    assert groups.tolist() != compared_one_by_one(texts, threshold=0.5, shingle=3)


def test_thousands_of_alike_texts_cost_no_pairs(monkeypatch):
    texts = [f"{REVIEW}{number}" for number in range(2000)]
    compared = []
    exact = near_duplicates._jaccard

    def counted(rows, *arguments):
        compared.append(len(rows))
        return exact(rows, *arguments)

    monkeypatch.setattr(near_duplicates, "_jaccard", counted)
    assert near_duplicate_groups(texts, threshold=0.8).tolist() == [0] * 2000
    assert max(compared) <= near_duplicates.CHUNK
    assert sum(compared) <= 2000 * near_duplicates.CHUNK


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8, 0.99, 1.0])
def test_the_longest_bands_that_find_enough_are_taken(threshold):
    count, length = bands(threshold, 64)

    def found(length):
        return 1 - (1 - threshold**length) ** (64 // length)

    assert count == 64 // length >= 2
    assert found(length) >= 0.99
    assert length == 32 or found(length + 1) < 0.99
    # Where no length finds enough, single hashes are taken.
    assert bands(0.01, 64) == (64, 1)
