"""Fine-tuning against a loop written out by hand; targets, loss, what is kept, and early stopping."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional
from transformers import Trainer, get_linear_schedule_with_warmup

from assay.text.classifier import TextClassifier, load_tokenizer
from assay.text.training import Loss, balanced_weights, class_metrics, encode, fine_tune, soft_targets

RNG = np.random.default_rng(6)


def values(model: TextClassifier) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@pytest.fixture
def network(text_encoder, make_classifier):
    """Function to a classifier without dropout; each call gives the same weights."""

    def new(num_classes=2):
        model = make_classifier(text_encoder, seed=3, encoder_dropout=0.0, num_classes=num_classes)
        model.encoder.pairs.dropout = 0.0
        return model

    return new


@pytest.fixture
def tune(text_encoder, tmp_path, train_settings):
    """Function that fine-tunes a classifier on rows, judged on the val rows; returns the history."""

    def run(model, train, val, *, weights=None, **changes):
        tokenizer, data = load_tokenizer(text_encoder), []
        for rows in (train, val):
            labels, size = rows["label"].to_numpy(), model.head.out_features
            targets = soft_targets(labels, num_classes=size, teacher=None, weight=0.0)
            data.append(encode(tokenizer, list(rows["text"]), targets, max_tokens=24))
        options = {"class_weights": weights, "seed": 3, "cpu": True}
        return fine_tune(model, tokenizer, *data, train_settings(**changes), tmp_path, **options)

    return run


def test_targets_are_the_labels_mixed_with_the_teacher():
    labels, teacher = np.array([0, 2]), np.array([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])
    hard = soft_targets(labels, num_classes=3, teacher=None, weight=0.7)
    assert hard.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert hard.dtype == np.float32
    mixed = soft_targets(labels, num_classes=3, teacher=teacher, weight=0.25)
    assert np.allclose(mixed, [[0.8, 0.075, 0.125], [0, 0.25, 0.75]])
    assert mixed.dtype == np.float32
    assert np.allclose(soft_targets(labels, num_classes=3, teacher=teacher, weight=1.0), teacher)


def test_the_loss_has_the_gradient_of_cross_entropy_and_divergence_from_the_teacher():
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


def test_accumulated_batches_have_torchs_mean_over_all_examples_with_class_weights_and_smoothing():
    labels, weights = torch.tensor([0, 2, 1, 1, 0, 2, 2]), torch.tensor([0.5, 1.0, 3.0])
    logits, targets = torch.randn(7, 3), torch.eye(3)[labels]
    loss = Loss(weights, 0.1)
    theirs = functional.cross_entropy(logits, labels, weight=weights, label_smoothing=0.1, reduction="sum") / 7
    assert float(loss({"logits": logits}, targets)) == pytest.approx(float(theirs), abs=1e-6)
    # What the Trainer counts: labels that are not -100, of which a text has one per class.
    items = targets.ne(-100).sum()
    parts = [loss({"logits": logits[part]}, targets[part], items) for part in (slice(0, 3), slice(3, 5), slice(5, 7))]
    assert float(sum(parts)) == pytest.approx(float(theirs), abs=1e-6)


def test_balanced_weights_are_scikit_learns():
    labels = np.array([0] * 7 + [1] * 2 + [2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert balanced_weights(labels, num_classes=3).tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert torch.isfinite(balanced_weights(np.array([0, 0]), num_classes=2)).all()


@pytest.mark.parametrize(("num_classes", "average"), [(2, "binary"), (4, "macro")])
def test_class_metrics_are_scikit_learns(num_classes, average):
    truth, predicted = RNG.integers(0, num_classes, (2, 90))
    found = class_metrics(truth, predicted, num_classes=num_classes)
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(truth, predicted),
            "f1": sk.f1_score(truth, predicted, average=average),
            "precision": sk.precision_score(truth, predicted, average=average),
            "recall": sk.recall_score(truth, predicted, average=average),
        }
    )
    assert class_metrics(np.array([0, 1]), np.array([0, 0]), num_classes=2)["precision"] == 0.0


def test_texts_are_encoded_and_cut(text_encoder):
    tokenizer = load_tokenizer(text_encoder)
    rows = encode(tokenizer, ["房间", "很" * 50], np.array([[1.0, 0.0], [0.25, 0.75]]), max_tokens=24)
    ids = tokenizer("房间")["input_ids"]
    assert rows[0] == {"input_ids": ids, "labels": [1.0, 0.0]}
    assert len(rows[1]["input_ids"]) == 24
    assert rows[1]["input_ids"][-1] == tokenizer.sep_token_id


@pytest.mark.parametrize(("num_classes", "weights"), [(2, None), (3, torch.tensor([0.5, 1.0, 2.0]))])
def test_the_trainer_is_a_plain_torch_loop_step_by_step(
    network, tune, make_rows, train_settings, monkeypatch, num_classes, weights
):
    """Same seed, same batches in the same order: loss after loss, and the weights at the end."""
    rows, settings = make_rows(44, num_classes=num_classes), train_settings()
    order = []
    step = Trainer.training_step

    def heard(self, model, inputs, *rest):
        order.append({name: value.clone() for name, value in inputs.items()})
        return step(self, model, inputs, *rest)

    monkeypatch.setattr(Trainer, "training_step", heard)
    model = network(num_classes)
    # 12 steps, of which the Trainer logs each.
    history = tune(model, rows, rows[:9], weights=weights, label_smoothing=0.1, eval_every=0.01)
    found = [row["loss"] for row in history if "loss" in row]

    plain = network(num_classes).train()
    optimizer = torch.optim.AdamW(
        [
            {"params": [p], "weight_decay": 0.0 if "bias" in name or "LayerNorm" in name else settings.weight_decay}
            for name, p in plain.named_parameters()
        ],
        lr=settings.lr,
    )
    schedule = get_linear_schedule_with_warmup(optimizer, 3, 12)
    expected = []
    for batch in order:
        logits = plain(batch["input_ids"], batch["attention_mask"])["logits"]
        labels = batch["labels"].argmax(dim=1)
        total = functional.cross_entropy(logits, labels, weight=weights, label_smoothing=0.1, reduction="sum")
        loss = total / len(logits)
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


def test_the_logged_loss_of_training_is_that_of_evaluation(network, tune, make_rows):
    """Nothing is learned at this rate, and val is train: both are one number."""
    rows = make_rows(40)
    history = tune(network(), rows, rows, lr=1e-12, epochs=1.0, eval_every=1.0)
    (trained,) = (row["loss"] for row in history if "loss" in row)
    (judged,) = (row["eval_loss"] for row in history if "eval_loss" in row)
    assert trained == pytest.approx(judged, abs=2e-4)
    assert judged == pytest.approx(np.log(2), abs=0.2)


def test_an_evaluation_every_third_of_an_epoch_and_one_at_the_end(network, tune, make_rows):
    history = tune(network(), make_rows(20), make_rows(4, seed=1), epochs=3.0, eval_every=0.35, batch_size=2)
    steps = [row["step"] for row in history if "eval_loss" in row]
    assert steps == [*range(4, 30, 4), 30]
    assert [row["step"] for row in history if "loss" in row] == steps[:-1]
    assert {"eval_accuracy", "eval_f1", "eval_precision", "eval_recall"} <= set(history[-2])


@pytest.mark.parametrize(
    ("changes", "accuracies", "place", "last"),
    [
        ({"keep": "best"}, [0.5, 0.9, 0.7, 0.8], 1, 10),
        ({"keep": "last"}, [0.5, 0.9, 0.7, 0.8], 3, 10),
        ({"keep": "best", "early_stopping": 2, "epochs": 5.0}, [0.5, 0.8, 0.8, 0.7, 0.9], 1, 12),
    ],
)
def test_the_weights_that_are_kept(network, tune, make_rows, monkeypatch, changes, accuracies, place, last):
    """Five steps an epoch, an evaluation after every third and at the end."""
    model, rows, seen = network(), make_rows(40), []

    def metrics(truth, predicted, *, num_classes):
        seen.append(values(model))
        return dict.fromkeys(("accuracy", "f1", "precision", "recall"), accuracies[len(seen) - 1])

    monkeypatch.setattr("assay.text.training.class_metrics", metrics)
    history = tune(model, rows, rows[:4], **changes)
    assert max(row["step"] for row in history) == last
    heads = [weights["head.weight"].tolist() for weights in seen]
    assert [head == model.head.weight.tolist() for head in heads] == [number == place for number in range(4)]
    assert all(torch.equal(value, seen[place][name]) for name, value in values(model).items())


def test_a_loss_that_is_nan_is_an_error(network, tune, make_rows):
    model, rows = network(), make_rows(16)
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    with pytest.raises(FloatingPointError, match="train_text: the loss is NaN or infinite; a smaller lr may help"):
        tune(model, rows, rows[:4])
