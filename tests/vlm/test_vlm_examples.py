"""Conversations as tensors: what is learned, against TRL's collator; padding on either side; what is an error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from assay.data.decode import ImageRejected
from assay.vlm.examples import IGNORED, PIXELS, Examples
from assay.vlm.messages import chat
from assay.vlm.processor import CHAT_TEMPLATE
from assay.vlm.training import answer_loss

# Of unequal numbers of tokens.
GIVEN = ["无", "没有风险", "高", "风险很高，左边有柜子", "低风险", "非"]
Make = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def rows(encoded, make_records) -> list[dict[str, torch.Tensor]]:
    return encoded(make_records(GIVEN))


@pytest.fixture
def theirs(processor, make_records):
    """The batch of TRL's collator for prompts and completions."""
    examples = []
    for record in make_records(GIVEN):
        *prompt, answer = chat(record)
        examples.append({"prompt": prompt, "completion": [answer], "images": [Image.open(record["images"][0])]})
    return DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)(examples)


def ours(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits [N, V] where something is learned."""
    return model(**{name: value for name, value in batch.items() if name != "labels"}).logits.reshape(
        int(batch["logits_to_keep"].sum()), -1
    )


def test_the_same_tokens_are_learned_as_with_trl(padded, rows, theirs):
    batch = padded(rows, "right")
    width = batch["labels"].shape[1]
    for name in ("input_ids", "attention_mask", "mm_token_type_ids", "labels"):
        assert torch.equal(batch[name], theirs[name][:, :width]), name
    assert not theirs["attention_mask"][:, width:].any()
    assert all(torch.equal(batch[name], theirs[name]) for name in PIXELS)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_loss_is_that_of_trls_batch(network, padded, rows, theirs, side):
    with torch.inference_mode():
        expected = network(**theirs).loss
        batch = padded(rows, side)
        total = answer_loss(ours(network, batch), batch["labels"], torch.ones(len(rows)))
    assert (batch["labels"] != IGNORED).sum() > 2 * len(rows)
    assert float(total / (batch["labels"] != IGNORED).sum()) == pytest.approx(float(expected), abs=1e-6)


def test_exactly_the_answer_and_the_end_of_its_turn_are_learned(processor, rows):
    for row, answer in zip(rows, GIVEN, strict=True):
        learned = row["labels"] != IGNORED
        assert processor.tokenizer.decode(row["labels"][learned]) == f"{answer}<|im_end|>\n"
        assert torch.equal(row["labels"][learned], row["input_ids"][learned])
        before = processor.tokenizer.decode(row["input_ids"][~learned])
        assert before.endswith("<|im_start|>assistant\n")
        # All of it at the end: nothing is learned after, or between.
        assert not learned[: len(learned) - int(learned.sum())].any()
        image = row["input_ids"] == processor.image_token_id
        assert torch.equal(row["mm_token_type_ids"], image.long())
        assert int(image.sum()) == int(row["image_grid_thw"].prod()) // 4 > 1
        assert row["image_grid_thw"].shape == (1, 3)


def test_a_question_alone_has_nothing_to_learn_and_the_same_tokens(encoded, make_records):
    full, prompt = encoded(make_records(["高"]) + make_records([None]))
    assert (prompt["labels"] == IGNORED).all()
    assert torch.equal(full["input_ids"][: len(prompt["input_ids"])], prompt["input_ids"])


def test_padding_on_either_side_gives_the_same_logits(network, padded, rows):
    assert len({len(row["input_ids"]) for row in rows}) > 3
    with torch.inference_mode():
        left, right = (ours(network, padded(rows, side)) for side in ("left", "right"))
        alone = torch.cat([ours(network, padded([row])) for row in rows])
    assert (left - right).abs().max() < 1e-5
    assert (left - alone).abs().max() < 1e-5
    # The padding itself is not what makes them agree: the logits are no constant.
    assert left.std(dim=0).max() > 0.01


@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_are_kept_where_the_next_token_is_learned(padded, rows, side):
    batch = padded(rows, side)
    labels, kept = batch["labels"], batch["logits_to_keep"]
    assert kept.dtype == torch.bool
    assert kept.shape == labels.shape
    assert not kept[:, -1].any()
    # In the order of the labels, so that logits and labels meet.
    assert torch.equal(labels[:, 1:][kept[:, :-1]], labels[labels != IGNORED])
    assert torch.equal(kept.sum(dim=1), (labels != IGNORED).sum(dim=1))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (CHAT_TEMPLATE.replace("<|image_pad|>", ""), r"Found total 0 <\|image_pad\|> tokens and 1 images"),
        (CHAT_TEMPLATE.replace("<|vision_end|>", "<|image_pad|><|vision_end|>"), "Found total 2 .* and 1"),
        (CHAT_TEMPLATE.replace("assistant\n{% endif", "assistant\n没{% endif"), "finished conversation"),
    ],
)
def test_a_template_that_does_not_fit_is_an_error(open_processor, encoded, make_records, template, words):
    other = open_processor()
    other.chat_template = template
    with pytest.raises(ValueError, match=words):
        encoded(make_records(["高"]), other)


def test_an_answer_that_melts_into_the_text_before_it_is_an_error(open_processor, encoded, make_records):
    other = open_processor()
    # The answer's first token then begins within the question's last.
    other.tokenizer.add_tokens(["员答高"])
    other.chat_template = CHAT_TEMPLATE.replace("<|im_start|>assistant\n{% endif", "员答{% endif").replace(
        "<|im_start|>{{ message.role }}\n",
        "{% if message.role == 'assistant' %}员答{% else %}<|im_start|>{{ message.role }}\n{% endif %}",
    )
    with pytest.raises(ValueError, match="tokenized otherwise"):
        encoded(make_records(["高"]), other)


def test_examples_keep_what_they_made_of_images_below_the_root(processor, make_records, rows):
    records = [record | {"images": [Path(record["images"][0]).name]} for record in make_records(GIVEN)]
    root = Path(make_records(GIVEN)[0]["images"][0]).parent
    examples = Examples(records, processor, root=root, max_pixels=1_000_000)
    first = examples[1]
    assert examples[1] is first
    assert len(examples) == len(records)
    # Where the danger is, is not known.
    torch.testing.assert_close(first, rows[1], rtol=0, atol=0, equal_nan=True)


def test_an_image_above_the_limit_of_decoding_is_rejected(processor, make_records):
    examples = Examples(make_records(GIVEN), processor, root=Path(), max_pixels=56 * 56)
    assert len(examples[0]["input_ids"])
    with pytest.raises(ImageRejected):
        examples[1]
