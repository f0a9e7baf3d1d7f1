"""The filter of augmented images, the check before training, and the prompts."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import log_softmax

from assay.vlm.consistency import dropped_table, fit_thresholds, is_consistent
from assay.vlm.messages import IMAGE, messages_record
from assay.vlm.preflight import check_conversations, count_tokens
from assay.vlm.processor import CHAT_TEMPLATE
from assay.vlm.prompts import high_prompt, prompt_from_json, risk_prompt

Make = Callable[..., list[dict[str, Any]]]
LIMIT = 1_000_000


@pytest.mark.parametrize("quantile", [0.0, 0.02, 0.5, 1.0])
def test_thresholds_are_quantiles_of_each_class(quantile):
    rng = np.random.default_rng(0)
    log_probs = log_softmax(3 * rng.standard_normal((200, 4)), axis=1)
    labels = rng.choice(4, size=200, p=[0.5, 0.3, 0.15, 0.05])
    found = fit_thresholds(log_probs, labels, quantile=quantile)
    kept = is_consistent(log_probs, labels, found)
    for number in range(4):
        scores = log_probs[labels == number, number]
        assert kept[labels == number].tolist() == (scores >= found[number]).tolist()
        # About the quantile of the fitted rows themselves is dropped.
        assert abs((scores < found[number]).sum() - quantile * len(scores)) <= 1
    assert len(set(found)) == 4
    assert quantile > 0 or kept.all()

    with pytest.raises(ValueError, match=r"class\(es\) \[1, 3\]"):
        fit_thresholds(log_probs, np.where(labels % 2 == 1, 0, labels), quantile=quantile)


def test_what_the_filter_drops_is_counted_by_transform_and_class():
    transforms, kept = ["flip", "flip", "flip", "hue", "hue", "hue"], [True, False, False, True, True, True]
    judged = pd.DataFrame({"label": [0, 0, 1, 1, 1, 0], "transform": transforms, "kept": kept})
    assert dropped_table(judged, ("low", "high")).to_dict("records") == [
        {"class": "low", "transform": "flip", "n": 2, "dropped": 1, "share": 0.5},
        {"class": "low", "transform": "hue", "n": 1, "dropped": 0, "share": 0.0},
        {"class": "high", "transform": "flip", "n": 1, "dropped": 1, "share": 1.0},
        {"class": "high", "transform": "hue", "n": 2, "dropped": 0, "share": 0.0},
    ]


SIZES = [(28, 28), (29, 31), (57, 43), (160, 120), (640, 41), (1, 30), (30, 2), (14, 14), (400, 399)]


@pytest.mark.parametrize(("min_pixels", "max_pixels"), [(784, 7056), (3136, 5500), (784, 10**6)])
def test_counted_tokens_are_those_of_the_encoded_conversation(
    open_processor, encoded, tmp_path, min_pixels, max_pixels
):
    records = []
    for number, (width, height) in enumerate(SIZES):
        path, answer = tmp_path / f"{number}.png", ("高", "没有风险")[number % 2]
        Image.new("RGB", (width, height)).save(path)
        records.append(messages_record(path.as_posix(), system="你是", question="风险？", answer=answer))
    processor = open_processor(min_pixels=min_pixels, max_pixels=max_pixels)
    counts = count_tokens(processor, records, max_pixels=LIMIT)
    ids = [row["input_ids"] for row in encoded(records, processor)]
    assert counts.sum(axis=1).tolist() == [len(row) for row in ids]
    assert counts[:, 1].tolist() == [int((row == processor.image_token_id).sum()) for row in ids]
    assert len(set(counts[:, 1].tolist())) > 2


def test_the_check_finds_sizes_and_what_is_learned(processor, make_records):
    records = {"train": make_records(["高", "没有风险", "低"]), "val": make_records(["低"]), "test": []}
    metrics, lines = check_conversations(processor, records, max_tokens=200, max_pixels=LIMIT)
    counts = count_tokens(processor, records["train"], max_pixels=LIMIT)
    total, longest = counts.sum(axis=1), counts[:, 1].max()
    names = ("conversations", "tokens.max", "tokens.median", "image_tokens.max")
    found = [metrics[f"train.{name}"] for name in names]
    assert found == [3, total.max(), np.median(total), longest]
    assert {key.split(".")[0] for key in metrics} == {"train", "val"}
    train, val = lines
    sizes = f"train: 3 conversations, up to {total.max()} tokens, {longest} of the image; "
    assert train.startswith(f"{sizes}learned: '高<|im_end|>\\n' of '<|im_start|>system")
    assert "<|vision_start|><|vision_end|>" in train
    assert train.endswith("<|im_start|>assistant\\n高<|im_end|>\\n'")
    assert val.startswith("val: 1 conversations")


def test_a_conversation_that_is_too_long_or_without_an_answer_is_an_error(processor, make_records):
    records = make_records(["高", "低"])
    counts = count_tokens(processor, records, max_pixels=LIMIT)
    total = counts.sum(axis=1)
    longest, limit = int(total.argmax()), int(total.max())
    check_conversations(processor, {"train": records}, max_tokens=limit, max_pixels=LIMIT)
    words = (
        rf"{records[longest]['images'][0]}: {limit} tokens \({counts[longest, 1]} of the image\), above "
        rf"prepare_vlm.max_tokens {limit - 1}; raise it"
    )
    with pytest.raises(ValueError, match=words):
        check_conversations(processor, {"train": records}, max_tokens=limit - 1, max_pixels=LIMIT)
    with pytest.raises(ValueError, match="nothing of the conversation is learned"):
        check_conversations(processor, {"train": make_records([None])}, max_tokens=200, max_pixels=LIMIT)


def test_the_small_template_writes_chatml(processor):
    turns: list[dict[str, Any]] = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Q"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A"}]},
    ]
    full = (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Q<|im_end|>\n"
        "<|im_start|>assistant\nA<|im_end|>\n"
    )
    assert processor.chat_template == CHAT_TEMPLATE
    assert processor.apply_chat_template(turns) == full
    assert processor.apply_chat_template(turns[:2], add_generation_prompt=True) == full.removesuffix("A<|im_end|>\n")


def test_a_processor_keeps_its_limits_and_answers_of_one_token(open_processor):
    processor = open_processor(max_pixels=5500)
    assert dict(processor.image_processor.size) == {"shortest_edge": 784, "longest_edge": 5500}
    assert [len(processor.tokenizer(answer)["input_ids"]) for answer in "无低中高非"] == [1] * 5
    text = "楼道：任何字 any text 🚒"
    assert processor.tokenizer.decode(processor.tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("content", ["missing", "empty", "tokenizer only"])
def test_a_folder_without_a_processor_is_an_error(content, processor, open_processor, tmp_path):
    folder = tmp_path / "processor"
    if content != "missing":
        folder.mkdir()
    if content == "tokenizer only":
        processor.tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match=f"{folder}"):
        open_processor(folder)


def test_the_prompts_are_those_of_the_parameters(params):
    settings = params.prepare_vlm
    risk, high = risk_prompt(settings), high_prompt(settings)
    assert risk.labels == ("无风险", "低风险", "中风险", "高风险", "非楼道")
    assert risk.answers == ("无", "低", "中", "高", "非")
    assert risk.names == ("no_risk", "low", "medium", "high", "not_a_corridor")
    assert (high.answers, high.labels, high.names) == (("否", "是"), ("否", "高风险"), ("rest", "high"))
    assert high.question == settings.high_risk.question != risk.question
    record = risk.record("a.png", label="高风险", sample_id="7")
    assert [turn["content"] for turn in record["messages"]] == [settings.system, IMAGE + settings.question, "高"]
    assert (record["label"], record["sample_id"], record["images"]) == ("高风险", "7", ["a.png"])
    asked = high.record("a.png")
    assert len(asked["messages"]) == 2
    assert "label" not in asked
    with pytest.raises(ValueError, match="label: got '没有'; use one of 无风险, 低风险"):
        risk.record("a.png", label="没有")
    for prompt in (risk, high):
        assert prompt_from_json(json.loads(json.dumps(prompt.to_json()))) == prompt
