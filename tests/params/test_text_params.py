"""The text sections: what is rejected, and by which key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from assay.core.params import ParamsError, validate
from assay.params.text import Text

Edit = Callable[[str, object], dict[str, Any]]


def test_the_real_settings_name_the_real_model(full: dict[str, Any]) -> None:
    params = validate(Text, full)
    assert params.fetch_text.encoder == "hub: hfl/chinese-roberta-wwm-ext"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fetch_text.source", "", "fetch_text.source"),
        ("prepare_text.roles.test", 0.3, "prepare_text.roles: the four shares must be above 0 and sum to 1.* 1.1"),
        ("prepare_text.roles.tune", 0.1, "prepare_text.roles.tune: unknown key"),
        ("prepare_text.unicode_form", "NFKD", "prepare_text.unicode_form"),
        ("prepare_text.classes", [0, 1], "prepare_text.classes.0"),
        ("prepare_text.near_duplicates.threshold", 0, "prepare_text.near_duplicates.threshold"),
        (
            "pretrain_text.encoder.hidden_size",
            190,
            "pretrain_text.encoder: hidden_size 190 must be a multiple of num_h",
        ),
        ("pretrain_text.encoder.embeddings", "word2vec", "pretrain_text.encoder.embeddings"),
        ("pretrain_text.encoder.pair_size", -1, "pretrain_text.encoder.pair_size"),
        ("pretrain_text.mask_share", 1.0, "pretrain_text.mask_share"),
        ("pretrain_text.epoch", 3, "pretrain_text.epoch: unknown key"),
        ("train_text.early_stopping", 3, "train_text: early_stopping needs keep: best"),
        ("train_text.lr", "1e-5", "train_text.lr"),
        ("train_text.lr", 1.0, "train_text.lr"),
        ("train_text.epochs", 0.0, "train_text.epochs"),
        ("train_text.eval_every", 0.0, "train_text.eval_every"),
        ("train_text.pooling", "max", "train_text.pooling"),
        ("text_networks", ["no_pretraining"], "network_0 is missing"),
        ("text_networks", ["network_0", "network_0"], "each once; got"),
        ("text_networks", ["first"], "known are network_0"),
        ("train_text.distillation.weight", 1.5, "train_text.distillation.weight"),
        ("pool_text.linear.c", 0.0, "pool_text.linear.c"),
        ("train_text.mixed_precision", False, "train_text.mixed_precision"),
        ("evaluate_text.num_resamples", 10, "evaluate_text.num_resamples"),
        ("evaluate_text.length_edges", [0], "evaluate_text.length_edges.0"),
        ("evaluate_text.length_edges", [30, 15], "evaluate_text.length_edges"),
    ],
)
def test_a_bad_value_is_named(put: Edit, key: str, value: object, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        validate(Text, put(key, value))


def test_early_stopping_is_allowed_where_the_best_is_kept(put: Edit) -> None:
    content = put("train_text.early_stopping", 3)
    content["train_text"]["keep"] = "best"
    assert validate(Text, content).train_text.early_stopping == 3


def test_classes_need_not_be_named(put: Edit) -> None:
    assert validate(Text, put("prepare_text.classes", ["0", "1"])).prepare_text.classes == ["0", "1"]
    assert validate(Text, put("prepare_text.classes", None)).prepare_text.classes is None


def test_texts_longer_than_the_encoder_are_rejected(put: Edit) -> None:
    """The own encoder has positions for pretrain_text.max_tokens; more would end in an index error after minutes."""
    content = put("train_text.max_tokens", 128)
    with pytest.raises(ParamsError, match="max_tokens"):
        validate(Text, content)
    # Pretrained weights bring their own positions.
    content["fetch_text"]["encoder"] = "hub: hfl/chinese-roberta-wwm-ext"
    assert validate(Text, content).train_text.max_tokens == 128
