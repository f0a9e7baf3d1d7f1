"""Frozen layers computed once, what is trained above them, and the rates of layers."""

import numpy as np
import pytest
import torch

from assay.text.classifier import load_classifier, load_tokenizer, save_classifier
from assay.text.frozen import UpperLayers, frozen_outputs
from assay.text.parts import merged
from assay.text.prediction import rows_log_probs
from assay.text.trainer import layer_rates
from assay.text.training import encode, fine_tune, predicted_logits

TEXTS = ["房间很干净", "差", "快递慢质量不错的了", "好好好差差"]


@pytest.fixture(params=[1, 2, 3], ids=lambda size: f"merged_{size}")
def model(bert_folder, make_classifier, request):
    """A classifier over two layers, without dropout; above the first, tokens are merged or not."""
    options = {"encoder_dropout": 0.0, "num_classes": 2, "merge_above": 1, "merged_tokens": request.param}
    return make_classifier(bert_folder, seed=2, **options)


@pytest.fixture
def rows(bert_folder, model):
    """Function to rows over the outputs of the lowest layer."""

    def made(texts=TEXTS, dtype=torch.float32, batch_size=3):
        tokenizer = load_tokenizer(bert_folder)
        found = encode(tokenizer, texts, np.eye(2)[np.arange(len(texts)) % 2], max_tokens=24)
        ids = [row["input_ids"] for row in found]
        hidden = frozen_outputs(model, tokenizer, ids, frozen=1, dtype=dtype, batch_size=batch_size, name="texts")
        return [row | {"hidden": values} for row, values in zip(found, hidden, strict=True)]

    return made


def test_upper_layers_over_frozen_outputs_are_the_whole_network(bert_folder, model, rows):
    """In whatever batches; bfloat16 is near, and no weight of the network is touched by it."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tokenizer, made = load_tokenizer(bert_folder), rows()
    lengths = [-(-len(row["input_ids"]) // model.merged_tokens) for row in made]
    assert [row["hidden"].shape for row in made] == [(length, 16) for length in lengths]
    expected = rows_log_probs(model, tokenizer, [row["input_ids"] for row in made], name="texts")
    for given, error in ((made, 2e-3), (rows(batch_size=1), 2e-3), (rows(dtype=torch.bfloat16), 0.05)):
        logits = torch.from_numpy(predicted_logits(UpperLayers(model, frozen=1), tokenizer, given))
        assert np.allclose(torch.log_softmax(logits, dim=1), expected, atol=error)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_tokens_are_merged_by_the_mean_of_those_that_are_there():
    hidden = torch.arange(14, dtype=torch.float32).reshape(1, 7, 2).repeat(2, 1, 1)
    mask = torch.tensor([[1] * 7, [1, 1, 1, 0, 0, 0, 0]])
    found, left = merged(hidden, mask, size=3)
    assert found[0].tolist() == [[2.0, 3.0], [8.0, 9.0], [12.0, 13.0]]
    assert found[1].tolist() == [[2.0, 3.0], [0.0, 0.0], [0.0, 0.0]]
    assert left.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert merged(hidden, mask, size=1)[0] is hidden


def test_a_classifier_that_merges_is_saved_and_loaded(bert_folder, model, tmp_path):
    """Its weights once, whatever its parts share."""
    tokenizer = load_tokenizer(bert_folder)
    save_classifier(tmp_path, model, tokenizer)
    again, _ = load_classifier(tmp_path)
    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    found = [
        rows_log_probs(one.double(), tokenizer, rows, name="texts", batch_size=size)
        for one, size in ((model, 4), (again, 1))
    ]
    assert np.allclose(*found, atol=1e-12)
    assert not [name for name in again.state_dict() if not name.startswith(("encoder.body.", "head."))]


def test_training_over_frozen_outputs_trains_the_network_above_them_and_nothing_else(
    bert_folder, model, rows, train_settings, tmp_path
):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = train_settings("pretrained", num_layers=None, frozen_layers=1, lr=0.01, head_lr=0.01, epochs=20.0)
    made, options = rows(TEXTS * 4), {"class_weights": None, "seed": 1, "cpu": True}
    upper, tokenizer = UpperLayers(model, frozen=1), load_tokenizer(bert_folder)
    history = fine_tune(upper, tokenizer, made, made[:4], settings, tmp_path, **options)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith(("head.", "encoder.body.encoder.layer.1.")) for name in moved)
    assert history[-2]["eval_accuracy"] == 1.0
    # What was trained is in the network as it is saved.
    said = rows_log_probs(model, tokenizer, [row["input_ids"] for row in made[:4]], name="texts")
    assert said.argmax(axis=1).tolist() == [0, 1, 0, 1]


def test_hidden_vectors_are_left_out_in_training_alone_and_never_all_of_them(bert_folder, make_classifier):
    model = make_classifier(bert_folder, encoder_dropout=0.0, token_dropout=0.9, num_classes=2)
    upper = UpperLayers(model, frozen=1)
    hidden, mask = torch.randn(1, 6, 16), torch.ones(1, 6, dtype=torch.long)
    torch.manual_seed(0)
    drawn = torch.stack([upper.train()(hidden, mask)["logits"] for _ in range(40)])
    assert torch.isfinite(drawn).all()
    assert len({tuple(row.flatten().tolist()) for row in drawn}) > 3
    assert torch.equal(upper.eval()(hidden, mask)["logits"], upper(hidden, mask)["logits"])


def test_each_layer_has_the_rate_of_the_one_above_times_the_decay(model, train_settings):
    settings = train_settings("pretrained", lr=0.1, head_lr=0.5, layer_decay=0.5)
    wanted = {"encoder.body.embeddings": 0.025, "encoder.body.encoder.layer.0": 0.05}
    wanted |= {"encoder.body.encoder.layer.1": 0.1, "head": 0.5}
    found = layer_rates(model, settings)
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, rate in found.items():
        (expected,) = (value for start, value in wanted.items() if name.startswith(f"{start}."))
        assert rate == pytest.approx(expected), name
    assert set(layer_rates(model, train_settings("own", lr=0.3)).values()) == {0.3}


def test_a_body_without_layers_to_freeze_is_told(model):
    with pytest.raises(ValueError, match="frozen_layers 2: BertModel has 2 layers, one is to be trained"):
        UpperLayers(model, frozen=2)
