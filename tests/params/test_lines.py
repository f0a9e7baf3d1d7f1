"""What is particular to the sections of one line of work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from assay.core.params import ParamsError, validate
from assay.images.stacking import EXPERTS
from assay.params.counts import VARIANTS, Counts
from assay.params.schema import validate_file
from assay.params.stacking import Stacking, TrainExpert
from assay.params.text import Text
from assay.params.vlm import Vlm

Edit = Callable[[str, object], dict[str, Any]]


def test_the_real_settings_name_the_real_models(full: dict[str, Any]) -> None:
    images, counts, text, vlm = (validate(line, full) for line in (Stacking, Counts, Text, Vlm))
    assert {name: (images.expert(name).architecture, images.expert(name).image_size) for name in EXPERTS} == {
        "efficientnetv2_b3": ("tf_efficientnetv2_b3.in21k_ft_in1k", 300),
        "maxvit": ("maxvit_tiny_tf_224.in1k", 224),
    }
    assert counts.fetch_counts.encoder == "hub: bert-base-uncased"
    assert counts.fetch_counts.causal_lm == "hub: deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
    assert text.fetch_text.encoder == "hub: hfl/chinese-roberta-wwm-ext"
    assert vlm.pretrain_vlm.base == vlm.prepare_vlm.processor == "hub: Qwen/Qwen2.5-VL-7B-Instruct"
    assert vlm.pretrain_vlm.high_risk == "hub: Qwen/Qwen2.5-VL-3B-Instruct"
    assert (vlm.vlm_sft.weights_dtype, vlm.vlm_sft.checkpointing) == ("bfloat16", True)
    assert vlm.filter_vlm.scorer.endswith("pretrained/base")


def test_experts_and_variants_are_read_by_name_in_the_order_of_the_code(full: dict[str, Any]) -> None:
    images, counts = validate(Stacking, full), validate(Counts, full)
    assert EXPERTS == ("efficientnetv2_b3", "maxvit") == tuple(sorted(TrainExpert.model_fields))
    assert images.expert("maxvit") is images.train_expert.maxvit
    with pytest.raises(ValueError, match="expert 'resnet' is unknown; train_expert has efficientnetv2_b3, maxvit"):
        images.expert("resnet")
    assert VARIANTS == ("regression", "ranking", "equal_width", "quantile", "staged", "ordinal", "llm_lora")
    assert counts.variant("staged") is counts.train_counts.staged
    with pytest.raises(ValueError, match="variant 'tree' is unknown; train_counts has regression"):
        counts.variant("tree")


@pytest.mark.parametrize("value", [None, [0.4, 0.6]])
def test_unsure_may_be_switched_off(put: Edit, value: list[float] | None) -> None:
    assert validate(Stacking, put("evaluate_cascade.unsure", value)).evaluate_cascade.unsure == value


def test_unsure_is_said_in_one_way(put: Edit) -> None:
    content = put("evaluate_cascade.unsure", [0.4, 0.6])
    content["evaluate_cascade"]["unsure_coverage"] = 0.8
    with pytest.raises(ValueError, match=r"unsure \[0.4, 0.6\] and unsure_coverage 0.8 both say"):
        validate(Stacking, content)


def test_a_grids_integers_stay_integers(put: Edit) -> None:
    content = put("train_meta.search.grid", {"num_leaves": [4, 8], "learning_rate": [0.1]})
    content["train_meta"]["search"]["method"] = "grid"
    grid = validate(Stacking, content).train_meta.search.grid
    assert grid == {"num_leaves": [4, 8], "learning_rate": [0.1]}
    assert [type(value) for value in grid["num_leaves"]] == [int, int]


def test_the_whole_file_names_bad_values_of_every_line_at_once(put: Edit, tmp_path: Path) -> None:
    content = put("train_counts.quantile.lr", 5.0)
    content["train_meta"]["ship"] = "tree"
    with (tmp_path / "params.yaml").open("w") as stream:
        YAML().dump(content, stream)
    with pytest.raises(ParamsError, match=r"(?s)train_meta\.ship.*train_counts\.quantile\.lr"):
        validate_file(tmp_path / "params.yaml")


def test_early_stopping_is_allowed_where_the_best_is_kept(put: Edit) -> None:
    content = put("train_text.own.early_stopping", 3)
    content["train_text"]["own"]["keep"] = "best"
    assert validate(Text, content).train_text.own.early_stopping == 3


def test_classes_need_not_be_named(put: Edit) -> None:
    assert validate(Text, put("prepare_text.classes", ["0", "1"])).prepare_text.classes == ["0", "1"]
    assert validate(Text, put("prepare_text.classes", None)).prepare_text.classes is None


def test_texts_longer_than_the_encoder_are_rejected(put: Edit) -> None:
    """The own encoder has positions for pretrain_text.max_tokens; more would end in an index error after minutes."""
    for name in ("own", "distilled"):
        with pytest.raises(ParamsError, match=f"train_text.{name}.max_tokens 128"):
            validate(Text, put(f"train_text.{name}.max_tokens", 128))
    # Pretrained weights bring their own positions.
    assert validate(Text, put("train_text.pretrained.max_tokens", 512)).network("pretrained").max_tokens == 512
    with pytest.raises(ValueError, match="network 'tree' is unknown; train_text has own, pretrained, distilled"):
        validate(Text, put("train_text.own.lr", 0.01)).network("tree")


@pytest.mark.parametrize("name", ["fsdp", "deepspeed"])
def test_launch_configurations_name_what_the_network_has(name: str) -> None:
    content = yaml.safe_load((Path(__file__).resolve().parents[2] / "params/accelerate" / f"{name}.yaml").read_text())
    assert content["distributed_type"] == name.upper()
    layers = content.get("fsdp_config", {}).get("fsdp_transformer_layer_cls_to_wrap", "")
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl

    assert all(hasattr(modeling_qwen2_5_vl, layer) for layer in layers.split(",") if layer)


def test_two_classes_with_one_answer_are_rejected(put: Edit) -> None:
    classes = [{"name": name, "label": name, "answer": "a"} for name in ("one", "two")]
    with pytest.raises(ParamsError, match="classes must differ in their answer"):
        validate(Vlm, put("prepare_vlm.classes", classes))
