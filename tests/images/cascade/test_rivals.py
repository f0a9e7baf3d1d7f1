"""What the cascade is held against: expectations by brute force, deferral that learns, and sentences from figures."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from assay.images.cascade.decision import decide
from assay.images.cascade.measure import Measured
from assay.images.cascade.rivals import compare, conclusion, learned_deferral, mixed_metrics, refit_name
from assay.metrics.binary import binary_metrics


def role(stage1: np.ndarray, ensemble: np.ndarray, labels: np.ndarray, *, seen: np.ndarray | None = None) -> Measured:
    """Rows with these probabilities, six to a group; the better expert is the second."""
    n = len(labels)
    keys = pd.DataFrame({"sample_id": np.arange(n), "label": labels, "group_id": np.arange(n) // 6, "generator": "x"})
    rng, signs = np.random.default_rng(5), 2 * labels - 1
    experts = {"weak": rng.normal(signs, 4.0), "strong": rng.normal(signs, 1.0)}
    slices = {"test": np.ones(n, dtype=bool) if seen is None else seen}
    return Measured(keys, stage1, logit(ensemble), experts, slices)


def drawn(seed: int, n: int = 300) -> Measured:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    signs = 2 * labels - 1
    return role(expit(rng.normal(signs, 1.5)), expit(rng.normal(2.0 * signs, 1.5)), labels)


def test_chance_is_measured_by_its_expectation() -> None:
    test, rng = drawn(0, n=40), np.random.default_rng(1)
    both = np.column_stack([test.stage1, expit(test.ensemble_logits)])
    weights = rng.integers(0, 3, (2, 40))
    found = mixed_metrics(test.labels, both, weights=weights, shares=(0.7, 0.3))
    draws: dict[str, list[np.ndarray]] = {"auc": [], "balanced_accuracy": []}
    for _ in range(3000):
        probs = np.where(rng.random(40) < 0.3, both[:, 1], both[:, 0])
        one = binary_metrics(test.labels, probs, weights=weights)
        for name, values in draws.items():
            values.append(one[name])
    for name, values in draws.items():
        spread = np.std(values, axis=0) / np.sqrt(len(values))
        assert (np.abs(found[name] - np.mean(values, axis=0)) < 5 * spread).all()
    alone = mixed_metrics(test.labels, test.stage1, weights=weights)
    for share, column in (((1.0, 0.0), 0), ((0.0, 1.0), 1)):
        ends = mixed_metrics(test.labels, both, weights=weights, shares=share)
        wanted = binary_metrics(test.labels, both[:, column], weights=weights)
        for name, values in ends.items():
            assert values == pytest.approx(wanted[name])
            assert column or values == pytest.approx(alone[name])


def test_learned_deferral_finds_where_the_ensemble_is_worth_it() -> None:
    # Stage 1 is right where it is unsure and wrong where it says 0.8: nothing that confidence would find.
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 600)
    level = rng.choice([0.2, 0.45, 0.8], 600)
    stage1 = np.where(level == 0.45, np.where(labels == 1, 0.55, 0.45), level)
    ensemble = np.where(level == 0.8, np.where(labels == 1, 0.95, 0.05), stage1)
    seen = np.arange(600) % 5 > 0
    tune, test = role(stage1, ensemble, labels), role(stage1, ensemble, labels, seen=seen)
    deferred = np.arange(600) % 4 == 0
    chosen = learned_deferral(tune, test, temperature=1.0, deferred=deferred)
    assert chosen.sum() == (deferred & seen).sum()
    assert not chosen[~seen].any()
    assert (level[chosen] == 0.8).all()


def test_gains_are_differences_of_what_is_reported() -> None:
    test, tune = drawn(7), drawn(8)
    assert refit_name(tune) == "strong"
    ensemble, refit = expit(test.ensemble_logits), expit(test.expert_logits["strong"])
    decisions = decide(test.stage1, ensemble, exit_real=0.2, exit_forged=0.8)
    learned = learned_deferral(tune, test, temperature=1.0, deferred=decisions.deferred)
    found = compare(test, decisions, ensemble=ensemble, refit=refit, learned=learned)
    share, labels = decisions.deferred.mean(), test.labels
    systems = {
        "stage1": test.stage1,
        "refit": np.where(decisions.deferred, refit, test.stage1),
        "learned": np.where(learned, ensemble, test.stage1),
    }
    ours = binary_metrics(labels, decisions.probs)
    for rival, probs in systems.items():
        for metric in ("auc", "balanced_accuracy"):
            gain, theirs = found["cascade"][f"{metric}_gain_{rival}"], binary_metrics(labels, probs)[metric][0]
            assert gain == pytest.approx(ours[metric][0] - theirs)
            assert (
                found["cascade"][f"{metric}_gain_{rival}_low"]
                <= gain
                <= found["cascade"][f"{metric}_gain_{rival}_high"]
            )
    both = np.column_stack([test.stage1, ensemble])
    chance = mixed_metrics(labels, both, shares=(1 - share, share))["auc"][0]
    assert found["random_deferral"]["auc"] == pytest.approx(chance)
    assert found["cascade"]["auc_gain_random"] == pytest.approx(ours["auc"][0] - chance)
    hard = decisions.deferred
    wanted = binary_metrics(labels[hard], ensemble[hard])["auc"] - binary_metrics(labels[hard], refit[hard])["auc"]
    assert found["deferred.ensemble"]["auc_gain_refit"] == pytest.approx(wanted[0])


def test_nothing_is_said_of_deferred_rows_of_one_class() -> None:
    test = drawn(7)
    probs = np.where(test.labels == 1, 0.9, 0.1)
    decisions = decide(probs, probs, exit_real=0.2, exit_forged=0.8)
    found = compare(test, decisions, ensemble=probs, refit=probs, learned=decisions.deferred)
    assert "deferred.ensemble" not in found


def test_the_sentences_hold_figures_alone() -> None:
    gains = {f"{metric}_gain_{rival}": 0.02 for metric in ("auc", "balanced_accuracy") for rival in ("stage1", "refit")}
    gains |= {
        f"{metric}_gain_{rival}": -0.03 for metric in ("auc", "balanced_accuracy") for rival in ("random", "learned")
    }
    ours = {"n_groups": 200}
    for name, value in gains.items():
        ours |= {name: value, f"{name}_low": value - 0.01, f"{name}_high": value + 0.01}
    key = "balanced_accuracy_gain_random"
    budgets = {"frontier.0.1": {"n_groups": 9, key: 0.02, f"{key}_low": 0.01, f"{key}_high": 0.03}}
    budgets |= {"frontier.0.2": {"n_groups": 9, key: -0.02, f"{key}_low": -0.05, f"{key}_high": 0.01}}
    costs = {f"cost.{name}_macs": 1e6 for name in ("stage1", "refit", "refit_cascade", "cascade")}
    metrics = costs | {"refit": "strong", "speedup": 0.5, "speedup_refit_cascade": 1.5}
    lines = conclusion(metrics, {"cascade": ours, "deferred.ensemble": ours} | budgets)
    assert lines[0].startswith("The cascade against stage 1 alone, AUC: better (+0.0200 [")
    assert "holds for 8 comparisons together, one training" in lines[0]
    assert lines[7].startswith(
        "The cascade against learned deferral at equal cost, balanced accuracy: worse (-0.0300 ["
    )
    assert lines[8].startswith("On what stage 1 defers, the ensemble against stage 1, AUC: better (")
    assert "at 2 budgets (exploratory): less balanced accuracy at 1; better at 1 and worse at 0 beyond" in lines[12]
    assert len(conclusion(metrics, {"cascade": ours} | budgets)) == 10
