"""Fine-tuning against a loop written out by hand; targets, loss, what is kept, early stopping, resumption after a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as sk
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional
from transformers import Trainer, get_linear_schedule_with_warmup

from assay.params.text import TrainText
from assay.text.classifier import TextClassifier, build_classifier, load_tokenizer
from assay.text.encoder import load_encoder
from assay.text.training import Loss, balanced_weights, class_figures, encode, fine_tune, soft_targets

RNG = np.random.default_rng(6)
Settings = Callable[..., TrainText]
Rows = Callable[..., pd.DataFrame]


def network(folder: Path, *, num_classes: int = 2, dropout: float = 0.0, token_dropout: float = 0.0) -> TextClassifier:
    torch.manual_seed(3)
    return build_classifier(
        load_encoder(folder, dropout=dropout),
        load_tokenizer(folder),
        num_classes=num_classes,
        pooling="mean",
        dropout=dropout,
        token_dropout=token_dropout,
    )


def without_pair_dropout(model: TextClassifier) -> TextClassifier:
    if model.encoder.pairs is not None:
        model.encoder.pairs.dropout = 0.0
    return model


def data(folder: Path, rows: pd.DataFrame, *, num_classes: int = 2) -> list[dict[str, Any]]:
    targets = soft_targets(rows["label"].to_numpy(), num_classes=num_classes, teacher=None, weight=0.0)
    return encode(load_tokenizer(folder), list(rows["text"]), targets, max_tokens=24)


def values(model: TextClassifier) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def test_targets_are_the_labels_mixed_with_the_teacher() -> None:
    labels, teacher = np.array([0, 2]), np.array([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])
    hard = soft_targets(labels, num_classes=3, teacher=None, weight=0.7)
    assert hard.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert hard.dtype == np.float32
    mixed = soft_targets(labels, num_classes=3, teacher=teacher, weight=0.25)
    assert np.allclose(mixed, [[0.8, 0.075, 0.125], [0, 0.25, 0.75]])
    assert mixed.dtype == np.float32
    assert np.allclose(soft_targets(labels, num_classes=3, teacher=teacher, weight=1.0), teacher)


def test_the_loss_has_the_gradient_of_cross_entropy_and_divergence_from_the_teacher() -> None:
    labels, weight = torch.tensor([0, 2, 1, 1]), 0.3
    teacher = torch.softmax(torch.randn(4, 3), dim=1)
    targets = torch.from_numpy(soft_targets(labels.numpy(), num_classes=3, teacher=teacher.numpy(), weight=weight))
    logits = torch.randn(4, 3, requires_grad=True)
    found = Loss(None, 0.0)({"logits": logits}, targets)
    (ours,) = torch.autograd.grad(found, logits)
    hard = functional.cross_entropy(logits, labels)
    divergence = functional.kl_div(torch.log_softmax(logits, dim=1), teacher, reduction="batchmean")
    (theirs,) = torch.autograd.grad((1 - weight) * hard + weight * divergence, logits)
    assert torch.allclose(ours, theirs, atol=1e-6)
    soft = functional.cross_entropy(logits, teacher)
    assert found.item() == pytest.approx(float((1 - weight) * hard.item() + weight * soft.item()), abs=1e-6)


def test_class_weights_and_smoothing_are_torchs_own() -> None:
    labels, weights = torch.tensor([0, 2, 1, 1]), torch.tensor([0.5, 1.0, 3.0])
    logits, targets = torch.randn(4, 3), torch.eye(3)[labels]
    found = Loss(weights, 0.1)({"logits": logits}, targets)
    theirs = functional.cross_entropy(logits, labels, weight=weights, label_smoothing=0.1, reduction="sum") / 4
    assert float(found) == pytest.approx(float(theirs), abs=1e-6)


def test_accumulated_batches_have_the_mean_over_all_examples() -> None:
    logits, targets = torch.randn(7, 3), torch.eye(3)[torch.tensor([0, 2, 1, 1, 0, 2, 2])]
    loss = Loss(None, 0.0)
    # What the Trainer counts: labels that are not -100, of which a text has one per class.
    items = targets.ne(-100).sum()
    parts = [loss({"logits": logits[part]}, targets[part], items) for part in (slice(0, 3), slice(3, 5), slice(5, 7))]
    assert float(sum(parts)) == pytest.approx(float(loss({"logits": logits}, targets)), abs=1e-6)


def test_balanced_weights_are_scikit_learns() -> None:
    labels = np.array([0] * 7 + [1] * 2 + [2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert balanced_weights(labels, num_classes=3).tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert torch.isfinite(balanced_weights(np.array([0, 0]), num_classes=2)).all()


@pytest.mark.parametrize(("num_classes", "average"), [(2, "binary"), (4, "macro")])
def test_class_figures_are_scikit_learns(num_classes: int, average: str) -> None:
    truth, predicted = RNG.integers(0, num_classes, (2, 90))
    found = class_figures(truth, predicted, num_classes=num_classes)
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(truth, predicted),
            "f1": sk.f1_score(truth, predicted, average=average),
            "precision": sk.precision_score(truth, predicted, average=average),
            "recall": sk.recall_score(truth, predicted, average=average),
        }
    )
    assert class_figures(np.array([0, 1]), np.array([0, 0]), num_classes=2)["precision"] == 0.0


def test_texts_are_encoded_and_cut(text_encoder: Path) -> None:
    tokenizer = load_tokenizer(text_encoder)
    rows = encode(tokenizer, ["房间", "很" * 50], np.array([[1.0, 0.0], [0.25, 0.75]]), max_tokens=24)
    ids = tokenizer("房间")["input_ids"]
    assert rows[0] == {"input_ids": ids, "labels": [1.0, 0.0]}
    assert len(rows[1]["input_ids"]) == 24
    assert rows[1]["input_ids"][-1] == tokenizer.sep_token_id


@pytest.mark.parametrize(("num_classes", "weighted"), [(2, False), (3, True)])
def test_the_trainer_is_a_plain_torch_loop_step_by_step(
    text_encoder: Path,
    tmp_path: Path,
    make_rows: Rows,
    train_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    num_classes: int,
    weighted: bool,
) -> None:
    """Same seed, same batches in the same order: loss after loss, and the weights at the end."""
    rows = make_rows(44, num_classes=num_classes)
    train, val = (
        data(text_encoder, rows, num_classes=num_classes),
        data(text_encoder, rows[:9], num_classes=num_classes),
    )
    # 12 steps, of which the Trainer logs each.
    how = train_settings(label_smoothing=0.1, eval_every=0.01)
    weights = torch.tensor([0.5, 1.0, 2.0]) if weighted else None
    order: list[dict[str, torch.Tensor]] = []
    step = Trainer.training_step

    def heard(self: Trainer, model: Any, inputs: Any, *rest: Any) -> Any:
        order.append({name: value.clone() for name, value in inputs.items()})
        return step(self, model, inputs, *rest)

    monkeypatch.setattr(Trainer, "training_step", heard)
    model = without_pair_dropout(network(text_encoder, num_classes=num_classes))
    options: dict[str, Any] = {"class_weights": weights, "seed": 3, "cpu": True}
    history = fine_tune(model, load_tokenizer(text_encoder), train, val, how, tmp_path, **options)
    found = [row["loss"] for row in history if "loss" in row]

    plain = without_pair_dropout(network(text_encoder, num_classes=num_classes)).train()
    decayed = {name for name, _ in plain.named_parameters() if not ("bias" in name or "LayerNorm" in name)}
    groups = [
        {"params": [p], "weight_decay": how.weight_decay * (name in decayed)} for name, p in plain.named_parameters()
    ]
    optimizer = torch.optim.AdamW(groups, lr=how.lr)
    schedule = get_linear_schedule_with_warmup(optimizer, 3, 12)
    expected = []
    for batch in order:
        logits = plain(batch["input_ids"], batch["attention_mask"])["logits"]
        loss = functional.cross_entropy(
            logits, batch["labels"].argmax(dim=1), weight=weights, label_smoothing=0.1, reduction="sum"
        ) / len(logits)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        expected.append(loss.item())
    assert len(found) == len(expected) == 12
    assert np.allclose(found, expected, atol=1e-4)
    for name, value in values(plain).items():
        assert torch.allclose(value, model.state_dict()[name], atol=1e-5), name


def test_the_logged_loss_of_training_is_that_of_evaluation(
    text_encoder: Path, tmp_path: Path, make_rows: Rows, train_settings: Settings
) -> None:
    """Nothing is learned at this rate, and val is train: both are one figure."""
    train = data(text_encoder, make_rows(40))
    how = train_settings(lr=1e-12, epochs=1.0, eval_every=1.0)
    model = without_pair_dropout(network(text_encoder))
    options: dict[str, Any] = {"class_weights": None, "seed": 3, "cpu": True}
    history = fine_tune(model, load_tokenizer(text_encoder), train, train, how, tmp_path, **options)
    (trained,) = (row["loss"] for row in history if "loss" in row)
    (judged,) = (row["eval_loss"] for row in history if "eval_loss" in row)
    assert trained == pytest.approx(judged, abs=2e-4)
    assert judged == pytest.approx(np.log(2), abs=0.2)


def test_an_evaluation_every_ninth_of_an_epoch(
    text_encoder: Path, tmp_path: Path, make_rows: Rows, train_settings: Settings
) -> None:
    train, val = data(text_encoder, make_rows(200)), data(text_encoder, make_rows(4, seed=1))
    how = train_settings(epochs=3.0, eval_every=0.11, batch_size=2)
    options: dict[str, Any] = {"class_weights": None, "seed": 3, "cpu": True}
    history = fine_tune(network(text_encoder), load_tokenizer(text_encoder), train, val, how, tmp_path, **options)
    steps = [row["step"] for row in history if "eval_loss" in row]
    # And one at the end.
    assert steps == [*range(11, 300, 11), 300]
    assert len(steps) == 28
    assert [row["step"] for row in history if "loss" in row] == steps[:-1]
    assert {"eval_accuracy", "eval_f1", "eval_precision", "eval_recall"} <= set(history[-2])


class FiguresByPlan:
    """Stands for `class_figures`: accuracies that were planned, and the weights at each evaluation."""

    def __init__(self, plan: list[float], model: TextClassifier) -> None:
        self.plan, self.model = plan, model
        self.seen: list[dict[str, torch.Tensor]] = []

    def __call__(self, truth: np.ndarray, predicted: np.ndarray, *, num_classes: int) -> dict[str, float]:
        self.seen.append(values(self.model))
        return dict.fromkeys(("accuracy", "f1", "precision", "recall"), self.plan[len(self.seen) - 1])


def planned(
    plan: list[float],
    folder: Path,
    rows: pd.DataFrame,
    settings: TrainText,
    monkeypatch: pytest.MonkeyPatch,
    checkpoints: Path,
) -> tuple[FiguresByPlan, TextClassifier, list[dict[str, Any]]]:
    model = network(folder)
    figures = FiguresByPlan(plan, model)
    monkeypatch.setattr("assay.text.training.class_figures", figures)
    train = data(folder, rows)
    options: dict[str, Any] = {"class_weights": None, "seed": 3, "cpu": True}
    history = fine_tune(model, load_tokenizer(folder), train, train[:4], settings, checkpoints, **options)
    return figures, model, history


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(("keep", "place"), [("best", 1), ("last", 3)])
def test_the_weights_that_are_kept(
    text_encoder: Path,
    tmp_path: Path,
    make_rows: Rows,
    train_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    keep: str,
    place: int,
) -> None:
    how = train_settings(keep=keep)
    figures, model, _ = planned([0.5, 0.9, 0.7, 0.8], text_encoder, make_rows(40), how, monkeypatch, tmp_path)
    # 10 steps, evaluations after 3, 6, 9 and 10.
    assert not same(figures.seen[0], figures.seen[1])
    for number, seen in enumerate(figures.seen):
        assert same(seen, values(model)) == (number == place), number


def test_training_stops_when_nothing_gets_better(
    text_encoder: Path, tmp_path: Path, make_rows: Rows, train_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = [0.5, 0.8, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    how = train_settings(keep="best", early_stopping=2, epochs=5.0, eval_every=0.5)
    figures, model, history = planned(plan, text_encoder, make_rows(32), how, monkeypatch, tmp_path)
    assert len(figures.seen) == 4
    assert max(row["step"] for row in history) == 8 < 20
    assert same(figures.seen[1], values(model))


def test_a_loss_that_is_no_number_is_an_error(
    text_encoder: Path, tmp_path: Path, make_rows: Rows, train_settings: Settings
) -> None:
    model = network(text_encoder)
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    train = data(text_encoder, make_rows(16))
    options: dict[str, Any] = {"class_weights": None, "seed": 3, "cpu": True}
    with pytest.raises(FloatingPointError, match="the loss is NaN or infinite; a smaller lr"):
        fine_tune(model, load_tokenizer(text_encoder), train, train[:4], train_settings(), tmp_path, **options)
