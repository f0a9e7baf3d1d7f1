"""The reader of model records: what a stage writes passes, and anything else is one short line with file and field."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.shipped.records import RECORDS, check_record

BINS = {"kind": "quantile", "edges": [1.0, 3.0, 9.0], "shares": [0.5, 0.5], "means": [2.0, 5.0], "note": ""}
SETTINGS = {"batch_size": 16, "class_weights": "none", "epochs": 1.0, "frozen_layers": None, "gradient_accumulation": 1}
SETTINGS |= {
    "head_lr": 0.002,
    "length_grouped": True,
    "lr": 2e-4,
    "max_tokens": 96,
    "mixed_precision": "no",
    "warmup": 0.1,
}
SETTINGS |= {"weight_decay": 0.01}
PROMPT = {"system": "s", "question": "q", "answers": ["a", "b"], "labels": ["c", "d"], "names": ["e", "f"]}
GOOD: dict[str, dict[str, Any]] = {
    "cascade.json": {
        "levels": [
            {"network": "stage1", "temperature": 1.5, "join": None},
            {"network": "maxvit@96", "temperature": 1, "join": {"first": 0.5, "second": 0.5, "intercept": 0.0}},
        ],
        "exit_real": 0.2,
        "exit_forged": 0.8,
        "unsure": None,
        "explanation": ["x"],
        "unlike_distance": 2.0,
        "decode": {"side": 64, "resize": "squash", "max_pixels": 10**6, "min_side": 8, "hash_side": 8},
    },
    "meta.json": {
        "model": {"kind": "single", "experts": ["one", "two"], "expert": 1, "coefficients": [], "intercept": 0.0},
        "join": {"first": 0.5, "second": 0.5, "intercept": 0.0},
        "test_time_mode": "refit",
    },
    "model.json": {
        "architecture": "tf_efficientnetv2_b3.in21k_ft_in1k",
        "data_config": {
            "image_size": 64,
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "interpolation": "bicubic",
            "input": "srm",
        },
    },
    "ensemble.json": {
        "classes": ["a", "b"],
        "networks": ["network_0"],
        "fuse_linear": True,
        "unicode_form": "NFKC",
        "weights": [0.5, 0.5],
        "scale": [1.0, 1.0],
        "bias": [0.0, 0.0],
    },
    "classifier.json": {"num_classes": 2, "max_tokens": 96, "merge_above": 8, "merged_tokens": 2, "pooling": "mean"},
    "encoder.json": {"pairs": {"size": 8, "dropout": 0.5}},
    "linear.json": {"max_ngram": 3, "bias": [0.1, -0.1]},
    "variant.json": {
        "variant": "equal_width",
        "adapter": False,
        "cuts": None,
        "objective": {"kind": "classes", "bins": BINS, "weights": [1.0, 1.0]},
        "quantile_bins": BINS,
        "settings": SETTINGS,
    },
    "choice.json": {"count": "regression", "bin": "quantile"},
    "intervals.json": {
        "variants": {"regression": {"level": 0.9, "num_groups": 27, "pooled": 0.9, "kinds": {"GPT-4": 0.7, "": 1.1}}}
    },
    "fusion.json": {
        "second": "both",
        "members": ["both"],
        "high": 1,
        "neutral": 0.3,
        "strength": 1.0,
        "high_temperature": 2.0,
        "scale": [1.0, 1.0],
        "bias": [0.0, 0.0],
    },
    "manifest.json": {
        "base": "models/base",
        "base_files": {"a": "0"},
        "processor": "data/processor",
        "processor_files": {"a": "0"},
        "prompt": PROMPT | {"min_pixels": 784, "max_pixels": 5500},
        "amplifier": {"width": 8, "groups": 4, "limit": 4.0, "amplify": True, "attend": False},
        "weights_dtype": "float32",
    },
    "config.json": {"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 10},
    "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "model_max_length": 10**30},
    "adapter_config.json": {"r": 8, "lora_alpha": 16, "rank_pattern": {}, "target_modules": ".*"},
}


@pytest.fixture
def put(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(bytes(10_000))

    def write(name: str, content: bytes | dict[str, Any]) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write


@pytest.mark.parametrize("name", RECORDS)
def test_what_a_stage_writes_passes_with_keys_that_only_inform(put, name):
    check_record(put(name, GOOD[name]))
    check_record(put(name, GOOD[name] | {"seed": 7, "best_epoch": [1]}))


def changed(name: str, key: str, value: Any) -> dict[str, Any]:
    record = copy.deepcopy(GOOD[name])
    *way, last = key.split(".")
    place = record
    for part in way:
        place = place[part]
    place[last] = value
    return record


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("model.json", "architecture", "x" * 10**5, r"architecture: String should match .*got '.{70,80}$"),
        ("model.json", "architecture", "../../x", "architecture: String should match"),
        ("model.json", "data_config.image_size", 10**6, "data_config.image_size: .*got 1000000"),
        ("model.json", "data_config.std", [1, 0, 1], "data_config.std.1: .*greater than 0, got 0"),
        ("model.json", "data_config.input", "fft", "data_config.input: Input should be 'rgb' or 'srm', got 'fft'"),
        ("cascade.json", "exit_real", 0.9, "exit_real 0.9 must lie below exit_forged 0.8"),
        ("cascade.json", "decode", None, "decode: .*got None"),
        ("cascade.json", "exit_forged", None, "two levels need exit_real and exit_forged"),
        ("cascade.json", "exit_real", -2.0, "exit_real: .*greater than or equal to -1, got -2"),
        ("cascade.json", "levels", [], "levels: .*got \\[\\]"),
        ("cascade.json", "levels", [{"network": "stage1", "temperature": 1, "join": None}], "one level has no exits"),
        ("cascade.json", "levels", [{"network": "../x", "temperature": 1, "join": None}], "levels.0.network: "),
        ("cascade.json", "levels", [{"network": "one@0", "temperature": 1, "join": None}], "levels.0.network: "),
        (
            "cascade.json",
            "levels",
            [{"network": "one", "temperature": 0, "join": None}],
            "levels.0.temperature: .*got 0",
        ),
        (
            "cascade.json",
            "levels",
            [{"network": "one", "temperature": 1, "join": None}] * 2,
            "of two levels the second has a join",
        ),
        ("meta.json", "model.experts", ["..", "two"], "model.experts.0: "),
        ("meta.json", "model.expert", 2, "model: expert 2 is none of 2 experts"),
        ("meta.json", "join.more", 1.0, "join.more: Extra inputs"),
        ("meta.json", "join.a\n\x1b[2J", 1.0, r"join\.'a\\n\\x1b\[2J': Extra inputs"),
        ("meta.json", "join." + "x" * 10**4, 1.0, r"join\.'x{76}\.\.\.: Extra inputs"),
        ("ensemble.json", "networks", ["../network_0"], "networks.0: "),
        ("ensemble.json", "weights", [1.0], "1 weights for 1 networks"),
        ("ensemble.json", "scale", [1.0], "differ in length: classes 2, scale 1, bias 2"),
        ("variant.json", "settings.max_tokens", "many", "settings.max_tokens: .*got 'many'"),
        ("variant.json", "variant", "x" * 10**5, "variant: Input should be 'regression', .{100,400}$"),
        ("variant.json", "objective.kind", "oracle", "objective: .*'oracle'"),
        (
            "variant.json",
            "quantile_bins.edges",
            [3.0, 1.0, 9.0],
            "(objective.classes.bins|quantile_bins): edges must rise",
        ),
        ("variant.json", "adapter", True, "adapter, base and variant do not fit each other"),
        ("intervals.json", "variants.regression.kinds.GPT-4", 99.0, "variants.regression.kinds.'GPT-4': .*got 99"),
        ("intervals.json", "variants.regression.level", 1, "variants.regression.level: "),
        ("fusion.json", "high", 2, "high 2 is none of 2 classes"),
        ("manifest.json", "prompt.names", ["e"] * 3, "prompt: differ in length: answers 2, labels 2, names 3"),
        ("config.json", "hidden_size", 9, "hidden_size 9, num_attention_heads 2 .* do not divide each other"),
        (
            "config.json",
            "vocab_size",
            10**6,
            "its sizes ask for 8000... weights, and the files beside it hold 20000 at most",
        ),
        ("config.json", "tokenizer_class", "AutoModel", "tokenizer_class: String should match .*got 'AutoModel'"),
        ("tokenizer_config.json", "tokenizer_class", "RagRetriever", "tokenizer_class: .*got 'RagRetriever'"),
        ("adapter_config.json", "r", 10**6, "r: .*got 1000000"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_file_and_field(put, name, key, value, message):
    path = put(name, changed(name, key, value))
    with pytest.raises(ValueError, match=f"{name}: {message}") as caught:
        check_record(path)
    assert len(str(caught.value)) < 600 + len(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b"\xff\xfe{}",
        b"[" * 10**5,
        b'{"a":' * 10**5,
        b" " * (2**20 + 1),
        b'"' + b"x" * 10**6,
    ],
    ids=["empty", "open", "list", "null", "utf16", "deep", "deep_keys", "large", "long"],
)
@pytest.mark.parametrize("name", ["cascade.json", "variant.json", "config.json"])
def test_what_is_no_record_is_one_line(put, name, content):
    with pytest.raises(ValueError, match=name) as caught:
        check_record(put(name, content))
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1e999"])
def test_numbers_that_are_none_are_refused(put, number):
    content = json.dumps(GOOD["cascade.json"]).replace("1.5", number).encode()
    with pytest.raises(ValueError, match=r"cascade.json: "):
        check_record(put("cascade.json", content))


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_with_any_value_in_any_place_is_read_or_one_line(put, name):
    """Each value of the record in turn replaced by each of these."""
    values = [None, True, -1, 0, 2**70, 1e308, "", "x" * 10**4, [], [[]], {}, {"a": {"b": 1}}]
    rng, said = np.random.default_rng(0), []

    def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [way, *(place for key, item in items for place in places(item, (*way, key)))]

    for way in places(GOOD[name])[1:]:
        for value in values:
            record = copy.deepcopy(GOOD[name])
            place = record
            for part in way[:-1]:
                place = place[part]
            place[way[-1]] = value
            if rng.random() < 0.1:
                del place[way[-1]]
            try:
                check_record(put(name, record))
            except ValueError as error:
                said.append(str(error))
    assert all(name in text and len(text) < 1000 and "\n" not in text for text in said)
    assert len(said) > 5
