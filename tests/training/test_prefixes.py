"""The beginning of a text stands for the text where a model reads no more of it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from assay.training.prefixes import GENEROUS, beginnings

MAX = 12
WORDS = st.sampled_from(
    ["how", "many", "w1", "W23", "x" * 150, "\u623f", "\u95f4\u5f88\u597d", ",", "?", "e\u0301", "\U0001f44d", "\u200b"]
)
GAPS = st.sampled_from([" ", "", "  ", "\n", "\u3000", " " * 300])


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder):
    return AutoTokenizer.from_pretrained(tiny_encoder, local_files_only=True)


@given(parts=st.lists(st.tuples(WORDS, GAPS), min_size=1, max_size=400))
def test_the_first_tokens_are_the_same_and_a_cut_can_be_seen(tokenizer, parts):
    text = "".join(word + gap for word, gap in parts)
    (begun,) = beginnings(tokenizer, [text], max_tokens=MAX)
    whole, found = (tokenizer(item, verbose=False)["input_ids"][:-1] for item in (text, begun))
    assert text.startswith(begun)
    assert found[:MAX] == whole[:MAX]
    assert (len(found) > MAX) == (len(whole) > MAX)


@pytest.mark.parametrize("unit", ["how many ways, ", "\u623f\u95f4\u5f88\u597d\uff0c"])
def test_a_long_text_costs_no_more_than_its_beginning(tokenizer, unit):
    text = unit * (5_000_000 // len(unit))
    begin = time.process_time()
    (begun,) = beginnings(tokenizer, [text], max_tokens=MAX)
    assert time.process_time() - begin < 1
    assert len(begun) <= 8 * GENEROUS * MAX
    assert beginnings(tokenizer, [unit], max_tokens=MAX) == [unit]
