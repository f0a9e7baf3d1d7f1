"""Accuracy by length, the worst mistakes, and words that follow from the metrics."""

import numpy as np
import pandas as pd

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


def gains(**values: float) -> dict[str, float]:
    """Gains with intervals of 0.01 either way, in 50 groups."""
    found = {"n_groups": 50.0}
    for key, value in values.items():
        found |= {key: value, f"{key}_low": value - 0.01, f"{key}_high": value + 0.01}
    return found


def test_what_each_part_is_worth_follows_from_its_gain():
    found = {
        "test": gains(accuracy_gain=0.02, accuracy_gain_linear=0.005, accuracy_gain_small=0.012),
        "linear": gains(accuracy_gain=0.015),
        "pretrained": gains(accuracy_gain_linear=0.03),
        "distilled": gains(accuracy_gain_own=-0.02),
    }
    rest = "0]; 50 groups, one training)."
    assert conclusion(found) == [
        f"What ships against character bigrams, accuracy: better (+0.0200 [+0.0100, +0.030{rest}",
        f"What ships against the linear member alone, accuracy: not told apart (+0.0050 [-0.0050, +0.015{rest}",
        f"What ships against the small classifier, accuracy: better (+0.0120 [+0.0020, +0.022{rest}",
        f"The pretrained network alone against the linear member alone, accuracy: better (+0.0300 [+0.0200, +0.040{rest}",
        "The own encoder taught by the pretrained network against the own encoder alone, accuracy: worse (-0.0200 "
        f"[-0.0300, -0.010{rest}",
        "The linear member against character bigrams, accuracy: better (+0.0150 [+0.0050, +0.0250]; 50 groups).",
    ]
    # Without a linear member nothing is said of it.
    assert len(conclusion({"test": gains(accuracy_gain=0.02), "own": gains(accuracy_gain=0.0)})) == 2
