"""The encoder: pairs by brute force, padding, positions, what is saved and loaded, and folders as the hub gives them."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForPreTraining, BertModel

from assay.text.classifier import load_tokenizer
from assay.text.encoder import Encoder, PairEmbedding, load_encoder, new_encoder, pair_keys, save_encoder

RNG = np.random.default_rng(4)
TOKENS = 30
SIZES = {"num_tokens": TOKENS, "max_tokens": 12, "dropout": 0.1}


def pair_embedding(keys: list[int], *, dropout: float = 0.0) -> PairEmbedding:
    keys = torch.tensor(keys, dtype=torch.int64)
    return PairEmbedding(keys, num_tokens=TOKENS, size=4, hidden_size=16, dropout=dropout)


def batch(*rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """input_ids and attention_mask, padded with 0."""
    size = max(map(len, rows))
    ids = torch.tensor([row + [0] * (size - len(row)) for row in rows])
    return ids, (ids != 0).long()


def test_keys_are_the_pairs_that_stand_in_enough_rows():
    rows = [[1, 2, 1, 2], [1, 2, 3], [2, 3], [7]]
    assert pair_keys(rows, num_tokens=10, min_count=2).tolist() == [12, 23]
    # [1, 2] stands twice in the first row, which is one row all the same.
    assert pair_keys(rows, num_tokens=10, min_count=3).tolist() == []
    assert pair_keys(rows, num_tokens=10, min_count=1).tolist() == [12, 21, 23]


def test_pair_ids_are_those_of_a_dictionary():
    rows = RNG.integers(0, TOKENS, (40, 9))
    keys = pair_keys(rows[:10].tolist(), num_tokens=TOKENS, min_count=1)
    numbers = {key: place for place, key in enumerate(keys.tolist(), start=1)}
    expected = [[numbers.get(a * TOKENS + b, 0) for a, b in pairwise(row.tolist())] + [0] for row in rows]
    found = pair_embedding(keys.tolist()).pair_ids(torch.from_numpy(rows))
    assert found.tolist() == expected
    assert 0 < (found == 0).double().mean() < 1
    assert found.max() == len(keys)
    # Without keys, of a single token, and before padding no pair is known.
    ids, _ = batch([1, 2, 3])
    assert pair_embedding([]).pair_ids(ids).tolist() == [[0, 0, 0]]
    assert torch.equal(pair_embedding([])(ids), torch.zeros(1, 3, 16))
    assert pair_embedding([1 * TOKENS + 2]).pair_ids(torch.tensor([[1]])).tolist() == [[0]]
    ids, _ = batch([1, 2, 3], [1, 2])
    assert pair_embedding([1 * TOKENS + 2, 2 * TOKENS + 3]).pair_ids(ids).tolist() == [[1, 2, 0], [1, 0, 0]]


def test_pairs_are_left_out_in_training_only():
    keys = list(range(TOKENS * TOKENS))
    ids = torch.from_numpy(RNG.integers(1, TOKENS, (60, 50)))
    pairs = pair_embedding(keys, dropout=0.4)
    torch.manual_seed(0)
    assert pairs.eval()(ids)[:, :-1].abs().sum(dim=2).min() > 0
    left_out = (pairs.train()(ids)[:, :-1].abs().sum(dim=2) == 0).double().mean()
    assert 0.37 < float(left_out) < 0.43


@pytest.mark.parametrize("with_pairs", [True, False])
def test_padding_changes_no_vector(own_encoder, with_pairs):
    torch.manual_seed(0)
    # The first is as long as texts may be.
    rows = [[2, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 3], [2, 5, 6, 7, 3], [2, 3]]
    pairs = pair_keys(rows, num_tokens=TOKENS, min_count=1) if with_pairs else None
    encoder = new_encoder(own_encoder, pairs=pairs, pad_token_id=0, **SIZES).eval()
    with torch.no_grad():
        together = encoder(*batch(*rows))
        for row, vectors in zip(rows, together, strict=True):
            alone = encoder(*batch(row))[0]
            assert alone.shape == (len(row), 16)
            assert torch.allclose(vectors[: len(row)], alone, atol=1e-5)


@pytest.mark.parametrize("pad", [0, 1])
def test_positions_are_robertas_own(own_encoder, pad):
    """Pairs that say nothing: vectors are those that RoBERTa gives for token ids alone, in a padded batch."""
    torch.manual_seed(0)
    encoder = new_encoder(own_encoder, pairs=np.arange(TOKENS * TOKENS), pad_token_id=pad, **SIZES).eval()
    ids = torch.tensor([[2, 5, 6, 7, 8, 3], [2, 9, 3, pad, pad, pad]])
    mask = (ids != pad).long()
    with torch.no_grad():
        told = encoder(ids, mask)
        encoder.pairs.project.weight.zero_()
        silent, plain = encoder(ids, mask), Encoder(encoder.body, None)(ids, mask)
    assert torch.allclose(silent[mask == 1], plain[mask == 1], atol=1e-6)
    assert not torch.allclose(told[mask == 1], plain[mask == 1], atol=1e-3)


def test_what_is_saved_is_loaded_bit_by_bit(text_encoder, tmp_path):
    first = load_encoder(text_encoder)
    save_encoder(tmp_path, first, load_tokenizer(text_encoder))
    second = load_encoder(tmp_path)
    names = {path.name for path in text_encoder.iterdir()}
    assert {"config.json", "model.safetensors", "encoder.json", "tokenizer.json"} <= names
    assert names == {path.name for path in tmp_path.iterdir()}
    # tokenizer_config.json tells whether the tokenizer came from a folder.
    for name in sorted(names - {"tokenizer_config.json"}):
        assert (tmp_path / name).read_bytes() == (text_encoder / name).read_bytes(), name
    assert (second.pairs.dropout, second.pairs.num_tokens) == (first.pairs.dropout, first.pairs.num_tokens)
    ids, mask = batch([2, 5, 6, 3], [2, 3])
    assert torch.equal(first.eval()(ids, mask), second.eval()(ids, mask))


def test_the_lowest_layers_alone_can_be_taken(bert_folder, tmp_path):
    whole, lowest = load_encoder(bert_folder).eval(), load_encoder(bert_folder, num_layers=1).eval()
    ids, mask = torch.tensor([[2, 7, 9, 3]]), torch.ones(1, 4, dtype=torch.long)
    hidden = whole.body(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    assert torch.allclose(lowest(ids, mask), hidden[1], atol=1e-6)
    save_encoder(tmp_path, lowest, load_tokenizer(bert_folder))
    assert torch.equal(load_encoder(tmp_path).eval()(ids, mask), lowest(ids, mask))
    with pytest.raises(ValueError, match="num_layers 3: the encoder has 2; take fewer, or null for all"):
        load_encoder(bert_folder, num_layers=3)


def test_dropout_replaces_that_of_the_config(text_encoder, bert_folder):
    for folder in (text_encoder, bert_folder):
        assert load_encoder(folder, dropout=0.37).body.embeddings.dropout.p == 0.37
        assert load_encoder(folder).body.embeddings.dropout.p == 0.1


def test_a_folder_of_the_hub_is_a_bert_without_pooler(bert_folder, tmp_path):
    """Chinese RoBERTa with whole-word masks comes as BertModel and BertTokenizer."""
    encoder, theirs = load_encoder(bert_folder).eval(), BertModel.from_pretrained(bert_folder).eval()
    assert isinstance(encoder.body, BertModel)
    assert encoder.pairs is None
    assert not [name for name, _ in encoder.named_parameters() if "pooler" in name]
    ids, mask = batch([2, 5, 6, 7, 3], [2, 9, 3])
    assert torch.equal(encoder(ids, mask), theirs(input_ids=ids, attention_mask=mask).last_hidden_state)
    save_encoder(tmp_path, encoder, load_tokenizer(bert_folder))
    again = load_encoder(tmp_path).eval()
    assert isinstance(again.body, BertModel)
    assert torch.equal(encoder(ids, mask), again(ids, mask))


def test_a_checkpoint_with_the_heads_of_pretraining_and_half_precision_is_a_body_too(bert_folder, tmp_path):
    """The hub's files name their tensors bert.* and hold cls.*; the encoder trains in full precision."""
    torch.manual_seed(2)
    model = BertForPreTraining(BertConfig.from_pretrained(bert_folder)).to(torch.float16)
    model.save_pretrained(tmp_path)
    state = load_encoder(tmp_path).body.state_dict()
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    theirs = model.bert.state_dict()
    assert all(torch.equal(value, theirs[name].to(value.dtype)) for name, value in state.items())


@pytest.mark.parametrize(
    ("which", "name", "damage"),
    [
        ("text_encoder", "model.safetensors", "gone"),
        ("text_encoder", "model.safetensors", "cut"),
        ("text_encoder", "config.json", "gone"),
        ("text_encoder", "config.json", {}),
        ("text_encoder", "config.json", {"hidden_size": 32}),
        ("text_encoder", "config.json", {"vocab_size": 9}),
        ("text_encoder", "encoder.json", "cut"),
        ("text_encoder", "encoder.json", {"pairs": {"size": 8, "dropout": 0.5}}),
        ("text_encoder", "encoder.json", {"pairs": None}),
        # transformers would draw the missing weights at random and go on.
        ("bert_folder", "model.safetensors", "less"),
    ],
    ids=str,
)
def test_damaged_files_are_told(request, tmp_path, which, name, damage):
    folder = tmp_path / "encoder"
    shutil.copytree(request.getfixturevalue(which), folder)
    path = folder / name
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "less":
        state = load_file(path)
        kept = {key: value for key, value in state.items() if "layer.1" not in key}
        assert 0 < len(kept) < len(state)
        save_file(kept, path, metadata={"format": "pt"})
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | damage if damage else {}))
    with pytest.raises(ValueError, match=str(folder)):
        load_encoder(folder)
