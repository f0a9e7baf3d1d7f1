"""Figures of the predictions against scikit-learn and by hand, what is said of them, and the predictor's parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn import metrics as sk

from assay.calibration.pooling import fit_pool_temperature
from assay.core.io import write_json
from assay.metrics.binary import resample
from assay.params.vlm import Tuning
from assay.vlm.evaluation import conclusion, gains, metrics_for, mistakes, risk_metrics, spread
from assay.vlm.fusion import calibrated
from assay.vlm.network import RECORD, add_adapter, manifest
from assay.vlm.prediction import blank_copies, open_predictor, open_scorer, open_scorers
from assay.vlm.prompts import Prompt
from assay.vlm.scores import as_rows
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
def test_figures_of_high_risk_are_scikit_learns(high: int, weighted: bool) -> None:
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


def test_undefined_precision_and_recall_are_zero() -> None:
    probs = np.tile([0.6, 0.2, 0.1, 0.05, 0.05], (4, 1))
    none = risk_metrics(np.array([0, 1, 2, 3]), probs, high=HIGH)
    assert (none["high_precision"][0], none["high_recall"][0], none["high_error"][0]) == (0, 0, 0.25)
    absent = risk_metrics(np.array([0, 1, 2, 0]), probs, high=HIGH)
    assert (absent["high_precision"][0], absent["high_recall"][0], absent["high_error"][0]) == (0, 0, 0)


def test_metrics_for_one_class_are_resampled() -> None:
    labels, probs = table()
    groups = np.arange(300) // 3
    found = resample(labels, probs, groups, metrics=metrics_for(HIGH), num_resamples=100, seed=0)
    assert found.point["high_recall"] == risk_metrics(labels, probs, high=HIGH)["high_recall"][0]
    assert found.draws["high_recall"].std() > 0


def test_gains_are_differences_of_paired_resamples() -> None:
    labels, probs = table()
    _, other = table(seed=5)
    groups = np.arange(300) // 3
    drawn = {
        name: resample(labels, values, groups, metrics=metrics_for(HIGH), num_resamples=200, seed=0)
        for name, values in {"base": other, "fused": probs, "majority": other, "no_filter": probs}.items()
    }
    found = gains(drawn)
    assert (
        found["base"]["accuracy_gain"] == found["base"]["accuracy_gain_low"] == found["base"]["accuracy_gain_high"] == 0
    )
    assert found["base"]["accuracy_gain_filter"] == pytest.approx(-found["fused"]["accuracy_gain"])
    assert "accuracy_gain_augmentation" not in found["base"]
    for name in NAMES:
        gain = found["fused"][f"{name}_gain"]
        assert gain == drawn["fused"].point[name] - drawn["base"].point[name]
        assert found["fused"][f"{name}_gain_low"] < gain < found["fused"][f"{name}_gain_high"]
    assert found["fused"]["high_error_gain_high"] < 0 < found["fused"]["high_recall_gain_low"]


def test_the_spread_of_hand_made_runs() -> None:
    labels = np.array([0, 1, 2, 2])
    one = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6], [0.5, 0.4, 0.1]])
    two = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.4, 0.5, 0.1], [0.5, 0.1, 0.4]])
    three = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.1, 0.3, 0.6], [0.1, 0.1, 0.8]])
    found = spread([one, two, three], labels)
    # The class that the first names: 0.8 0.6 0.7; 0.7 0.7 0.6; 0.6 0.1 0.6; 0.5 0.5 0.1.
    widths = np.array([0.2, 0.1, 0.5, 0.4])
    assert found == pytest.approx(
        {
            "runs": 3,
            "accuracy_min": 0.5,
            "accuracy_max": 1.0,
            "confidence_mean": widths.mean(),
            "confidence_p95": np.quantile(widths, 0.95),
            "changed": 0.5,
        }
    )


def test_two_later_runs_that_differ_count_as_changed_and_one_run_has_no_spread() -> None:
    labels = np.array([0, 1])
    runs = [np.array([[0.6, 0.4], [0.6, 0.4]]), np.array([[0.6, 0.4], [0.6, 0.4]]), np.array([[0.6, 0.4], [0.4, 0.6]])]
    assert spread(runs, labels)["changed"] == 0.5
    alone = spread(runs[:1], labels)
    assert (alone["confidence_mean"], alone["confidence_p95"], alone["changed"]) == (0, 0, 0)
    assert alone["accuracy_min"] == alone["accuracy_max"] == 0.5


def report(value: float = 0.8, **more: float) -> dict[str, float]:
    """Figures with intervals of 0.05 either way."""
    figures = {"accuracy": value, "high_recall": 0.7, "high_precision": 0.9, "high_error": 0.1} | more
    plain = ("n", "accuracy_gain_augmentation", "accuracy_gain_filter")
    wide = {name: number for name, number in figures.items() if name not in plain or name.startswith("accuracy_gain")}
    bounds = {f"{name}_low": number - 0.05 for name, number in wide.items()}
    bounds |= {f"{name}_high": number + 0.05 for name, number in wide.items()}
    return {"n": 100.0} | bounds | figures


def say(*, strength: float = 1.0, base: dict[str, float] | None = None, **fused: float) -> list[str]:
    gained = {"high_recall_gain": 0.0, "high_error_gain": -0.1} | fused
    reports = {
        "base": report(accuracy_gain=0.3) | (base or {}),
        "fused": report(**gained),
        "majority": report(0.5),
    }
    return conclusion(reports, strength=strength)


def test_the_conclusion_names_the_figures() -> None:
    first, second, third = say(high_recall=0.8, high_recall_gain=0.1, high_error=0.05, high_precision=0.85)
    assert first == "The first model: accuracy 0.800 [0.750, 0.850] (n 100), better than the largest class (0.500)."
    assert second == (
        "With the correction (strength 1.00): accuracy 0.800 [0.750, 0.850]; high risk: recall 0.800 against 0.700 "
        "(gain +0.100 [+0.050, +0.150]), precision 0.850 against 0.900, errors -50% (gain -0.100 [-0.150, -0.050] "
        "of the share)."
    )
    assert third == "Fusion pays here."


@pytest.mark.parametrize(
    ("fused", "words"),
    [
        ({"high_error_gain": -0.06}, "Fusion pays here."),
        ({"high_error_gain": -0.04}, "Fusion is not shown to pay here: the interval of its gain holds 0."),
        ({"high_error_gain": 0.0}, "Fusion is not shown to pay here: the interval of its gain holds 0."),
        # Fewer errors, but by finding less.
        ({"high_error_gain": -0.2, "high_recall": 0.6}, "Fusion does not pay here: it finds less of the high risk."),
    ],
)
def test_what_is_said_of_fusion(fused: dict[str, float], words: str) -> None:
    assert say(**fused)[-1] == words


def test_without_strength_or_errors_nothing_is_divided() -> None:
    assert say(strength=0.0)[1:] == [
        "Fusion does not pay here: on tune no strength of the correction gains, so it is the identity."
    ]
    assert "errors +0%" in say(base={"high_error": 0.0})[1]


@pytest.mark.parametrize(
    ("gain", "words"), [(0.06, "better than"), (0.04, "not told apart from"), (-0.06, "worse than")]
)
def test_what_is_said_of_the_first_model(gain: float, words: str) -> None:
    assert f"{words} the largest class" in say(base=report(accuracy_gain=gain))[0]


@pytest.mark.parametrize(("gain", "words"), [(0.06, "pays"), (0.04, "is not shown to pay"), (-0.06, "harms")])
def test_what_is_said_of_augmentation_and_filter(gain: float, words: str) -> None:
    found = say(base=report(accuracy_gain=0.3, accuracy_gain_augmentation=gain, accuracy_gain_filter=-gain))
    interval = f"(gain {gain:+.3f} [{gain - 0.05:+.3f}, {gain + 0.05:+.3f}])"
    assert found[-2] == f"Augmentation {words} {interval}."
    opposite = {"pays": "harms", "harms": "pays"}.get(words, words)
    assert found[-1].startswith(f"The filter {opposite} (gain {-gain:+.3f}")


def test_mistakes_are_the_wrong_rows_most_confident_first() -> None:
    rows = pd.DataFrame({"sample_id": list("dbca"), "name": list("wxyz"), "picture": ["p"] * 4, "group": [0] * 4})
    probs = np.array([[0.6, 0.4], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1]])
    found = mistakes(rows, probs, np.array([1, 1, 1, 1]), ("low", "high"))
    assert found.to_dict("list") == {
        "sample_id": ["a", "b", "d"],
        "name": ["z", "x", "w"],
        "picture": ["p"] * 3,
        "true": ["high"] * 3,
        "predicted": ["low"] * 3,
        "confidence": [0.9, 0.9, 0.6],
    }


def test_records_as_rows(make_records: Make) -> None:
    records = [
        record | {"sample_id": str(number), "name": f"n{number}", "group": number // 2}
        for number, record in enumerate(make_records(["高", "低", "无"]))
    ]
    found = as_rows(records)
    assert list(found.columns) == ["sample_id", "name", "group", "label", "picture"]
    assert found["label"].tolist() == ["高", "低", "无"]
    assert found["picture"].tolist() == [record["images"][0] for record in records]


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_minimises_the_negative_log_likelihood(temperature: float) -> None:
    labels, probs = table(4000)
    log_probs = log_softmax(np.log(probs) * temperature, axis=1)

    def nll(value: float) -> float:
        return -float(np.log(calibrated(log_probs, value))[np.arange(len(labels)), labels].mean())

    found = fit_pool_temperature(log_probs, labels)
    best = minimize_scalar(nll, bounds=(0.01, 100), method="bounded", options={"xatol": 1e-8})
    assert found == pytest.approx(best.x, rel=1e-3)
    assert nll(found) == pytest.approx(best.fun, abs=1e-7)
    # The labels were drawn from the probabilities, of which these are a power.
    assert found == pytest.approx(temperature, rel=0.1)


def test_temperatures_stay_within_bounds() -> None:
    labels = np.arange(60) % 3
    sure = log_softmax(5.0 * np.eye(3)[labels], axis=1)
    assert fit_pool_temperature(-sure - 10, labels) == 100.0
    assert 0.01 <= fit_pool_temperature(sure, labels) < 1


def test_temperature_one_changes_nothing_and_a_hundred_flattens() -> None:
    _, probs = table()
    assert np.allclose(calibrated(np.log(probs), 1.0), probs, atol=1e-12)
    flat = calibrated(np.log(probs), 100.0)
    assert np.abs(flat - 0.2).max() < 0.03
    assert (flat.argmax(axis=1) == probs.argmax(axis=1)).all()


ANSWERS = ("无", "低", "中", "高", "非")
PROMPT = Prompt("你是消防安全员。", "这里的风险等级是什么？", ANSWERS, ANSWERS, ("a", "b", "c", "d", "e"))


def test_a_saved_model_scores_as_it_did_when_it_was_trained(
    network: Any,
    base_folder: Path,
    processor_folder: Path,
    processor: Any,
    make_records: Make,
    default_tuning: Tuning,
    tmp_path: Path,
) -> None:
    model = add_adapter(network, default_tuning, seed=0)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(value, 0.05)
    model.save_pretrained(tmp_path)
    prompt = PROMPT.to_json() | {"min_pixels": 784, "max_pixels": 7056}
    record = manifest(base_folder, processor_folder, prompt, model=model, weights_dtype="float32")
    write_json(tmp_path / RECORD, record)
    scorer = open_scorer(tmp_path, device="cpu", batch_size=3, decode_pixels=1_000_000)
    assert scorer.prompt == PROMPT
    records = make_records([None] * 5)
    how: dict[str, Any] = {"max_pixels": 1_000_000, "batch_size": 3, "what": "test"}
    expected = record_log_probs(model, records, processor, PROMPT, **how)
    assert np.array_equal(scorer.log_probs(records, what="test"), expected)
    assert np.abs(expected[0] - expected[1]).max() > 1e-6


@pytest.mark.parametrize("changes", [{}, {"train_vision": True}], ids=["lora", "vision"])
def test_adapters_that_share_a_base_score_as_each_alone(
    load_network: Callable[[], Any],
    base_folder: Path,
    processor_folder: Path,
    make_records: Make,
    default_tuning: Tuning,
    tmp_path: Path,
    changes: dict[str, Any],
) -> None:
    prompt = PROMPT.to_json() | {"min_pixels": 784, "max_pixels": 7056}
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for number, folder in enumerate(folders):
        # The last is plain LoRA: nothing of the vision towers before it may stay.
        tuning = default_tuning.model_copy(update=changes if number < 2 else {})
        model = add_adapter(load_network(), tuning, seed=number)
        with torch.no_grad():
            for name, value in model.named_parameters():
                if value.requires_grad and ("lora_B" in name or "visual" in name):
                    value += 0.05 * (number + 1)
        model.save_pretrained(folder)
        record = manifest(base_folder, processor_folder, prompt, model=model, weights_dtype="float32")
        write_json(folder / RECORD, record)
    records = make_records([None] * 5)
    how: dict[str, Any] = {"device": "cpu", "batch_size": 3, "decode_pixels": 1_000_000}
    together = [scorer.log_probs(records, what="test") for scorer in open_scorers(folders, **how)]
    alone = [open_scorer(folder, **how).log_probs(records, what="test") for folder in folders]
    assert all(np.array_equal(one, two) for one, two in zip(together, alone, strict=True))
    assert np.abs(together[0] - together[1]).max() > 1e-6
    assert np.abs(together[1] - together[2]).max() > 1e-6


def test_a_folder_without_fusion_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fusion\.json: run dvc repro vlm_predict"):
        open_predictor(tmp_path, device="cpu", batch_size=1, decode_pixels=1)


def test_blank_copies_are_grey_and_of_the_same_sizes(make_records: Make) -> None:
    records = make_records(["高"] * 7)
    with blank_copies(records, max_pixels=1_000_000) as blank:
        for one, two in zip(records, blank, strict=True):
            assert {**one, "images": two["images"]} == two
            with Image.open(one["images"][0]) as picture, Image.open(two["images"][0]) as grey:
                assert picture.size == grey.size
                assert set(grey.convert("L").tobytes()) == {128}
        places = [Path(record["images"][0]) for record in blank]
    assert not any(place.exists() for place in places)
