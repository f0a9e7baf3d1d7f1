"""Metrics of the predictions against scikit-learn and by hand, what is said of them, and the predictor's parts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import softmax
from sklearn import metrics as sk

from assay.metrics.binary import resample
from assay.vlm.evaluation import conclusion, gains, mistakes, risk_metrics, spread
from assay.vlm.prediction import blank_copies, open_scorer, open_scorers
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


def report(value: float = 0.8, **more: float) -> dict[str, float]:
    """Metrics with intervals of 0.05 either way."""
    metrics = {"accuracy": value, "high_recall": 0.7, "high_precision": 0.9, "high_error": 0.1} | more
    bounds = {f"{name}_low": number - 0.05 for name, number in metrics.items()}
    bounds |= {f"{name}_high": number + 0.05 for name, number in metrics.items()}
    return {"n": 100.0} | bounds | metrics


def say(*, strength: float = 1.0, base: dict[str, float] | None = None, **fused: float) -> list[str]:
    gained = {"high_recall_gain": 0.0, "high_error_gain": -0.1} | fused
    reports = {"base": report(accuracy_gain=0.3) | (base or {}), "fused": report(**gained), "majority": report(0.5)}
    return conclusion(reports, strength=strength)


def test_the_conclusion_names_the_metrics_and_divides_by_no_zero():
    first, second, third = say(high_recall=0.8, high_recall_gain=0.1, high_error=0.05, high_precision=0.85)
    assert first == "The first model: accuracy 0.800 [0.750, 0.850] (n 100), better than the largest class (0.500)."
    assert second == (
        "With the correction (strength 1.00): accuracy 0.800 [0.750, 0.850]; high risk: recall 0.800 against 0.700 "
        "(gain +0.100 [+0.050, +0.150]), precision 0.850 against 0.900, errors -50% (gain -0.100 [-0.150, -0.050] "
        "of the share)."
    )
    assert third == "Fusion pays here."
    assert "errors +0%" in say(base={"high_error": 0.0})[1]


@pytest.mark.parametrize(
    ("fused", "words"),
    [
        ({"high_error_gain": -0.06}, "Fusion pays here."),
        ({"high_error_gain": -0.04}, "Fusion is not shown to pay here: the interval of its gain holds 0."),
        # Fewer errors, but by finding less.
        ({"high_error_gain": -0.2, "high_recall": 0.6}, "Fusion does not pay here: it finds less of the high risk."),
        ({"strength": 0.0}, "Fusion does not pay here: on tune no strength of the correction gains, so it is the "),
    ],
)
def test_what_is_said_of_fusion(fused, words):
    assert say(**fused)[-1].startswith(words)


@pytest.mark.parametrize(
    ("gain", "than", "words", "opposite"),
    [
        (0.06, "better than", "pays", "harms"),
        (0.04, "not told apart from", "is not shown to pay", "is not shown to pay"),
        (-0.06, "worse than", "harms", "pays"),
    ],
)
def test_what_is_said_of_the_first_model_augmentation_and_filter(gain, than, words, opposite):
    found = say(base=report(accuracy_gain=gain, accuracy_gain_augmentation=gain, accuracy_gain_filter=-gain))
    assert f"{than} the largest class" in found[0]
    assert found[-2] == f"Augmentation {words} (gain {gain:+.3f} [{gain - 0.05:+.3f}, {gain + 0.05:+.3f}])."
    assert found[-1].startswith(f"The filter {opposite} (gain {-gain:+.3f}")


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
