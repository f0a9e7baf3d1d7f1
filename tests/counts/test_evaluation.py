"""Gains on paired resamples, the choice, and conclusions that follow from the metrics."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

from assay.counts.answers import Answers, answers
from assay.counts.baselines import baseline_counts, logreg_probs, setting_counts
from assay.counts.bins import equal_width_bins, quantile_bins
from assay.counts.evaluation import choose, conclusion, gains, measure

RNG = np.random.default_rng(2)
TRUTH = np.round(RNG.lognormal(2.8, 0.7, 400)) + 1
GROUPS = np.repeat(np.arange(40), 10)
BINS = {
    "quantile": quantile_bins(TRUTH, num_bins=8, ties="merge"),
    "equal_width": equal_width_bins(TRUTH, num_bins=10),
}


def noisy(scale: float) -> Answers:
    return answers(np.maximum(1, TRUTH * np.exp(RNG.normal(0, scale, len(TRUTH)))), BINS)


SAID = {"good": noisy(0.2), "tfidf_ridge": noisy(0.8), "tfidf_logreg": noisy(0.8), "poor": noisy(2.5)}
SAID |= {"setting_mean": noisy(0.5), "even": noisy(0.8), "equal_width": noisy(0.2)}
SAID["majority"] = Answers(np.full(400, 12.0), np.full(400, 3), np.zeros(400, dtype=np.int64))
MEASURED = {name: measure(TRUTH, GROUPS, item, BINS) for name, item in SAID.items()}


def test_a_report_holds_the_metrics_of_the_libraries():
    report = MEASURED["good"].summary()
    assert report["spearman"] == pytest.approx(spearmanr(TRUTH, SAID["good"].counts)[0])
    labels = BINS["quantile"].assign(TRUTH)
    assert report["macro_f1"] == pytest.approx(f1_score(labels, SAID["good"].quantile, average="macro"))
    wide = BINS["equal_width"].assign(TRUTH)
    assert report["width_accuracy"] == pytest.approx(np.mean(wide == SAID["good"].width))
    assert report["n"] == 400
    assert report["n_groups"] == 40
    # The trap of equal-width bins: a constant looks well by accuracy.
    constant = MEASURED["majority"].summary()
    assert constant["width_accuracy"] > 0.4 > 0.1 > constant["width_macro_f1"]


def test_gains_are_those_of_pairs():
    found, poor = gains(MEASURED, "good"), gains(MEASURED, "poor")
    expected = spearmanr(TRUTH, SAID["good"].counts)[0] - spearmanr(TRUTH, SAID["tfidf_ridge"].counts)[0]
    assert found["spearman_gain"] == pytest.approx(expected)
    assert 0 < found["spearman_gain_low"] < found["spearman_gain"] < found["spearman_gain_high"]
    assert poor["spearman_gain_high"] < 0
    blind = f1_score(BINS["quantile"].assign(TRUTH), SAID["setting_mean"].quantile, average="macro")
    ours = f1_score(BINS["quantile"].assign(TRUTH), SAID["good"].quantile, average="macro")
    assert found["macro_f1_gain_setting"] == pytest.approx(ours - blind)
    assert found["macro_f1_gain_setting_low"] > 0 > poor["macro_f1_gain_setting_high"]


def test_choice_takes_the_best_of_val_and_passes_over_the_undefined():
    val = {"a": {"spearman": np.nan, "macro_f1": 0.3}, "b": {"spearman": 0.1, "macro_f1": 0.2}}
    assert choose(val) == {"count": "b", "bin": "a"}


@pytest.mark.parametrize(
    ("variant", "words"), [("good", "better than"), ("poor", "worse than"), ("even", "not told apart")]
)
def test_the_conclusion_follows_from_the_metrics(variant, words):
    reports = {name: item.summary() for name, item in MEASURED.items()}
    reports[variant] |= gains(MEASURED, variant)
    lines = conclusion({"count": variant, "bin": variant}, reports)
    assert words in lines[0]
    assert variant in lines[0]
    assert any("costs next to nothing" in line for line in lines) == (variant == "poor")
    assert "Equal-width bins" in lines[-1]
    assert any("so it reads more than the setting" in line for line in lines) == (variant == "good")


def test_baselines_learn_from_words_and_stay_in_range():
    texts = [f"{'long' if n % 2 else 'short'} question w{n % 7}" for n in range(200)]
    counts = np.where(np.arange(200) % 2, 40, 4) + np.arange(200) % 3
    train = pd.DataFrame({"text": texts, "setting": "", "counts": counts})
    asked = pd.DataFrame({"text": ["long question w1", "short question w2", "never seen"], "setting": ""})
    predicted = baseline_counts(train, asked, alpha=1.0)[0]["tfidf_ridge"]
    assert predicted[0] > 30 > 10 > predicted[1]
    assert ((predicted >= 4) & (predicted <= 42)).all()
    bins = equal_width_bins(counts, num_bins=10)  # bins between the two kinds are empty
    probs = logreg_probs(train, texts[:5], bins, c=1.0, seed=0)
    assert probs.shape == (5, 10)
    assert np.allclose(probs.sum(axis=1), 1)
    assert (probs[:, 2:8] == 0).all()


def test_setting_counts_know_the_setting_alone():
    train = pd.DataFrame({"setting": ["a", "a", "b"], "counts": [1, 7, 9]})
    found = setting_counts(train, pd.Series(["b", "a", "new"]))
    # Geometric means of 1 + count: 2 and 8 give 4; over all, 2, 8 and 10.
    assert found == pytest.approx([9, 3, 160 ** (1 / 3) - 1])
