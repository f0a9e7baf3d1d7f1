"""R-Drop and adversarial weight perturbation against what their papers say, written out by hand."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch.nn import functional
from transformers import TrainingArguments

from assay.text.classifier import load_tokenizer
from assay.text.trainer import TextTrainer, divergence, perturbed
from assay.text.training import Loss, encode, fine_tune


def test_the_divergence_is_scipys_over_both_passes():
    logits = torch.randn(6, 3)
    first, second = torch.softmax(logits, dim=1).double().numpy().reshape(2, 3, 3)
    expected = (entropy(first, second, axis=1) + entropy(second, first, axis=1)).sum() / 2
    assert float(divergence(logits)) == pytest.approx(expected, rel=1e-5)
    assert float(divergence(torch.cat([logits[:3], logits[:3]]))) == pytest.approx(0, abs=1e-6)


def test_weights_are_moved_along_their_gradient_by_a_share_of_their_norm_and_come_back():
    matrix, bias = torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(4))
    matrix.grad, bias.grad = torch.randn(4, 3), torch.randn(4)
    before, direction = [value.detach().clone() for value in (matrix, bias)], matrix.grad / matrix.grad.norm()
    with perturbed([matrix, bias], size=0.1):
        assert torch.allclose(matrix, before[0] + 0.1 * before[0].norm() * direction, atol=1e-6)
        assert torch.equal(bias, before[1])
        assert matrix.grad is None
        assert bias.grad is None
    assert torch.equal(matrix, before[0])


@pytest.fixture
def step(text_encoder, make_classifier, make_rows, train_settings, tmp_path, monkeypatch):
    """Function to the gradients of the first step with these settings, and the model and batch of it."""

    def gradients(**changes):
        model = make_classifier(text_encoder, seed=3, encoder_dropout=0.0, num_classes=2)
        model.encoder.pairs.dropout, seen = 0.0, {}
        whole = TextTrainer.training_step

        def heard(self, model, inputs, *rest):
            loss = whole(self, model, inputs, *rest)
            if not seen:
                seen["inputs"] = inputs
                seen["grads"] = {
                    name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None
                }
            return loss

        monkeypatch.setattr(TextTrainer, "training_step", heard)
        tokenizer, rows = load_tokenizer(text_encoder), make_rows(8)
        data = encode(tokenizer, list(rows["text"]), np.eye(2)[rows["label"]], max_tokens=24)
        settings = train_settings(epochs=1.0, lr=1e-9, **changes)
        fine_tune(model, tokenizer, data, data, settings, tmp_path / str(changes), class_weights=None, seed=3, cpu=True)
        return seen["grads"], model.train(), seen["inputs"]

    return gradients


def test_without_dropout_r_drop_changes_nothing(step):
    plain, other = step()[0], step(r_drop=5.0)[0]
    assert all(torch.allclose(value, other[name], atol=1e-5) for name, value in plain.items())


def test_r_drop_adds_the_divergence_of_two_passes(text_encoder, make_classifier, tmp_path):
    model = make_classifier(text_encoder, num_classes=2, dropout=0.5).train()
    batch = {"input_ids": torch.randint(5, 20, (3, 7)), "attention_mask": torch.ones(3, 7, dtype=torch.long)}
    labels = torch.eye(2)[torch.tensor([0, 1, 1])]
    arguments = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    options = {"args": arguments, "rates": {}, "adversarial": 0.0, "compute_loss_func": Loss(None, 0.0)}
    trainer = TextTrainer(model=model, r_drop=2.0, **options)
    torch.manual_seed(1)
    found = trainer.compute_loss(model, batch | {"labels": labels}, num_items_in_batch=torch.tensor(6))
    torch.manual_seed(1)
    logits = model(**{name: torch.cat([value, value]) for name, value in batch.items()})["logits"]
    hard = functional.cross_entropy(logits, torch.cat([labels, labels]))
    assert torch.allclose(found, hard + 2.0 * divergence(logits) / 3)
    assert not torch.allclose(found, hard)
    plain = trainer.compute_loss(model.eval(), batch | {"labels": labels})
    assert torch.allclose(plain, functional.cross_entropy(model(**batch)["logits"], labels))


def test_the_gradient_is_that_at_the_perturbed_weights(step):
    """The weights themselves come back, so that the step goes from where they were."""
    plain, model, batch = step()
    found, _, _ = step(adversarial=0.05)
    matrices = {name: value for name, value in model.named_parameters() if value.ndim > 1 and name in plain}
    with torch.no_grad():
        for name, value in matrices.items():
            value.add_(plain[name] * 0.05 * value.norm() / plain[name].norm().clamp(min=1e-12))
    model.zero_grad()
    labels = batch["labels"].argmax(dim=1)
    functional.cross_entropy(model(batch["input_ids"], batch["attention_mask"])["logits"], labels).backward()
    head = dict(model.named_parameters())["head.weight"].grad
    assert torch.allclose(found["head.weight"], head, atol=1e-5)
    assert not torch.allclose(found["head.weight"], plain["head.weight"], atol=1e-5)
