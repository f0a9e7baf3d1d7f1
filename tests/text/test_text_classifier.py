"""Pooling, hidden tokens, and what is saved and loaded."""

import json
import shutil
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from assay.text.classifier import TextClassifier, load_classifier, load_tokenizer, save_classifier


class Heard(nn.Module):
    """An encoder that remembers the token ids it was given, and whose vectors are these ids."""

    hidden_size = 4
    body = nn.Identity()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        self.ids = input_ids
        return input_ids.unsqueeze(-1).float().expand(*input_ids.shape, 4)


def hearing(*, pooling: Any = "mean", token_dropout: float = 0.0) -> tuple[TextClassifier, Heard]:
    encoder = Heard()
    tokenizer = SimpleNamespace(mask_token_id=4, all_special_ids=[0, 1, 2, 3, 4])
    options = {"num_classes": 3, "max_tokens": 64, "dropout": 0.0, "token_dropout": token_dropout}
    return TextClassifier(encoder, tokenizer, pooling=pooling, **options), encoder


@pytest.mark.parametrize(("pooling", "value"), [("mean", 14 / 3), ("cls", 2.0)])
def test_the_mean_is_over_real_tokens_and_cls_is_the_first(pooling, value):
    ids, mask = torch.tensor([[2, 9, 3, 700]]), torch.tensor([[1, 1, 1, 0]])
    model, _ = hearing(pooling=pooling)
    expected = model.head(torch.full((1, 4), value))
    assert torch.allclose(model.eval()(ids, mask)["logits"], expected)


def test_only_ordinary_tokens_are_hidden_and_only_in_training():
    model, heard = hearing(token_dropout=0.3)
    torch.manual_seed(1)
    ids = torch.randint(0, 40, (200, 50))
    mask = torch.ones_like(ids)
    model.train()(ids, mask)
    changed = heard.ids != ids
    assert (heard.ids[changed] == 4).all()
    assert (ids[changed] > 4).all()
    assert 0.28 < float(changed.sum() / (ids > 4).sum()) < 0.32
    model.eval()(ids, mask)
    assert torch.equal(heard.ids, ids)


@pytest.mark.parametrize("which", ["text_encoder", "bert_folder"])
def test_what_is_saved_is_loaded(request, tmp_path, make_classifier, which):
    folder = request.getfixturevalue(which)
    model = make_classifier(folder, pooling="cls", dropout=0.2, token_dropout=0.2)
    save_classifier(tmp_path, model, load_tokenizer(folder))
    again, tokenizer = load_classifier(tmp_path)
    assert not again.training
    assert again.pooling == "cls"
    assert again.mask_token_id == 4
    assert sorted(again.special_ids.tolist()) == [0, 1, 2, 3, 4]
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    batch = tokenizer(["房间很干净"], return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    assert torch.equal(model.eval()(ids, mask)["logits"], again(ids, mask)["logits"])


def test_an_empty_folder_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"no classifier.json in .*: run dvc repro train_text"):
        load_classifier(tmp_path)
    with pytest.raises(ValueError, match="no tokenizer in"):
        load_tokenizer(tmp_path)


@pytest.fixture(scope="module")
def whole(text_encoder, make_classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    save_classifier(folder, make_classifier(text_encoder), load_tokenizer(text_encoder))
    return folder


BAD_RECORDS = [{"num_classes": 2}, {"num_classes": "three"}, {"pooling": "max"}]
FILES = ["head.safetensors", "model.safetensors", "tokenizer.json"]


@pytest.mark.parametrize("damage", [*BAD_RECORDS, *FILES], ids=str)
def test_a_record_that_does_not_fit_and_a_missing_file_are_told(whole, tmp_path, damage):
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    if isinstance(damage, str):
        (folder / damage).unlink()
    else:
        record = json.loads((folder / "classifier.json").read_text())
        (folder / "classifier.json").write_text(json.dumps(record | damage))
    with pytest.raises(ValueError, match=str(folder)):
        load_classifier(folder)


@pytest.mark.parametrize(("which", "positions"), [("bert_folder", 32), ("text_encoder", 24)])
def test_texts_beyond_the_encoders_positions_are_refused_before_they_come(request, make_classifier, which, positions):
    folder = request.getfixturevalue(which)
    model = make_classifier(folder, max_tokens=positions).eval()
    longest = torch.full((1, positions), 7)
    assert torch.isfinite(model(longest, torch.ones_like(longest))["logits"]).all()
    longer = torch.full((1, positions + 1), 7)
    with pytest.raises((IndexError, RuntimeError)):  # what a training would meet in its midst
        model(longer, torch.ones_like(longer))
    with pytest.raises(ValueError, match=rf"max_tokens {positions + 1}: \w+ has positions for {positions}; take"):
        make_classifier(folder, max_tokens=positions + 1)
