"""Metrics of the predictions against scikit-learn and by hand, what is said of them, and the predictor's parts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft.tuners.lora import LoraLayer
from PIL import Image
from scipy.special import softmax
from sklearn import metrics as sk

from assay.metrics.binary import resample
from assay.vlm.evaluation import conclusion, evaluate, gains, mistakes, risk_metrics, spread
from assay.vlm.prediction import blank_copies, open_scorer, open_scorers, open_soup
from assay.vlm.prompts import Prompt
from assay.vlm.scoring import record_log_probs

Make = Callable[..., list[dict[str, Any]]]
HIGH = 3
NAMES = ("accuracy", "nll", "high_recall", "high_precision", "high_error")


def table(n: int = 300, num_classes: int = 5, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from probabilities, and the probabilities."""
    rng = np.random.default_rng(seed)
    probs = softmax(2 * rng.standard_normal((n, num_classes)), axis=1)
    return (rng.uniform(size=(n, 1)) > probs.cumsum(axis=1)[:, :-1]).sum(axis=1), probs


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("high", [0, HIGH])
def test_metrics_of_high_risk_are_scikit_learns(high, weighted):
    labels, probs = table()
    weights = np.random.default_rng(1).integers(0, 4, (3, 300)) if weighted else None
    found = risk_metrics(labels, probs, high=high, weights=weights)
    truth, named = labels == high, probs.argmax(axis=1) == high
    for number, rows in enumerate([None] if weights is None else weights):
        expected = {
            "high_precision": sk.precision_score(truth, named, sample_weight=rows),
            "high_recall": sk.recall_score(truth, named, sample_weight=rows),
            "high_error": 1 - sk.accuracy_score(truth, named, sample_weight=rows),
            "accuracy": sk.accuracy_score(labels, probs.argmax(axis=1), sample_weight=rows),
            "f1": sk.f1_score(labels, probs.argmax(axis=1), average="macro", sample_weight=rows),
            "nll": sk.log_loss(labels, probs, sample_weight=rows, labels=range(5)),
        }
        for name, value in expected.items():
            assert found[name][number] == pytest.approx(value, abs=1e-12), name
    # Nothing is named and nothing there: precision and recall are 0.
    none = risk_metrics(np.array([1, 2]), np.tile([0.1, 0.6, 0.3, 0, 0], (2, 1)), high=high)
    assert [none[f"high_{name}"][0] for name in ("precision", "recall", "error")] == [0, 0, 0]


def test_gains_are_differences_of_paired_resamples():
    labels, probs = table()
    _, other = table(seed=5)
    groups = np.arange(300) // 3
    drawn = {
        name: resample(labels, values, groups, metrics=partial(risk_metrics, high=HIGH))
        for name, values in {"base": other, "fused": probs, "majority": other, "no_filter": probs}.items()
    }
    found = gains(drawn)
    assert drawn["fused"].left_out["high_recall"].std() > 0
    assert [found["base"][f"accuracy_gain{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]
    assert found["base"]["accuracy_gain_filter"] == pytest.approx(-found["fused"]["accuracy_gain"])
    assert "accuracy_gain_augmentation" not in found["base"]
    for name in NAMES:
        gain = found["fused"][f"{name}_gain"]
        assert gain == drawn["fused"].point[name] - drawn["base"].point[name]
        assert found["fused"][f"{name}_gain_low"] < gain < found["fused"][f"{name}_gain_high"]
    assert found["fused"]["high_error_gain_high"] < 0 < found["fused"]["high_recall_gain_low"]


def test_each_second_model_is_compared_with_the_first_alone_and_with_what_ships():
    labels, probs = table()
    _, other = table(seed=5)
    groups = np.arange(len(labels))
    systems = {"base": other, "fused": probs, "fused_plain": other, "blank": other, "majority": other}
    reports = evaluate(systems, labels, groups, high=HIGH, seed=0)
    plain, fused = reports["fused_plain"], reports["fused"]
    assert [plain[f"high_error_gain{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]
    assert plain["high_error_behind"] == pytest.approx(fused["high_error_gain"])
    assert plain["high_error_behind_low"] < plain["high_error_behind"] < plain["high_error_behind_high"]
    assert plain["high_error_fewer"] == 0
    assert fused["high_error_fewer"] == pytest.approx(1 - fused["high_error"] / reports["base"]["high_error"])
    said = [line for line in conclusion(reports, strength=0.5) if "plain" in line]
    assert len(said) == 3
    assert said[0].startswith(
        "The correction by the second model plain against the first model alone, errors on high risk"
    )
    assert "holds for 3 comparisons together, one training" in said[1]
    assert said[2].startswith("The second model that ships against the second model plain, errors on high risk: better")


def test_the_spread_of_hand_made_runs():
    labels = np.array([0, 1, 2, 2])
    one = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6], [0.5, 0.4, 0.1]])
    two = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.4, 0.5, 0.1], [0.5, 0.1, 0.4]])
    three = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.1, 0.3, 0.6], [0.1, 0.1, 0.8]])
    found = spread([one, two, three], labels)
    # The class that the first names: 0.8 0.6 0.7; 0.7 0.7 0.6; 0.6 0.1 0.6; 0.5 0.5 0.1.
    widths = np.array([0.2, 0.1, 0.5, 0.4])
    expected = {"runs": 3, "accuracy_min": 0.5, "accuracy_max": 1.0, "changed": 0.5}
    expected |= {"confidence_mean": widths.mean(), "confidence_p95": np.quantile(widths, 0.95)}
    assert found == pytest.approx(expected)
    # One that differs from two like the first counts too; a run alone has no spread.
    assert spread([one, one, three], labels)["changed"] == 0.25
    none = {"accuracy_min": 0.75, "accuracy_max": 0.75, "confidence_mean": 0, "confidence_p95": 0, "changed": 0}
    assert spread([one], labels) == {"runs": 1} | none


def gained(**values: float) -> dict[str, float]:
    """Gains with intervals of 0.01 either way, in 100 groups."""
    found = {"n_groups": 100.0}
    for key, value in values.items():
        found |= {key: value, f"{key}_low": value - 0.01, f"{key}_high": value + 0.01}
    return found


def test_what_each_part_is_worth_follows_from_its_gain():
    base = gained(accuracy_gain=0.3, accuracy_gain_augmentation=0.005, accuracy_gain_filter=-0.02)
    # An interval above 0 of an error is a harm, whatever else is gained.
    fused = gained(
        accuracy_gain=0.0, nll_gain=-0.02, high_recall_gain=-0.03, high_precision_gain=0.05, high_error_gain=0.03
    )
    lines = conclusion({"base": base, "fused": fused}, strength=0.5)
    rest = "100 groups, one training)."
    assert lines[:3] == [
        f"The first model against the largest class, accuracy: better (+0.3000 [+0.2900, +0.3100]; {rest}",
        f"The first model against the same without augmentation, accuracy: not told apart (+0.0050 [-0.0050, +0.0150]; "
        f"{rest}",
        f"The first model against the same without the filter, accuracy: worse (-0.0200 [-0.0300, -0.0100]; {rest}",
    ]
    start = "The correction (strength 0.50) against the first model alone, "
    wanted = ["accuracy: not told apart", "NLL: better", "recall of high risk: worse", "precision of high risk: better"]
    for line, words in zip(lines[3:], [*wanted, "errors on high risk: worse"], strict=True):
        assert line.startswith(start + words), line
        assert "holds for 5 comparisons together, one training" in line


def test_a_correction_that_is_none_is_not_judged():
    lines = conclusion({"base": gained(accuracy_gain=0.3), "fused": gained(accuracy_gain=0.0)}, strength=0.0)
    assert lines[1:] == ["The correction has strength 0: on tune it gains nothing, so that it is the identity."]


def test_mistakes_are_the_wrong_rows_most_confident_first():
    rows = pd.DataFrame({"sample_id": list("dbca"), "name": list("wxyz"), "picture": ["p"] * 4, "group": [0] * 4})
    probs = np.array([[0.6, 0.4], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1]])
    found = mistakes(rows, probs, np.array([1, 1, 1, 1]), ("low", "high"))
    assert list(found.columns) == ["sample_id", "name", "picture", "true", "predicted", "confidence"]
    expected = [("a", "z", 0.9), ("b", "x", 0.9), ("d", "w", 0.6)]
    assert found.to_numpy().tolist() == [[i, name, "p", "high", "low", share] for i, name, share in expected]


ANSWERS = ("无", "低", "中", "高", "非")
PROMPT = Prompt("你是消防安全员。", "这里的风险等级是什么？", ANSWERS, ANSWERS, ("a", "b", "c", "d", "e"))


@pytest.mark.parametrize("changes", [{}, {"train_vision": True}], ids=["lora", "vision"])
def test_saved_adapters_that_share_a_base_score_as_each_alone_and_as_trained(
    save_adapter, processor, make_records, default_tuning, tmp_path, changes
):
    folders = [tmp_path / name for name in ("one", "two", "three")]
    # The last is plain LoRA: nothing of the vision towers before it may stay.
    tunings = [default_tuning.model_copy(update=update) for update in (changes, changes, {})]
    records = make_records([None] * 5)
    trained = []
    options: dict[str, Any] = {"device": "cpu", "batch_size": 3, "decode_pixels": 10**6}
    for seed, (folder, tuning) in enumerate(zip(folders, tunings, strict=True)):
        model = save_adapter(folder, PROMPT, tuning=tuning, seed=seed)
        trained.append(record_log_probs(model, records, processor, PROMPT, max_pixels=10**6, batch_size=3, name="test"))
    together = [scorer.log_probs(records, name="test") for scorer in open_scorers(folders, **options)]
    for folder, one, expected in zip(folders, together, trained, strict=True):
        scorer = open_scorer(folder, **options)
        assert scorer.prompt == PROMPT
        assert np.array_equal(scorer.log_probs(records, name="test"), expected)
        assert np.array_equal(one, expected)
    for one, two in ((together[0][0], together[0][1]), together[:2], together[1:]):
        assert np.abs(one - two).max() > 1e-6


def change_of(model: Any) -> torch.Tensor:
    """What the adapter adds to the weights of the first module that it adapts."""
    layer = next(module for module in model.modules() if isinstance(module, LoraLayer))
    (name,) = layer.active_adapters
    return layer.get_delta_weight(name)


def test_a_soup_is_the_mean_of_what_its_adapters_change_in_any_order(
    save_adapter, make_records, default_tuning, tmp_path
):
    options: dict[str, Any] = {"device": "cpu", "batch_size": 3, "decode_pixels": 10**6}
    folders = [tmp_path / name for name in ("one", "two", "three")]
    changes = [change_of(save_adapter(folder, PROMPT, seed=seed)) for seed, folder in enumerate(folders)]
    soup, turned = (open_soup(places, **options) for places in (folders, folders[::-1]))
    assert (change_of(soup.model) - torch.stack(changes).mean(dim=0)).abs().max() < 1e-6
    records = make_records([None] * 5)
    found = soup.log_probs(records, name="test")
    assert np.allclose(turned.log_probs(records, name="test"), found, atol=1e-5)
    assert np.abs(found - open_scorer(folders[0], **options).log_probs(records, name="test")).max() > 1e-3
    same = open_soup([folders[0]] * 3, **options).log_probs(records, name="test")
    assert np.allclose(same, open_scorer(folders[0], **options).log_probs(records, name="test"), atol=1e-5)
    # A vision tower that was trained whole has no such mean.
    save_adapter(tmp_path / "vision", PROMPT, tuning=default_tuning.model_copy(update={"train_vision": True}))
    assert open_soup([tmp_path / "vision"] * 2, **options) is None


def test_blank_copies_are_grey_and_of_the_same_sizes(make_records):
    records = make_records(["高"] * 7)
    with blank_copies(records, max_pixels=1_000_000) as blank:
        for one, two in zip(records, blank, strict=True):
            assert {**one, "images": two["images"]} == two
            with Image.open(one["images"][0]) as picture, Image.open(two["images"][0]) as grey:
                assert picture.size == grey.size
                assert set(grey.convert("L").tobytes()) == {128}
        places = [Path(record["images"][0]) for record in blank]
    assert not any(place.exists() for place in places)
