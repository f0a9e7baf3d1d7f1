"""What the cascade is held against: expectations by brute force, and deferral that learns."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from assay.images.cascade.decision import decide
from assay.images.cascade.measure import Measured
from assay.images.cascade.rivals import compare, learned_deferral, mixed_metrics
from assay.metrics.binary import binary_metrics


def drawn(seed: int, n: int = 300) -> Measured:
    """Rows, six to a group, on which the ensemble is better than stage 1 and the expert."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    signs = 2 * labels - 1
    keys = pd.DataFrame({"sample_id": np.arange(n), "label": labels, "group_id": np.arange(n) // 6, "generator": "x"})
    logits = {"stage1": rng.normal(signs, 1.5), "ensemble": rng.normal(2.0 * signs, 1.5), "one": rng.normal(signs, 1.0)}
    return Measured(keys, logits, {"test": np.ones(n, dtype=bool)})


def levels_of(role: Measured) -> tuple[np.ndarray, np.ndarray]:
    return expit(role.logits["stage1"]), expit(role.logits["ensemble"])


def test_chance_is_measured_by_its_expectation() -> None:
    test, rng = drawn(0, n=40), np.random.default_rng(1)
    both = np.column_stack(levels_of(test))
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
    alone = mixed_metrics(test.labels, both[:, 0], weights=weights)
    for share, column in (((1.0, 0.0), 0), ((0.0, 1.0), 1)):
        ends = mixed_metrics(test.labels, both, weights=weights, shares=share)
        wanted = binary_metrics(test.labels, both[:, column], weights=weights)
        for name, values in ends.items():
            assert values == pytest.approx(wanted[name])
            assert column or values == pytest.approx(alone[name])


def test_learned_deferral_finds_where_the_second_network_is_worth_it() -> None:
    # The first is right where it is unsure and wrong where it says 0.8: nothing that confidence would find.
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 600)
    level = rng.choice([0.2, 0.45, 0.8], 600)
    first = np.where(level == 0.45, np.where(labels == 1, 0.55, 0.45), level)
    second = np.where(level == 0.8, np.where(labels == 1, 0.95, 0.05), first)
    seen = np.arange(600) % 5 > 0
    chosen = learned_deferral((first, second), labels, first, rows=seen, num=120)
    assert chosen.sum() == 120
    assert not chosen[~seen].any()
    assert (level[chosen] == 0.8).all()


def test_gains_are_differences_of_what_is_reported() -> None:
    test, tune = drawn(7), drawn(8)
    levels, refit = levels_of(test), expit(test.logits["one"])
    first, second = levels
    decisions = decide(first, second, exit_real=0.2, exit_forged=0.8)
    rows, num = test.slices["test"], int(decisions.deferred.sum())
    learned = learned_deferral(levels_of(tune), tune.labels, first, rows=rows, num=num)
    found = compare(test, decisions, stage1=first, levels=levels, refit=refit, learned=learned)
    share, labels = decisions.deferred.mean(), test.labels
    systems = {
        "stage1": first,
        "refit": np.where(decisions.deferred, refit, first),
        "learned": np.where(learned, second, first),
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
    chance = mixed_metrics(labels, np.column_stack(levels), shares=(1 - share, share))["auc"][0]
    assert found["random_deferral"]["auc"] == pytest.approx(chance)
    assert found["cascade"]["auc_gain_random"] == pytest.approx(ours["auc"][0] - chance)
    hard = decisions.deferred
    for name, values in (("refit", refit), ("first", first)):
        wanted = binary_metrics(labels[hard], second[hard])["auc"] - binary_metrics(labels[hard], values[hard])["auc"]
        assert found["deferred.second"][f"auc_gain_{name}"] == pytest.approx(wanted[0])


def test_nothing_is_said_of_deferred_rows_of_one_class() -> None:
    test = drawn(9, n=60)
    first = np.where(test.labels == 1, 0.5, 0.1)
    decisions = decide(first, first, exit_real=0.2, exit_forged=0.8)
    levels = (first, first)
    found = compare(test, decisions, stage1=first, levels=levels, refit=first, learned=decisions.deferred)
    assert "deferred.second" not in found
