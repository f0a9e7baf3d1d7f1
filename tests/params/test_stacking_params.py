"""The sections of experts, stacking and cascade: what is rejected, and by which key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from assay.core.params import ParamsError, validate
from assay.images.stacking import EXPERTS
from assay.params.stacking import Stacking, TrainExpert

Edit = Callable[[str, object], dict[str, Any]]


def test_experts_are_read_by_name_in_the_order_of_the_code(full: dict[str, Any]) -> None:
    params = validate(Stacking, full)
    assert EXPERTS == ("efficientnetv2_b3", "maxvit")
    assert set(EXPERTS) == set(TrainExpert.model_fields)
    assert params.expert("maxvit") is params.train_expert.maxvit
    with pytest.raises(ValueError, match="expert 'resnet' is unknown; train_expert has efficientnetv2_b3, maxvit"):
        params.expert("resnet")


def test_the_real_settings_name_the_real_networks(full: dict[str, Any]) -> None:
    params = validate(Stacking, full)
    found = {name: (params.expert(name).architecture, params.expert(name).image_size) for name in EXPERTS}
    assert found == {
        "efficientnetv2_b3": ("tf_efficientnetv2_b3.in21k_ft_in1k", 300),
        "maxvit": ("maxvit_tiny_tf_224.in1k", 224),
    }


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train_expert.maxvit.embedding_dim", 1, "train_expert.maxvit.embedding_dim: got 1"),
        ("train_expert.maxvit.embedding_dim", 128, "embedding_dim must be the same for all experts"),
        ("train_expert.resnet", {}, "train_expert.resnet: unknown key"),
        ("build_meta.alignment", "pca", "build_meta.alignment: got 'pca'"),
        ("train_meta.ship", "xgboost", "train_meta.ship: got 'xgboost'"),
        ("train_meta.test_time_mode", "mean", "train_meta.test_time_mode: got 'mean'"),
        ("train_meta.num_resamples", 10, "train_meta.num_resamples: got 10"),
        ("train_meta.search.method", "optuna", "train_meta.search.method: got 'optuna'"),
        ("train_meta.search.method", "grid", "method grid needs at least one setting"),
        ("train_meta.search.num_candidates", 0, "train_meta.search.num_candidates: got 0"),
        ("train_meta.search.grid", {"depth": [1]}, "grid has unknown settings ['depth']; known are"),
        ("train_meta.search.grid", {"max_depth": []}, "train_meta.search.grid.max_depth: got []"),
        ("train_meta.search.ranges.num_leaves", [1, 4], "train_meta.search.ranges.num_leaves.0: got 1"),
        ("train_meta.search.ranges.max_depth", [6, 2], "must not be larger than the second, got [6, 2]"),
        ("train_meta.search.ranges.reg_alpha", [0.0, 1.0], "train_meta.search.ranges.reg_alpha.0: got 0"),
        ("train_meta.search.ranges.n_estimators", [40], "train_meta.search.ranges.n_estimators: got [40]"),
        ("train_meta.search.ranges.subsample", [0.5, 1.5], "train_meta.search.ranges.subsample.1: got 1.5"),
        ("evaluate_cascade.budget_forged", 0.0, "evaluate_cascade.budget_forged: got 0"),
        ("evaluate_cascade.budget_real", 1.0, "evaluate_cascade.budget_real: got 1"),
        ("evaluate_cascade.unsure", [0.6, 0.4], "evaluate_cascade.unsure: got [0.6, 0.4]"),
        ("evaluate_cascade.unsure", [0.4], "evaluate_cascade.unsure: got [0.4]"),
        ("evaluate_cascade.frontier_budgets", [], "evaluate_cascade.frontier_budgets: got []"),
        ("evaluate_cascade.frontier_budgets", [0.1, 2.0], "evaluate_cascade.frontier_budgets.1: got 2"),
        ("evaluate_cascade.certify", "yes", "evaluate_cascade.certify: got 'yes'"),
    ],
)
def test_a_value_out_of_range_is_told_by_its_key(put: Edit, key: str, value: object, message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        validate(Stacking, put(key, value))
    assert message in str(caught.value)


@pytest.mark.parametrize("value", [None, [0.4, 0.6]])
def test_unsure_may_be_switched_off(put: Edit, value: list[float] | None) -> None:
    assert validate(Stacking, put("evaluate_cascade.unsure", value)).evaluate_cascade.unsure == value


def test_a_grids_integers_stay_integers(put: Edit) -> None:
    content = put("train_meta.search.grid", {"num_leaves": [4, 8], "learning_rate": [0.1]})
    content["train_meta"]["search"]["method"] = "grid"
    grid = validate(Stacking, content).train_meta.search.grid
    assert grid == {"num_leaves": [4, 8], "learning_rate": [0.1]}
    assert [type(value) for value in grid["num_leaves"]] == [int, int]
