"""Changed copies of texts: by words, and through a pair of tiny translation models."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from assay.core.params import load
from assay.params.text import Text
from assay.text.augmentation import augmented_rows, changed, read_thesaurus
from assay.text.masking import words_of
from assay.text.translation import translated

ROOT = Path(__file__).parents[2]
WORDS = ["房间", "很", "干净", "服务", "也", "不错"]
NOTHING = {"deletion": 0.0, "swap": 0.0, "synonyms": 0.0, "thesaurus": {}}


@pytest.fixture
def augment():
    """Function to prepare_text.augment of params.yaml with changes."""

    def settings(**changes):
        return load(Text, ROOT / "params.yaml").prepare_text.augment.model_copy(update=changes)

    return settings


def drawn(count=400, words=WORDS, **shares):
    rng = np.random.default_rng(0)
    return [changed(words, **NOTHING | shares, rng=rng) for _ in range(count)]


def test_words_joined_are_the_text():
    assert "".join(words_of("房间很干净, 服务 good！")) == "房间很干净, 服务 good！"


def test_nothing_asked_for_changes_nothing():
    assert all(found == WORDS for found in drawn(5))


@pytest.mark.parametrize(
    ("shares", "share"),
    [({"deletion": 0.25}, 0.25), ({"deletion": 1.0}, 5 / 6)],
)
def test_words_are_left_out_at_random_but_never_all(shares, share):
    found = drawn(**shares)
    assert np.mean([1 - len(words) / len(WORDS) for words in found]) == pytest.approx(share, abs=0.03)
    assert all(words and [word for word in WORDS if word in words] == words for words in found)


def test_swapped_words_are_the_same_words_in_another_order():
    found = drawn(swap=0.2)
    assert all(sorted(words) == sorted(WORDS) for words in found)
    # One pair of six words, which may be a word with itself.
    moved = [sum(a != b for a, b in zip(words, WORDS, strict=True)) for words in found]
    assert set(moved) == {0, 2}
    assert np.mean([number == 0 for number in moved]) == pytest.approx(1 / 6, abs=0.06)


def test_synonyms_stand_in_the_place_of_the_words_that_the_thesaurus_knows():
    found = drawn(synonyms=0.5, thesaurus={"干净": ["整洁", "清洁"]})
    assert {words[2] for words in found} == {"干净", "整洁", "清洁"}
    assert np.mean([words[2] == "干净" for words in found]) == pytest.approx(0.5, abs=0.08)
    assert all(words[:2] + words[3:] == WORDS[:2] + WORDS[3:] for words in found)


def test_a_thesaurus_is_sets_of_synonyms_with_or_without_cilins_codes(tmp_path):
    path = tmp_path / "cilin.txt"
    path.write_text("Aa01A01= 人 士 人物\nAa01A02# 猫 狗\nAa01A03@ 独\n好 棒\n", encoding="utf-8")
    assert read_thesaurus(path) == {
        "人": ["人物", "士"],
        "士": ["人", "人物"],
        "人物": ["人", "士"],
        "好": ["棒"],
        "棒": ["好"],
    }
    path.write_text("独\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"augment.thesaurus .*cilin.txt: no line has two words"):
        read_thesaurus(path)
    with pytest.raises(ValueError, match=r"augment.thesaurus nowhere: no such file"):
        read_thesaurus(tmp_path.joinpath("nowhere").relative_to(tmp_path))


def test_copies_keep_origin_label_and_group_and_are_new_texts(augment):
    texts = ["房间很干净服务也不错", "快递太慢了", "好"]
    rows = pd.DataFrame({"sample_id": list("abc"), "text": texts, "label": [1, 0, 1], "group": [5, 6, 7]})
    found = augmented_rows(rows, augment(copies=8, deletion=0.3), seed=1)
    assert list(found) == list(rows)
    assert not found.duplicated(["sample_id", "text"]).any()
    joined = found.merge(rows, on="sample_id", suffixes=("", "_before"))
    assert len(joined) == len(found) > 8
    assert (joined["text"] != joined["text_before"]).all()
    assert (joined[["label", "group"]].to_numpy() == joined[["label_before", "group_before"]].to_numpy()).all()
    # Nothing can be left out of one word.
    assert set(found["sample_id"]) == {"a", "b"}
    assert found.equals(augmented_rows(rows, augment(copies=8, deletion=0.3), seed=1))
    assert len(augmented_rows(rows, augment(copies=0), seed=1)) == 0


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two tiny translation models with random weights."""
    tokens = ["<pad>", "</s>", "<unk>", *"房间很干净服务也不错快递太慢了好"]
    for_words = Tokenizer(WordLevel({token: number for number, token in enumerate(tokens)}, unk_token="<unk>"))
    for_words.pre_tokenizer = Split("", "isolated")
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=for_words, **special)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": len(tokens)}
    folders = []
    for name in ("there", "back"):
        torch.manual_seed(len(folders))
        config = T5Config(**sizes, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
        folder = tmp_path_factory.mktemp(name)
        T5ForConditionalGeneration(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folders.append(folder)
    return folders


def test_texts_go_through_both_models_and_come_back_in_their_order(models, augment, monkeypatch):
    monkeypatch.setattr("assay.text.translation.MAX_TOKENS", 6)
    texts = ["房间很干净", "好", "快递太慢了好"]
    there = translated(texts, models[0])
    alone = [translated([text], models[0])[0] for text in texts]
    assert there == alone
    rows = pd.DataFrame({"sample_id": list("abc"), "text": texts, "label": [1, 0, 1], "group": [5, 6, 7]})
    found = augmented_rows(rows, augment(copies=0, translation=list(map(str, models))), seed=1)
    assert found["text"].tolist() == translated(there, models[1])
    assert found["sample_id"].tolist() == list("abc")
    with pytest.raises(ValueError, match="nowhere"):
        translated(texts, models[0] / "nowhere")
