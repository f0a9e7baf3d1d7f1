"""Every way params.yaml can be wrong is told by key, value and what is allowed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from assay.core.params import Line, ParamsError, load, read_yaml, validate
from assay.params.images import Images, check_weights
from assay.params.schema import LINES, validate_file

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))]
Edit = Callable[[str, object], dict[str, Any]]


def message(content: dict[str, Any], line: type[Line] = Images) -> str:
    with pytest.raises(ParamsError) as caught:
        validate(line, content)
    return str(caught.value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_files_that_ship_are_valid(path: Path) -> None:
    assert validate_file(path) == validate_file(path, base=FILES[0])


@pytest.mark.parametrize("text", ["1e-05", "1e-5", "1.0e-5"])
def test_an_exponent_is_a_number(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    yaml = YAML()
    content = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    content["train_stage1"]["lr"] = yaml.load(text)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)  # as DVC writes -S train_stage1.lr=1e-5
    lr = load(Images, path).train_stage1.lr
    assert isinstance(lr, float)
    assert lr == 1e-5


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("train_stage1.lr", "abc", "valid number"),
        ("train_stage1.lr", True, "valid number"),
        ("train_stage1.lr", 0, "greater than 0"),
        ("train_stage1.lr", 2.0, "less than or equal to 1"),
        ("train_stage1.lr", float("nan"), "finite"),
        ("train_stage1.epochs", True, "valid integer"),
        ("train_stage1.epochs", 3.0, "valid integer"),
        ("train_stage1.epochs", 0, "greater than or equal to 1"),
        ("train_stage1.input", "grey", "'rgb' or 'srm'"),
        ("train_stage1.mixed_precision", "int8", "'no', 'bf16' or 'fp16'"),
        ("train_stage1.augment.hue", 0.6, "less than or equal to 0.5"),
        ("train_stage1.augment.blur_sigma", [2.0, 1.0], "must not be larger"),
        ("runtime.seed", -1, "greater than or equal to 0"),
        ("runtime.data_seed", 2**31, "less than or equal to 2147483647"),
        ("runtime.device", "cuda", "'auto' or 'cpu'"),
        ("forge.families", ["blend", "warp"], "'resample' or 'superres'"),
        ("forge.short_side", [1.0], "at least 2"),
        ("prepare.resize", "stretch", "'crop' or 'squash'"),
        ("calibrate.role", "test", "'calib' or 'val'"),
        ("evaluate.robustness.blur_sigma", 0.5, "valid list"),
        ("roles", None, "dictionary"),
    ],
)
def test_a_bad_value_is_told_by_key_value_and_what_is_allowed(put: Edit, key: str, value: object, told: str) -> None:
    text = message(put(key, value))
    line = next(line for line in text.splitlines() if line.strip().startswith(key))
    assert told in line
    shown = value[-1] if key == "forge.families" and isinstance(value, list) else value
    assert repr(shown) in line


def test_all_errors_stand_in_one_message(put: Edit) -> None:
    content = put("train_stage1.lr", "abc")
    content["train_stage1"]["epoch"] = 5
    content["prepare"]["sources"] = [{"dataset": "a b", "kind": "forge"}]
    del content["forge"]["recon"]["lr"]
    lines = message(content).splitlines()
    assert lines[0] == "params.yaml: 4 value(s) can't be used"
    keys = ["forge.recon.lr", "prepare.sources.0.dataset", "train_stage1.epoch", "train_stage1.lr"]
    assert sorted(line.split(":")[0].strip() for line in lines[1:]) == keys
    assert "  train_stage1.epoch: unknown key (value 5); remove it or mend its spelling" in lines
    assert "  forge.recon.lr: missing, and it has no default" in lines


# Of each section of params.yaml: key, value, and what the one line that names the fault says.
FIRST = {"no_augmentation": "rows/train.jsonl", "base": "filtered/train.jsonl"}
FOLDS = {"fold_0_of_2": "rows/train.jsonl", "fold_1_of_2": "rows/train.jsonl"}
SECOND = {"amplify": False, "attend": False, "danger_weight": 0.0, "train_vision": False, "lr": None, "mistakes": True}
BAD = [
    ("roles.test", 0.9, "must be above 0 and sum to 1, they sum to 1."),
    ("forge.jpeg_quality", [90, 80], "must not be larger than the second, got [90, 80]"),
    ("forge.jpeg_quality", [0, 80], "greater than or equal to 1"),
    ("forge.size", 512, "short_side"),
    ("forge.size", 50, "size must be a multiple of 4 for family recon, got 50"),
    ("forge.resample.factor", [1.0, 2.0], "resample.factor must be above 1"),
    ("forge.families", ["blend", "blend", "inpaint"], "an entry twice"),
    ("forge.unseen", ["inpaint", "inpaint"], "unseen has an entry twice"),
    ("forge.families", ["inpaint", "patchmatch", "superres"], "at least one family besides the unseen ones"),
    ("forge.families", ["blend", "inpaint", "superres"], "unseen ['patchmatch'] must be among families ['blend',"),
    ("prepare.size", 160, "prepare.size 160 must not be above forge.size 128"),
    ("forge.recon.side", 256, "recon.side 256 must not be above size 128"),
    ("prepare.sources", [{"dataset": "a", "kind": "folders"}], "path is needed"),
    ("prepare.sources", [{"dataset": "a", "kind": "forge", "path": "x"}], "not taken by kind forge"),
    ("prepare.sources", [{"dataset": "a", "kind": "folders", "path": "x"}] * 2, "share a dataset name: ['a', 'a']"),
    ("prepare.sources", [{"dataset": name, "kind": "forge"} for name in "ab"], "only one source"),
    ("distill_stage1.temperature", 0.5, "greater than or equal to 1"),
    ("distill_stage1.weight", 1.5, "less than or equal to 1"),
    (
        "evaluate_cascade.ship",
        "stage_1",
        "evaluate_cascade.ship: got 'stage_1'; known are auto, cascade, stage1, ensemble",
    ),
    ("score_cascade.sizes", [64, 512], "score_cascade.sizes [512] are above prepare.size 128"),
    ("distill_stage1.ship", "best", "'auto', 'plain' or 'distilled'"),
    ("train_stage1.warmup_epochs", 500, "warmup_epochs 500 must be below epochs"),
    ("train_stage1.augment.blur_sigma", [-1.0, 2.0], "greater than or equal to 0"),
    ("train_stage1.augment.jpeg_quality", [95, 70], "must not be larger than the second, got [95, 70]"),
    ("train_stage1.augment.scale", 1.0, "less than 1"),
    ("train_expert.maxvit.embedding_dim", 128, "embedding_dim must be the same for all experts"),
    ("train_expert.resnet", {}, "train_expert.resnet: unknown key"),
    ("train_meta.ship", "xgboost", "train_meta.ship: got 'xgboost'"),
    ("train_meta.search.method", "optuna", "train_meta.search.method: got 'optuna'"),
    ("train_meta.search.method", "grid", "method grid needs at least one setting"),
    ("train_meta.search.grid", {"depth": [1]}, "grid has unknown settings ['depth']; known are"),
    ("train_meta.search.ranges.num_leaves", [1, 4], "train_meta.search.ranges.num_leaves.0: got 1"),
    ("train_meta.search.ranges.max_depth", [6, 2], "must not be larger than the second, got [6, 2]"),
    ("train_meta.search.ranges.reg_alpha", [0.0, 1.0], "train_meta.search.ranges.reg_alpha.0: got 0"),
    ("train_meta.search.ranges.n_estimators", [40], "train_meta.search.ranges.n_estimators: got [40]"),
    ("train_meta.search.ranges.subsample", [0.5, 1.5], "train_meta.search.ranges.subsample.1: got 1.5"),
    ("evaluate_cascade.budget_forged", 0.0, "evaluate_cascade.budget_forged: got 0"),
    ("evaluate_cascade.unsure", [0.6, 0.4], "evaluate_cascade.unsure: got [0.6, 0.4]"),
    ("evaluate_cascade.deferred_shares", [], "evaluate_cascade.deferred_shares: got []"),
    ("evaluate_cascade.deferred_shares", [0.1, 2.0], "evaluate_cascade.deferred_shares.1: got 2"),
    ("evaluate_cascade.count", "seconds", "evaluate_cascade.count: got 'seconds'"),
    ("train_meta.test_time_mode", "folds", "train_meta.test_time_mode: got 'folds'"),
    ("score_cascade.sizes", [64, 4], "score_cascade.sizes.1: got 4"),
    ("evaluate_cascade.certify", "yes", "evaluate_cascade.certify: got 'yes'"),
    ("evaluate_cascade.assumed_correlation", 1.0, "evaluate_cascade.assumed_correlation: got 1"),
    ("evaluate_cascade.unsure_coverage", 1.0, "evaluate_cascade.unsure_coverage: got 1"),
    ("prepare_counts.quantile_bins", 1, "prepare_counts.quantile_bins"),
    ("train_counts.regression.class_weights", "balanced", "train_counts.regression.class_weights: unknown key"),
    ("train_counts.quantile.lr", 1, "train_counts.quantile.lr"),
    ("train_counts.ordinal.loss", "mse", "train_counts.ordinal.loss"),
    ("fetch_counts.causal_lm_config.hidden_size", 66, "multiple of 2"),
    ("prepare_text.roles.tune", 0.1, "prepare_text.roles.tune: unknown key"),
    ("prepare_text.classes", [0, 1], "prepare_text.classes.0"),
    ("prepare_text.classes", ["a", " a"], "prepare_text.classes"),
    ("prepare_text.near_duplicates.threshold", 0, "prepare_text.near_duplicates.threshold"),
    ("pretrain_text.encoder.hidden_size", 190, "encoder: hidden_size 190 must be a multiple of num_h"),
    ("pretrain_text.mask_share", 1.0, "pretrain_text.mask_share"),
    ("pretrain_text.epoch", 3, "pretrain_text.epoch: unknown key"),
    ("train_text.own.early_stopping", 3, "train_text.own: early_stopping needs keep: best"),
    ("train_text.own.lr", "1e-5", "train_text.own.lr"),
    ("train_text.distilled.eval_every", 0.0, "train_text.distilled.eval_every"),
    ("train_text.pretrained.layer_decay", 0.0, "train_text.pretrained.layer_decay"),
    ("train_text.pretrained.num_layers", 8, "train_text.pretrained: frozen_layers 8 must be below num_layers"),
    ("train_text.pretrained.frozen_layers", 0, "merged_tokens 2 needs frozen_layers"),
    ("train_text.own.distillation.teacher", "pretrained", "that network teaches distilled alone"),
    ("pool_text.members", [], "pool_text.members"),
    ("pool_text.members", ["own", "own"], "each stands there once; got"),
    ("pool_text.small", ["first"], "pool_text.small.0"),
    ("evaluate_text.length_edges", [30, 15], "evaluate_text.length_edges"),
    ("render_corridors.source", "", "render_corridors.source"),
    ("render_corridors.num_scenes", 3, "render_corridors.num_scenes"),
    ("render_corridors.size", [160, 8], "render_corridors.size"),
    ("prepare_vlm.high_risk.label", "很危险", "high_risk.label and near_misses must be different labels"),
    ("prepare_vlm.high_risk.near_misses", ["高风险"], "high_risk.label and near_misses must be different labels"),
    ("prepare_vlm.high_risk.yes", "否", "high_risk.yes and no must differ"),
    ("prepare_vlm.max_pixels", 700, "min_pixels 784 must not be above max_pixels 700"),
    ("prepare_vlm.augment.scale", [1.3, 0.7], "prepare_vlm.augment.scale"),
    ("prepare_vlm.augment.protected", [[345, 400]], "prepare_vlm.augment.protected.0.1"),
    (
        "prepare_vlm.processor",
        "hub: x",
        "  prepare_vlm.processor and pretrain_vlm.base must both be config or both be given",
    ),
    ("pretrain_vlm.small.hidden_size", 80, "hidden_size 80 must be a multiple of 8 times its number of heads"),
    ("vlm_sft.weights_dtype", "8bit", "vlm_sft.weights_dtype"),
    ("filter_vlm.scorer", "teacher", "filter_vlm.scorer"),
    ("vlm_networks", {"base": "filtered/train.jsonl"} | FOLDS, "needs the network no_augmentation"),
    ("vlm_networks", {"base": "rows/train.jsonl"}, "base learns filtered/train.jsonl, got 'rows/train.jsonl'"),
    ("vlm_networks", {"no_filter": "rows/train.jsonl"}, "base is missing"),
    ("vlm_networks", {"order_0": "filtered/train.jsonl"}, "no network 'order_0'"),
    ("vlm_networks", {"base": "filtered/train.jsonl", "fold_0_of_2": "rows/train.jsonl"}, "folds must be fold_0"),
    ("vlm_networks", FIRST | {"fold_0_of_2": "filtered/train.jsonl"}, "fold_0_of_2 learns rows/train.jsonl"),
    ("vlm_networks", FIRST, "folds must be fold_0_of_2 and fold_1_of_2, got []"),
    ("vlm_high_risk_networks", {}, "vlm_high_risk_networks"),
    ("vlm_high_risk_networks", {"mean": SECOND}, "vlm_high_risk_networks: 'mean' means something else"),
    ("vlm_predict.second", "third", "vlm_predict.second: got 'third'; use one of auto, mean, plain"),
    ("vlm_sft_high_risk.merge", True, "a merged network has no gate"),
    ("vlm_sft_high_risk.near_share", 0.7, "must not sum to above 1"),
    ("vlm_sft_high_risk.scorer", 2, "vlm_sft_high_risk.scorer: unknown key"),
]


@pytest.mark.parametrize(("key", "value", "told"), BAD)
def test_a_bad_value_is_told_in_one_short_line(put: Edit, key: str, value: object, told: str) -> None:
    section = key.split(".")[0]
    line_of_work = next(line for line in LINES if section in line.model_fields)
    text = message(put(key, value), line_of_work)
    (line,) = [line for line in text.splitlines() if told in line]
    assert section in line
    assert len(line) < 250  # the values that matter, not the whole section


@pytest.mark.parametrize("unseen", [["blend", "clone"], []])
def test_all_families_but_the_unseen_ones_are_seen(put: Edit, unseen: list[str]) -> None:
    content = put("forge.unseen", unseen)
    assert validate(Images, content).forge.seen == [name for name in content["forge"]["families"] if name not in unseen]


def test_settings_cannot_be_changed_later() -> None:
    settings = validate(Images, read_yaml(FILES[0]))
    with pytest.raises(ValueError, match="frozen"):
        settings.train_stage1.lr = 1.0  # type: ignore[misc]


def test_a_section_no_line_knows(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    path.write_text(text + "\ntrain_stage9: {lr: 1}\n3: {}\n", encoding="utf-8")
    with pytest.raises(ParamsError, match=r"unknown section\(s\) \[3, 'train_stage9'\]; known: .*'train_stage1'"):
        validate_file(path)


@pytest.mark.parametrize("name", ["roles", "train_stage1"])
def test_a_missing_section(put: Edit, name: str) -> None:
    content = put(name, None)
    del content[name]
    assert f"  {name}: missing" in message(content)


@pytest.mark.parametrize("value", ["hub", "random", "file: a/b c.safetensors", "file:x", "package: some-pkg==0.1.0"])
def test_good_weights(value: str) -> None:
    assert check_weights(value) == value
    assert check_weights(f"package: p==1+cu#sha256={'0a' * 32}")


@pytest.mark.parametrize(
    "value",
    [
        *("", "Hub", "file:", "file:  ", "package: p", "package: p>=1", "package: p==1 --index-url=x"),
        *("https://x/y.bin", f"package: p==1#sha256={'0' * 63}", f"package: p==1#sha256={'A' * 64}"),
        *("package: -r evil", "file: a\nb"),
    ],
)
def test_bad_weights(put: Edit, value: str) -> None:
    text = message(put("train_stage1.weights", value))
    assert "train_stage1.weights" in text
    assert repr(value) in text
    assert "allowed: hub, random, 'file: PATH'" in text


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "params.yaml", tmp_path):
        with pytest.raises(ParamsError, match="no parameter file at"):
            load(Images, path)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "must be a mapping of sections, got NoneType"),
        (b"- 1\n- 2\n", "got list"),
        (b"a: b: c", "is not YAML"),
        (b"a: 1\na: 2", "is not YAML"),
        (b"\xff\xfe\x00a", "is not YAML"),
        (b"a: !!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_files_that_are_no_mapping(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(data)
    with pytest.raises(ParamsError, match=told):
        validate_file(path, base=FILES[0])


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ALIASES, "nests or repeats values without end; at most 100000 values are read"),
        ("runtime: &a [*a]\n", "nests or repeats values without end"),
        ("runtime: " + "[" * 60 + "]" * 60, "nests or repeats values without end"),
        ("runtime: " + "[" * 100_000, "nests values without end|is not YAML"),
        ("runtime: " + "{a: " * 5000 + "1" + "}" * 5000, "nests values without end"),
        ("# " + "x" * 2**20, "has more than 1048576 bytes"),
        ("runtime: " + "1" * 10_000, "is not YAML: Exceeds the limit"),
    ],
    ids=["aliases", "a circle", "deep", "deeper", "deep mappings", "large", "a number without end"],
)
def test_a_file_that_unfolds_without_end_is_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    (path := tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=told) as caught:
        read_yaml(path)
    assert len(str(caught.value)) < 1000


def test_of_a_long_value_a_message_shows_the_beginning(put: Edit) -> None:
    told = message(put("runtime.device", ["x" * 10**6] * 3))
    assert "runtime.device: got ['xxx" in told
    assert len(told) < 1000
    assert len(message(put("runtime.unknown", "y" * 10**6))) < 1000
