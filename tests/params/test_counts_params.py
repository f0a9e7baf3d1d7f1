"""The counts sections: what is rejected, and by which key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from assay.core.params import ParamsError, validate
from assay.params.counts import VARIANTS, Counts
from assay.params.schema import validate_file

Edit = Callable[[str, object], dict[str, Any]]


def test_variants_are_read_by_name(full: dict[str, Any]) -> None:
    params = validate(Counts, full)
    assert VARIANTS == ("regression", "equal_width", "quantile", "staged", "ordinal", "llm_lora")
    assert params.variant("staged") is params.train_counts.staged
    with pytest.raises(ValueError, match="variant 'tree' is unknown; train_counts has regression"):
        params.variant("tree")


def test_the_real_settings_name_the_real_models(full: dict[str, Any]) -> None:
    params = validate(Counts, full).fetch_counts
    assert params.encoder == "hub: bert-base-uncased"
    assert params.causal_lm == "hub: deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("prepare_counts.roles.test", 0.3, "sum to 1"),
        ("prepare_counts.quantile_bins", 1, "prepare_counts.quantile_bins"),
        ("prepare_counts.ties", "drop", "prepare_counts.ties"),
        ("train_counts.regression.target", "sqrt", "train_counts.regression.target"),
        ("train_counts.regression.class_weights", "balanced", "train_counts.regression.class_weights: unknown key"),
        ("train_counts.quantile.lr", 1, "train_counts.quantile.lr"),
        ("train_counts.quantile.lr", "1e-5", "train_counts.quantile.lr"),
        ("train_counts.ordinal.loss", "mse", "train_counts.ordinal.loss"),
        ("train_counts.llm_lora.weights_dtype", "8bit", "train_counts.llm_lora.weights_dtype"),
        ("train_counts.staged.head_epochs", 0, "train_counts.staged.head_epochs"),
        ("fetch_counts.causal_lm_config.hidden_size", 66, "multiple of 2"),
        ("evaluate_counts.num_resamples", 10, "evaluate_counts.num_resamples"),
    ],
)
def test_a_bad_value_is_named(put: Edit, key: str, value: object, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        validate(Counts, put(key, value))


def test_the_whole_file_names_bad_values_of_every_line_at_once(put: Edit, tmp_path: Path) -> None:
    content = put("train_counts.quantile.lr", 5.0)
    content["train_meta"]["ship"] = "tree"
    with (tmp_path / "params.yaml").open("w") as stream:
        YAML().dump(content, stream)
    with pytest.raises(ParamsError) as caught:
        validate_file(tmp_path / "params.yaml")
    assert "train_counts.quantile.lr" in str(caught.value)
    assert "train_meta.ship" in str(caught.value)
