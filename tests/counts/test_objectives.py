"""Losses against coral-pytorch's documented values and torch's own; predictions that are probabilities."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from coral_pytorch.dataset import corn_label_from_logits, proba_to_label
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from assay.core.params import load
from assay.counts.bins import equal_width_bins, quantile_bins
from assay.counts.objectives import (
    ClassObjective,
    OrdinalObjective,
    RegressionObjective,
    class_weights,
    make_objective,
    objective_from_json,
    pairwise_loss,
)
from assay.params.counts import VARIANTS, Counts

ROOT = Path(__file__).parents[2]
COUNTS = np.random.default_rng(1).integers(2, 90, 400)
BINS = quantile_bins(COUNTS, num_bins=5, ties="error")


def test_corn_loss_is_the_documented_one():
    """coral-pytorch's docstring: seed 123, 8 examples of 99 features, 5 classes, loss 0.7127."""
    torch.manual_seed(123)
    features = torch.rand(8, 99)
    labels = torch.tensor([0, 1, 2, 2, 2, 3, 4, 4])
    outputs = torch.nn.Linear(99, 4)(features)
    total = OrdinalObjective(BINS, "corn").loss(outputs, labels)
    assert total.item() / 8 == pytest.approx(0.7127, abs=5e-5)


def test_coral_loss_is_the_documented_one():
    """coral-pytorch's docstring: levels of labels 2, 1 and 4 among 5 classes, mean loss 0.6920."""
    outputs = torch.tensor([[2.1, 1.8, -2.1, -1.8], [1.9, -1.0, -1.5, -1.3], [1.9, 1.8, 1.7, 1.6]])
    total = OrdinalObjective(BINS, "coral").loss(outputs, torch.tensor([2, 1, 4]))
    assert total.item() / 3 == pytest.approx(0.6920, abs=5e-5)


@pytest.mark.parametrize("name", ["corn", "coral"])
def test_ordinal_probabilities_are_probabilities_and_agree_with_the_library(name):
    outputs = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    if name == "coral":  # as its head makes them: one score, falling biases
        outputs = outputs[:, :1] + np.array([1.0, 0.4, -0.3, -1.2], dtype=np.float32)
    crossed = np.array([[-1.0, 2.0, 0.5, 0.0]])  # as CORAL's free biases may be in training
    for logits in (outputs, crossed):
        probs = OrdinalObjective(BINS, name).probs(logits)
        assert probs.min() >= 0
        assert np.allclose(probs.sum(axis=1), 1)
    tensor = torch.from_numpy(outputs)
    rank = corn_label_from_logits(tensor) if name == "corn" else proba_to_label(torch.sigmoid(tensor))
    assert np.array_equal(OrdinalObjective(BINS, name).bins_of(outputs, BINS), rank.numpy())


def test_class_loss_is_torchs_and_weighted_when_asked():
    outputs, labels = torch.randn(30, 5), torch.randint(0, 5, (30,))
    plain = ClassObjective(BINS, class_weights(BINS, "none")).loss(outputs, labels)
    assert torch.equal(plain, functional.cross_entropy(outputs, labels, reduction="sum"))
    weights = class_weights(BINS, "balanced")
    expected = functional.cross_entropy(outputs, labels, weight=torch.tensor(weights), reduction="sum")
    assert torch.equal(ClassObjective(BINS, weights).loss(outputs, labels), expected)


def test_balanced_weights_are_scikit_learns_with_nothing_for_an_empty_bin():
    labels = BINS.assign(COUNTS)
    expected = compute_class_weight("balanced", classes=np.arange(5), y=labels)
    assert np.allclose(class_weights(BINS, "balanced"), expected)
    gap = equal_width_bins([1, 1, 1, 9], num_bins=3)
    assert class_weights(gap, "balanced") == pytest.approx((2 / 3, 0, 2))


@pytest.mark.parametrize("log", [True, False])
def test_regression_comes_back_in_units(log):
    values = np.log1p(COUNTS) if log else COUNTS
    objective = RegressionObjective(log, float(values.mean()), float(values.std()), 2.0, 89.0)
    targets = objective.targets(COUNTS)
    assert targets.mean() == pytest.approx(0, abs=1e-5)
    assert targets.std() == pytest.approx(1, abs=1e-5)
    assert np.allclose(objective.counts(targets[:, None]), COUNTS, rtol=1e-4)
    outputs = torch.randn(len(targets), 1)
    squares = np.square(outputs[:, 0].numpy() - targets).sum()
    assert objective.loss(outputs, torch.from_numpy(targets)).item() == pytest.approx(squares, rel=1e-4)
    assert objective.counts(np.array([[-50.0], [50.0]])).tolist() == [2.0, 89.0]


def test_the_pairwise_loss_is_the_sum_over_rows_of_their_pairs_and_knows_no_shift():
    targets = torch.tensor([0.3, -1.0, 0.3, 2.0, 0.5])
    scores = torch.tensor([0.1, 0.4, -0.2, 1.0, 3.0], dtype=torch.float64)
    expected = 0.0
    for i in range(5):
        pairs = [j for j in range(5) if targets[i] != targets[j]]
        ahead = [(scores[i] - scores[j]) * torch.sign(targets[i] - targets[j]) for j in pairs]
        expected += sum(float(torch.log1p(torch.exp(-one))) for one in ahead) / len(pairs)
    assert pairwise_loss(scores, targets).item() == pytest.approx(expected)
    assert pairwise_loss(scores + 7, targets).item() == pytest.approx(expected)
    assert pairwise_loss(targets * 9, targets) < pairwise_loss(-targets * 9, targets)
    assert pairwise_loss(scores[:1], targets[:1]) == pairwise_loss(scores[:2], torch.zeros(2)) == 0
    for weight in (0.0, 0.5, 1.0):
        objective = RegressionObjective(True, 0.0, 1.0, 1.0, 9.0, weight)
        squares = functional.mse_loss(scores, targets.double(), reduction="sum").item()
        found = objective.loss(scores[:, None], targets.double()).item()
        assert found == pytest.approx((1 - weight) * squares + weight * expected, rel=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_an_objective_that_json_brings_back(variant):
    params = load(Counts, ROOT / "params.yaml")
    bins = {"quantile": BINS, "equal_width": BINS}
    objective = make_objective(variant, params.variant(variant), counts=COUNTS, bins=bins)
    assert objective_from_json(json.loads(json.dumps(objective.to_json()))) == objective
    outputs = np.random.default_rng(2).normal(size=(7, objective.num_outputs))
    counts = objective.counts(outputs)
    assert ((counts >= 1) & (counts <= COUNTS.max())).all()
    targets = torch.from_numpy(np.asarray(objective.targets(COUNTS[:7])))
    assert torch.isfinite(objective.loss(torch.from_numpy(outputs), targets))


def test_an_unknown_objective_is_rejected():
    with pytest.raises(ValueError, match="kind 'tree' is not known"):
        objective_from_json({"kind": "tree"})
