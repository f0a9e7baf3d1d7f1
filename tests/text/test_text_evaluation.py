"""Accuracy by length, the worst mistakes, and words that follow from the metrics."""

import numpy as np
import pandas as pd
import pytest

from assay.metrics.multiclass import multiclass_metrics
from assay.text.evaluation import by_length, conclusion, mistakes

OPTIONS = {"metrics": multiclass_metrics}


def rows(lengths: list[int], labels: list[int]) -> pd.DataFrame:
    names = [f"id{number}" for number in range(len(lengths))]
    texts = ["字" * length for length in lengths]
    return pd.DataFrame({"sample_id": names, "text": texts, "label": labels, "group": np.arange(len(lengths))})


def sure_of(classes: list[int], *, num_classes: int = 2) -> np.ndarray:
    return np.eye(num_classes)[classes] * 0.8 + 0.2 / num_classes


def test_a_range_begins_at_its_edge_and_empty_ones_are_left_out():
    table = rows([1, 14, 15, 29, 30, 400], [0, 1, 0, 1, 0, 1])
    found = by_length(table, sure_of([0, 1, 0, 0, 1, 0]), edges=[15, 30, 60, 120], **OPTIONS)
    assert found["characters"].tolist() == ["0-14", "15-29", "30-59", "120+"]
    assert found["n"].tolist() == [2, 2, 1, 1]
    assert found["accuracy"].tolist() == [1.0, 0.5, 0.0, 0.0]
    assert found.columns.tolist() == ["characters", "n", "accuracy", "accuracy_low", "accuracy_high"]
    # Two texts are too few for an interval, six are not.
    assert found["accuracy_low"].isna().all()
    whole = by_length(table, sure_of([0, 1, 0, 0, 1, 0]), edges=[], **OPTIONS)
    assert whole["accuracy_low"][0] < 0.5 < whole["accuracy_high"][0]
    assert whole[["characters", "n", "accuracy"]].to_numpy().tolist() == [["0+", 6, 0.5]]


def test_mistakes_are_the_surest_wrong_answers():
    table = rows([3, 4, 5, 6, 7], [0, 1, 2, 1, 1])
    probs = np.array([[0.9, 0.1, 0], [0.6, 0.4, 0], [0.1, 0.7, 0.2], [0.7, 0.2, 0.1], [0.05, 0.95, 0]])
    found = mistakes(table, probs, ["bad", "mixed", "good"], limit=10)
    # Equal confidence: by sample_id.
    assert found["sample_id"].tolist() == ["id2", "id3", "id1"]
    assert found["label"].tolist() == ["good", "mixed", "mixed"]
    assert found["predicted"].tolist() == ["mixed", "bad", "bad"]
    assert found["confidence"].tolist() == [0.7, 0.7, 0.6]
    assert found["text"].str.len().tolist() == [5, 6, 4]
    assert mistakes(table, probs, ["bad", "mixed", "good"], limit=1)["sample_id"].tolist() == ["id2"]
    assert mistakes(table, np.eye(3)[table["label"]], ["bad", "mixed", "good"], limit=3).empty


BETTER, UNCLEAR, WORSE = (0.01, 0.03), (-0.01, 0.03), (-0.03, -0.01)


def gain(key: str, interval: tuple[float, float]) -> dict[str, float]:
    low, high = interval
    return {key: (low + high) / 2, f"{key}_low": low, f"{key}_high": high}


def reports(**gains: tuple[float, float]) -> dict[str, dict[str, float]]:
    """Metrics of a classifier that ships and of one network, with these gains over the bigrams."""
    metrics = {"accuracy": 0.9, "accuracy_low": 0.88, "accuracy_high": 0.92, "n": 100.0}
    gains = {"test": BETTER, "network": UNCLEAR} | gains
    ours = {name: metrics | gain("accuracy_gain", interval) for name, interval in gains.items()}
    return ours | {"tfidf_bigram": {"accuracy": 0.87}}


@pytest.mark.parametrize(
    ("interval", "verdict", "use"),
    [
        (BETTER, "better than", "Use the classifier that ships."),
        ((0.0, 0.03), "not told apart from", "Character bigrams cost next to nothing"),
        (WORSE, "worse than", "Character bigrams cost next to nothing"),
    ],
)
def test_what_to_use_follows_from_the_interval(interval, verdict, use):
    first, alone, last = conclusion(reports(test=interval, network=WORSE))
    assert f"accuracy 0.9000 [0.8800, 0.9200] (n 100), {verdict} character bigrams' 0.8700" in first
    assert f"[{interval[0]:+.4f}, {interval[1]:+.4f}]" in first
    assert alone.startswith("One network alone: 0.9000, worse than the bigrams")
    assert last.startswith(use)


@pytest.mark.parametrize(
    ("interval", "verdict", "pays"),
    [
        (BETTER, "better than", "pays"),
        (UNCLEAR, "not told apart from", "is not shown to pay"),
        (WORSE, "worse than", "harms"),
    ],
)
def test_what_pretraining_and_the_networks_add_is_said(interval, verdict, pays):
    found = reports() | {"no_pretraining": {"accuracy": 0.85}}
    found["linear"] = found["test"] | {"accuracy": 0.88}
    found["test"] |= gain("accuracy_gain_linear", interval)
    found["network"] |= gain("accuracy_gain_pretraining", interval)
    lines = conclusion(found)
    assert len(lines) == 5
    assert lines[2].startswith("Its linear member alone: 0.8800, better than the bigrams")
    low, high = interval
    assert f"all together are {verdict} it (gain {(low + high) / 2:+.4f} [{low:+.4f}, {high:+.4f}])" in lines[2]
    assert lines[3].startswith(f"Pretraining {pays}: 0.9000 with, 0.8500 without")
