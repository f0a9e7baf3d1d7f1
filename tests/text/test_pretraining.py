"""Masked-language modelling: its output layer and loss by hand, words of tokens, metrics on val, and that it learns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from assay.core.params import load
from assay.params.text import PretrainText, Text
from assay.text.classifier import load_tokenizer
from assay.text.encoder import load_encoder
from assay.text.masking import WholeWordCollator
from assay.text.pretraining import MaskedLanguageModel, masked_figures, pretrain, with_words

ROOT = Path(__file__).parents[2]


def settings(**changes: Any) -> PretrainText:
    small = {"epochs": 2.0, "batch_size": 8, "lr": 1e-2, "max_tokens": 24}
    return load(Text, ROOT / "params.yaml").pretrain_text.model_copy(update=small | changes)


def collator() -> WholeWordCollator:
    return WholeWordCollator(vocab_ids=np.arange(5, 20), seed=1, share=0.3, mask_id=4, pad_id=0)


def model(folder: Path) -> MaskedLanguageModel:
    torch.manual_seed(0)
    return MaskedLanguageModel(load_encoder(folder))


def test_logits_and_loss_of_the_masked_tokens_by_hand(text_encoder):
    network = model(text_encoder).eval()
    ids = torch.tensor([[2, 5, 4, 7, 3, 0], [2, 4, 4, 9, 10, 3]])
    labels = torch.full_like(ids, -100)
    labels[0, 2], labels[1, 1], labels[1, 2] = 11, 12, 13
    mask = (ids != 0).long()
    found = network(ids, mask, labels)
    hidden = network.encoder(ids, mask)
    chosen = torch.stack([hidden[0, 2], hidden[1, 1], hidden[1, 2]])
    vectors = network.norm(functional.gelu(network.dense(chosen)))
    logits = vectors @ network.encoder.body.embeddings.word_embeddings.weight.T + network.bias
    assert torch.allclose(found["logits"], logits, atol=1e-5)
    log_probs = torch.log_softmax(logits, dim=1)
    by_hand = -(log_probs[0, 11] + log_probs[1, 12] + log_probs[2, 13]) / 3
    assert found["loss"].item() == pytest.approx(by_hand.item(), abs=1e-5)


def test_tokens_know_their_words_and_the_unknown_is_never_masked(text_encoder):
    tokenizer = load_tokenizer(text_encoder)
    (row, cut) = with_words(tokenizer, ["酒店龘很干净", "很" * 90], max_tokens=24, name="train")
    assert row["input_ids"] == tokenizer("酒店龘很干净")["input_ids"]
    words = dict(zip(["[CLS]", *"酒店龘很干净", "[SEP]"], row["words"].tolist(), strict=True))
    assert words["[CLS]"] == words["[SEP]"] == words["龘"] == -1
    assert words["酒"] == words["店"] >= 0
    assert words["干"] == words["净"] > words["店"]
    assert len(cut["input_ids"]) == len(cut["words"]) == 24
    assert [row["key"], cut["key"]] == [0, 1]


def test_metrics_of_masked_tokens_are_those_of_all_batches_together(text_encoder, make_rows):
    rows = with_words(load_tokenizer(text_encoder), list(make_rows(150)["text"]), max_tokens=24, name="val")
    network, masks = model(text_encoder), collator()
    masks.set_epoch(5)
    found = masked_figures(network, rows, masks)
    again = collator()
    again.set_epoch(0)
    batch = again(rows)
    with torch.no_grad():
        out = network.eval()(**batch)
    truth = batch["labels"][batch["labels"] != -100]
    assert found["n_masked"] == len(truth) > 150
    assert found["masked_loss"] == pytest.approx(float(out["loss"]), abs=1e-5)
    assert found["masked_accuracy"] == pytest.approx(float((out["logits"].argmax(dim=1) == truth).double().mean()))
    assert found["most_frequent_token"] == pytest.approx(float(np.bincount(truth).max() / len(truth)))


def test_words_that_always_stand_together_are_learned(text_encoder, tmp_path):
    """Text is one of four pairs of words: after some epochs a masked word is told from the other far better than before."""
    texts = ["房间干净", "服务热情", "位置方便", "内容空洞"] * 16
    rows = with_words(load_tokenizer(text_encoder), texts, max_tokens=24, name="train")
    network, masks = model(text_encoder), collator()
    before = masked_figures(network, rows, masks)
    history = pretrain(network, rows, masks, settings(epochs=25.0), tmp_path, seed=3, cpu=True)
    after = masked_figures(network, rows, masks)
    assert after["n_masked"] == before["n_masked"]
    assert after["masked_loss"] < 0.5 * before["masked_loss"]
    assert after["masked_accuracy"] > max(0.55, after["most_frequent_token"] + 0.3)
    assert [set(line) for line in history] == [{"step", "epoch", "loss"}] * len(history)
    assert history[-1]["step"] >= 190
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]


def test_texts_without_a_known_token_do_no_harm(text_encoder, tmp_path, make_rows, monkeypatch):
    """A batch without a masked token has no loss, and the weights stay finite. Every epoch has masks of its own."""
    tokenizer = load_tokenizer(text_encoder)
    texts = ["龘龘", "龘"] * 8 + list(make_rows(16)["text"])
    rows = with_words(tokenizer, texts, max_tokens=24, name="train")
    network, masks, epochs = model(text_encoder), collator(), []
    set_epoch = masks.set_epoch
    monkeypatch.setattr(masks, "set_epoch", lambda epoch: (epochs.append(epoch), set_epoch(epoch)))
    history = pretrain(network, rows, masks, settings(epochs=2.0, batch_size=4), tmp_path, seed=3, cpu=True)
    assert epochs == [0, 1]
    assert all(torch.isfinite(value).all() for value in network.parameters())
    assert all(np.isfinite(line["loss"]) for line in history)
    assert np.isfinite(list(masked_figures(network, rows, masks).values())).all()
