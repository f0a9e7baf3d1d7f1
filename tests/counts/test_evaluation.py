"""Gains on paired resamples, the choice, and conclusions that follow from the metrics."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

from assay.core.params import load
from assay.counts.answers import Answers, answers, answers_table
from assay.counts.baselines import baseline_counts, logreg_probs, question_effects, setting_counts
from assay.counts.bins import cut, equal_width_bins, matched_cuts, quantile_bins
from assay.counts.coverage import judge_intervals
from assay.counts.evaluation import SIMPLE, choose, conclusion, gains, measure, on_val, peers, queue_gains
from assay.counts.queueing import measure_waits, with_limits
from assay.counts.systems import baseline_answers
from assay.metrics.paired import gain
from assay.params.counts import Counts

ROOT = Path(__file__).parents[2]
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
PEER = {"count": "tfidf_ridge", "bin": "tfidf_logreg", "linear": "tfidf_ridge"}
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
    found, poor = gains(MEASURED, "good", PEER), gains(MEASURED, "poor", PEER)
    assert gain(MEASURED["good"], MEASURED["good"], "mae", key="none")["none"] == 0
    expected = spearmanr(TRUTH, SAID["good"].counts)[0] - spearmanr(TRUTH, SAID["tfidf_ridge"].counts)[0]
    assert found["spearman_gain"] == pytest.approx(expected)
    assert 0 < found["spearman_gain_low"] < found["spearman_gain"] < found["spearman_gain_high"]
    assert poor["spearman_gain_high"] < 0
    blind = f1_score(BINS["quantile"].assign(TRUTH), SAID["setting_mean"].quantile, average="macro")
    ours = f1_score(BINS["quantile"].assign(TRUTH), SAID["good"].quantile, average="macro")
    assert found["macro_f1_gain_setting"] == pytest.approx(ours - blind)
    assert found["macro_f1_gain_setting_low"] > 0 > poor["macro_f1_gain_setting_high"]
    assert found["spearman_gain_linear"] == found["spearman_gain"]
    other = gains(MEASURED, "good", PEER | {"count": "setting_mean"})
    assert other["spearman_gain"] == found["spearman_gain_setting"] != other["spearman_gain_linear"]


def test_variant_and_peer_are_the_best_of_val_by_the_same_metric():
    values = {"a": (np.nan, 0.3), "b": (0.1, 0.2), "setting_mean": (0.6, 0.2), "tfidf_ridge": (0.5, 0.4)}
    values |= dict.fromkeys(("tfidf_logreg", "encoder_ridge", "majority", "median"), (None, 0.1))
    val = {name: {"spearman": spearman, "macro_f1": f1} for name, (spearman, f1) in values.items()}
    assert choose(val) == {"count": "b", "bin": "a"}
    assert peers(val) == {"count": "setting_mean", "bin": "tfidf_ridge", "linear": "tfidf_ridge"}


def test_val_is_measured_as_test_is():
    found = on_val(TRUTH, SAID, BINS)
    assert set(found) == set(SAID)
    for name in ("good", "tfidf_ridge"):
        assert found[name] == {metric: MEASURED[name].point[metric] for metric in ("spearman", "macro_f1")}


LOADS = (0.5, 0.9)
CALIB = pd.DataFrame({"counts": TRUTH, "group": GROUPS, "setting": "GPT-4, 0-Shot"})


def reported(variant: str) -> dict[str, dict[str, float]]:
    """What evaluate_counts reports of the systems of this file, with the gains of ``variant``."""
    said = SAID | {"median": answers(np.full(400, 18.0), BINS)}
    waits = measure_waits(TRUTH, {name: item.counts for name, item in said.items()}, GROUPS, loads=LOADS)
    aged = {f"aged_{name}_90{end}": 9.0 for name in ("wait", "p99") for end in ("", "_low", "_high")}
    table = pd.concat([CALIB, answers_table(said)], axis=1)
    judged = judge_intervals(table, table, level=0.9)
    reports = {name: with_limits(item) | aged | {"n": 400, "n_groups": 40} for name, item in waits.items()}
    for name in said:
        reports[name] |= judged[name].measured.summary()
    for name, item in MEASURED.items():
        reports[name] |= item.summary()
    for name in {variant, "equal_width"}:
        reports[name] |= gains(MEASURED, name, PEER) | queue_gains(waits, name, PEER, loads=LOADS)
        ours, theirs = judged[name].measured, judged["setting_mean"].measured
        reports[name] |= gain(ours, theirs, "interval_width", key="interval_width_gain_setting")
    reports["intervals.kind_GPT-4"] = reports[variant]
    return reports | {"queue": {"load_50": 0.5, "load_90": 0.9}, "intervals": {"level": 0.9, "num_groups": 40}}


@pytest.mark.parametrize(("variant", "word"), [("good", "better"), ("poor", "worse"), ("even", "not told apart")])
def test_the_conclusion_follows_from_the_metrics(variant, word):
    reports = reported(variant)
    chosen = {"count": variant, "bin": variant}
    lines = conclusion(chosen, PEER, reports)
    assert lines[0].startswith(
        f"For a count, {variant} has the best Spearman of the variants on val, tfidf_ridge that of"
    )
    assert lines[1].startswith(f"{variant} against tfidf_ridge, Spearman: {word} (")
    assert lines[2].startswith(f"{variant} against setting_mean, Spearman: ")
    assert lines[4].startswith(f"{variant} against tfidf_logreg, macro-F1: {word} (")
    assert lines[6].startswith("equal_width against majority, accuracy on equal-width bins: better (")
    assert lines[8].startswith("Mean wait for a server with load 0.5: ")
    half = f"{variant} against half of what the true counts save, mean wait at load 0.5: "
    half += {"good": "better (+", "poor": "worse (-", "even": "better (+"}[variant]
    assert any(line.startswith(half) and "holds for 2 comparisons together" in line for line in lines)
    worth = f"{variant} against tfidf_ridge, share of what the true counts save at load 0.9: {word} ("
    assert any(line.startswith(worth) for line in lines)
    assert "Intervals that are to hold 90% of the counts, learned on 40 problems of calib" in lines[-2]
    width = {"good": "better (-", "poor": "worse (+", "even": "worse (+"}[variant]
    assert lines[-1].startswith(f"{variant} against setting_mean, width of the intervals: {width}")
    # Where the best simple system is the mean of the setting, it is not said twice; the best linear one is then said.
    settled = conclusion(chosen, PEER | {"count": "setting_mean"}, reports)
    assert settled[2].startswith(f"{variant} against tfidf_ridge, Spearman: {word} (")
    assert len(settled) == len(lines)


def spelled(questions: list[str]) -> np.ndarray:
    """How often each letter and digit stands in each question: an embedding that needs no network."""
    return np.array(
        [[text.count(sign) for sign in "abcdefghijklmnopqrstuvwxyz0123456789"] for text in questions], float
    )


def test_all_numbers_are_cut_into_bins_by_one_rule():
    """Each system's bins are cut so that on val every bin is named as often as it occurs in train."""
    train = pd.DataFrame({"text": [f"w{n % 9} x{n % 5}" for n in range(400)], "setting": "s", "counts": TRUTH})
    rows = {"train": train, "val": train[::2], "test": train[1::2]}
    settings = load(Counts, ROOT / "params.yaml").evaluate_counts
    said = baseline_answers(rows, BINS, settings, embed=spelled, seed=0)
    assert set(said) == set(SIMPLE)
    for name in ("tfidf_ridge", "tfidf_logreg", "encoder_ridge"):
        cuts = matched_cuts(said[name]["val"].counts, BINS["quantile"].shares)
        for role in ("val", "test"):
            assert np.array_equal(said[name][role].quantile, cut(said[name][role].counts, cuts))
            assert len(said[name][role].counts) == 200
    assert set(said["majority"]["test"].quantile) == {int(np.argmax(BINS["quantile"].shares))}


def test_baselines_learn_from_words_and_stay_in_range():
    texts = [f"{'long' if n % 2 else 'short'} question w{n % 7}" for n in range(200)]
    counts = np.where(np.arange(200) % 2, 40, 4) + np.arange(200) % 3
    train = pd.DataFrame({"text": texts, "setting": "", "counts": counts})
    asked = pd.DataFrame({"text": ["long question w1", "short question w2", "never seen"], "setting": ["", "", "new"]})
    predicted = baseline_counts(train, asked, alpha=1.0, embed=spelled)["tfidf_ridge"]
    assert predicted[0] > 30 > 10 > predicted[1]
    assert ((predicted >= 4) & (predicted <= 42)).all()
    bins = equal_width_bins(counts, num_bins=10)  # bins between the two kinds are empty
    probs = logreg_probs(train, train[:5], bins, c=1.0, seed=0)
    assert probs.shape == (5, 10)
    assert np.allclose(probs.sum(axis=1), 1)
    assert (probs[:, 2:8] == 0).all()


def test_linear_baselines_take_the_setting_as_a_whole():
    """Of two settings of the same words, in another order, each has its own effect."""
    settings = np.array(["a b", "b a"])[np.arange(200) % 2]
    texts = [f"{setting}: w{n % 7}" for n, setting in enumerate(settings)]
    counts = np.where(np.arange(200) % 2, 40, 4)
    train = pd.DataFrame({"text": [text.replace(": ", " ") for text in texts], "setting": settings, "counts": counts})
    asked = train[:2].assign(text="w1")
    predicted = baseline_counts(train, asked, alpha=1.0, embed=spelled)["tfidf_ridge"]
    assert predicted[1] > 3 * predicted[0]


def test_the_effect_of_a_question_is_learned_once_whatever_settings_it_has():
    """Counts are the setting's times 3 for questions with an x; how many rows a question has must not matter."""
    asked_of = ["axe", "box", "cat", "dog", "exit", "fan", "gas", "hex", "ink", "jab", "kit", "fox"]
    rows = [(word, setting) for word in asked_of for setting in ("s", "t", "u") for _ in range(1 + 4 * (word == "cat"))]
    base = {"s": 5, "t": 20, "u": 80}
    table = [(f"{setting}: {word}", setting, base[setting] * (3 if "x" in word else 1)) for word, setting in rows]
    train = pd.DataFrame(table, columns=["text", "setting", "counts"])
    asked = pd.DataFrame({"text": ["s: six", "s: sin", "t: wax", "a"], "setting": ["s", "s", "t", ""]})
    found = baseline_counts(train, asked, alpha=1.0, embed=spelled)
    assert found["encoder_ridge"][0] > 1.8 * found["encoder_ridge"][1]
    assert found["encoder_ridge"][2] > 2.5 * found["encoder_ridge"][0]
    assert found["setting_mean"][0] == pytest.approx(found["setting_mean"][1])
    residuals = np.log1p(train["counts"]) - np.log1p(setting_counts(train, train["setting"]))
    once = train.drop_duplicates("text")
    again = question_effects(once, asked, residuals[once.index].to_numpy(), embed=spelled)
    assert again == pytest.approx(question_effects(train, asked, residuals.to_numpy(), embed=spelled))


def test_setting_counts_know_the_setting_alone():
    train = pd.DataFrame({"setting": ["a", "a", "b"], "counts": [1, 7, 9]})
    found = setting_counts(train, pd.Series(["b", "a", "new"]))
    # Geometric means of 1 + count: 2 and 8 give 4; over all, 2, 8 and 10.
    assert found == pytest.approx([9, 3, 160 ** (1 / 3) - 1])
