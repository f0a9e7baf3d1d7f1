"""The vlm sections: what is rejected, and by which key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.core.params import ParamsError, validate
from assay.params.vlm import Vlm

Edit = Callable[[str, object], dict[str, Any]]


def test_the_real_settings_name_the_real_models(full: dict[str, Any]) -> None:
    params = validate(Vlm, full)
    assert params.pretrain_vlm.base == params.prepare_vlm.processor == "hub: Qwen/Qwen2.5-VL-7B-Instruct"
    assert params.pretrain_vlm.high_risk == "hub: Qwen/Qwen2.5-VL-3B-Instruct"
    assert params.vlm_sft.weights_dtype == "bfloat16"
    assert params.vlm_sft.checkpointing
    assert params.filter_vlm.scorer.endswith("pretrained/base")


@pytest.mark.parametrize("name", ["fsdp", "deepspeed"])
def test_launch_configurations_name_what_the_network_has(name: str) -> None:
    content = yaml.safe_load((Path(__file__).resolve().parents[2] / "params/accelerate" / f"{name}.yaml").read_text())
    assert content["distributed_type"] == name.upper()
    layers = content.get("fsdp_config", {}).get("fsdp_transformer_layer_cls_to_wrap", "")
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl

    assert all(hasattr(modeling_qwen2_5_vl, layer) for layer in layers.split(",") if layer)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("render_corridors.source", "", "render_corridors.source"),
        ("render_corridors.num_scenes", 3, "render_corridors.num_scenes"),
        ("render_corridors.size", [160, 8], "render_corridors.size"),
        ("prepare_vlm.classes", [], "prepare_vlm.classes"),
        ("prepare_vlm.high_risk.label", "很危险", "high_risk.label and near_misses must be different labels"),
        ("prepare_vlm.high_risk.near_misses", ["高风险"], "high_risk.label and near_misses must be different labels"),
        ("prepare_vlm.high_risk.yes", "否", "high_risk.yes and no must differ"),
        ("prepare_vlm.max_pixels", 700, "min_pixels 784 must not be above max_pixels 700"),
        ("prepare_vlm.augment.scale", [1.3, 0.7], "prepare_vlm.augment.scale"),
        ("prepare_vlm.augment.protected", [[345, 400]], "prepare_vlm.augment.protected.0.1"),
        ("prepare_vlm.processor", "hub: x", "must both be config or both be given"),
        ("pretrain_vlm.small.hidden_size", 80, "hidden_size 80 must be a multiple of 8 times its number of heads"),
        ("vlm_sft.lora.rank", 0, "vlm_sft.lora.rank"),
        ("vlm_sft.weights_dtype", "8bit", "vlm_sft.weights_dtype"),
        ("filter_vlm.scorer", "teacher", "filter_vlm.scorer"),
        ("vlm_networks", {"base": "filtered/train.jsonl"}, "needs the network no_augmentation"),
        ("vlm_networks", {"base": "rows/train.jsonl"}, "base learns filtered/train.jsonl, got 'rows/train.jsonl'"),
        ("vlm_networks", {"no_filter": "rows/train.jsonl"}, "base is missing"),
        ("vlm_networks", {"order_0": "filtered/train.jsonl"}, "no network 'order_0'"),
        ("vlm_sft_high_risk.near_share", 0.7, "must not sum to above 1"),
        ("vlm_sft_high_risk.scorer", 2, "vlm_sft_high_risk.scorer: unknown key"),
        ("vlm_predict.max_strength", 0, "vlm_predict.max_strength"),
    ],
)
def test_a_bad_value_names_its_key(put: Edit, key: str, value: object, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        validate(Vlm, put(key, value))


def test_two_classes_with_one_answer_are_rejected(put: Edit) -> None:
    classes = [{"name": name, "label": name, "answer": "a"} for name in ("one", "two")]
    with pytest.raises(ParamsError, match="classes must differ in their answer"):
        validate(Vlm, put("prepare_vlm.classes", classes))
