"""Likelihood of answers against a plain forward of the whole conversation, with and without the attention cache."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from assay.vlm.network import add_adapter
from assay.vlm.prompts import Prompt
from assay.vlm.scoring import answer_log_probs, answer_tokens, record_log_probs

Make = Callable[..., list[dict[str, Any]]]
SINGLE = ("无", "低", "中", "高", "非")
LONG = ("没有风险", "风险很高", "左边柜子", "无")
NESTED = ("低", "低风险", "没有")


@pytest.fixture
def rows(encoded, make_records) -> list[dict[str, torch.Tensor]]:
    """Of images of several sizes, so that all but the longest are padded."""
    return encoded(make_records([None] * 6))


@pytest.fixture
def batch(padded, rows) -> dict[str, torch.Tensor]:
    return padded(rows)


def naive(model: Any, rows: list[dict[str, torch.Tensor]], answers: list[list[int]]) -> torch.Tensor:
    """Log-likelihoods [B, C] by a forward of picture, question and answer for every pair, one at a time, without cache."""
    found = torch.zeros(len(rows), len(answers), dtype=torch.float64)
    for (i, row), (j, answer) in itertools.product(enumerate(rows), enumerate(answers)):
        ids = torch.cat([row["input_ids"], torch.tensor(answer)])[None]
        kinds = torch.cat([row["mm_token_type_ids"], torch.zeros(len(answer), dtype=torch.long)])[None]
        inputs = {"input_ids": ids, "mm_token_type_ids": kinds, "attention_mask": torch.ones_like(ids)}
        inputs |= {name: row[name] for name in ("pixel_values", "image_grid_thw")}
        with torch.inference_mode():
            logits = model(**inputs, use_cache=False).logits[0].double().log_softmax(-1)
        start = len(row["input_ids"]) - 1
        found[i, j] = sum(logits[start + step, token] for step, token in enumerate(answer))
    return found


@pytest.fixture(params=["plain", "adapter"])
def model(request, network, default_tuning, fill):
    return network if request.param == "plain" else fill(add_adapter(network, default_tuning, seed=0)).eval()


@pytest.mark.parametrize("answers", [SINGLE, LONG, NESTED], ids=["single", "long", "nested"])
def test_scores_are_those_of_a_full_forward(model, processor, padded, rows, batch, answers):
    tokens = answer_tokens(processor.tokenizer, answers)
    assert (max(map(len, tokens)) > 1) == (answers is not SINGLE)
    assert len({len(row["input_ids"]) for row in rows}) > 2
    # The network remembers positions: those of the batch before must not count.
    answer_log_probs(model, padded(rows[3:]), tokens)
    found = answer_log_probs(model, batch, tokens)
    expected = naive(model, rows, tokens)
    assert found.dtype == torch.float64
    assert (found - expected).abs().max() < 1e-5
    # Neither pictures nor answers are alike.
    assert found.std(dim=0).min() > 1e-4
    assert found.std(dim=1).min() > 1e-2


def test_the_cache_is_left_as_it_was_so_that_the_order_of_answers_does_not_matter(network, processor, batch):
    tokens = answer_tokens(processor.tokenizer, LONG)
    assert len({len(answer) for answer in tokens}) > 1
    expected = answer_log_probs(network, batch, tokens)
    for order in ([3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]):
        found = answer_log_probs(network, batch, [tokens[number] for number in order])
        assert (found - expected[:, order]).abs().max() < 1e-12


def test_one_token_answers_take_one_position_of_one_forward(network, processor, batch):
    calls = []
    hook = network.register_forward_hook(
        lambda module, given, options, out: calls.append((tuple(out.logits.shape), out.past_key_values)),
        with_kwargs=True,
    )
    answer_log_probs(network, batch, answer_tokens(processor.tokenizer, SINGLE))
    hook.remove()
    assert calls == [((len(batch["input_ids"]), 1, network.config.text_config.vocab_size), None)]


def test_an_answer_that_begins_like_another_brings_in_the_end_of_the_turn(processor):
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    nested = answer_tokens(processor.tokenizer, NESTED)
    assert all(answer[-1] == end for answer in nested)
    assert nested[1][: len(nested[0]) - 1] == nested[0][:-1]
    assert [answer[:-1] for answer in nested] == [
        processor.tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in NESTED
    ]
    for answers in (SINGLE, LONG):
        assert not any(end in answer for answer in answer_tokens(processor.tokenizer, answers))


@pytest.mark.parametrize("answers", [("高", "低", "高"), ("没有风险", "没有风险")])
def test_equal_answers_are_an_error(processor, answers):
    with pytest.raises(ValueError, match="not different tokens"):
        answer_tokens(processor.tokenizer, answers)


@pytest.fixture
def scored(processor):
    """Function to the log-probabilities of answers."""

    def score(model, records, answers, *, batch_size):
        names = tuple(f"c{number}" for number in range(len(answers)))
        prompt = Prompt("你是消防安全员。", "这里的风险等级是什么？", answers, answers, names)
        return record_log_probs(model, records, processor, prompt, max_pixels=10**6, batch_size=batch_size, name="test")

    return score


@pytest.mark.parametrize("answers", [SINGLE, LONG], ids=["single", "long"])
def test_rows_are_distributions_whatever_the_batch_size(network, scored, make_records, answers):
    found = [scored(network, make_records([None] * 7), answers, batch_size=size) for size in (1, 3, 32)]
    for log_probs in found:
        assert log_probs.shape == (7, len(answers))
        assert log_probs.dtype == np.float64
        assert np.exp(log_probs).sum(axis=1) == pytest.approx(1, abs=1e-12)
        assert np.abs(log_probs - found[0]).max() < 1e-5


def test_the_answer_in_a_record_is_not_looked_at_and_dropout_is_off(
    network, scored, make_records, default_tuning, fill
):
    tuning = default_tuning.model_copy(update={"lora": default_tuning.lora.model_copy(update={"dropout": 0.5})})
    model = fill(add_adapter(network, tuning, seed=0)).train()
    asked, answered = (scored(model, make_records([answer] * 5), SINGLE, batch_size=4) for answer in (None, "高"))
    assert np.array_equal(asked, answered)
