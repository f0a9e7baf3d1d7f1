"""A small vocabulary, learnable texts and a tiny encoder for the tests of the text line."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from assay.core.params import load
from assay.params.text import Text

ROOT = Path(__file__).parents[2]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CHARACTERS = list(
    dict.fromkeys("房间很干净好差坏服务热情位置方便书内容空洞快递慢质量不错的了我在这家酒店吃住看买到货说话人员前台")
)
SIGNS = ("不错", "很差", "一般")


@pytest.fixture(scope="session")
def tokens():
    """A vocabulary of single characters, a Latin letter and an emoji."""
    return [*SPECIAL, *CHARACTERS, "一", "般", "a", "##b", "👍", ",", "!"]


@pytest.fixture(scope="session")
def make_rows():
    """Function to rows (sample_id, text, label, group): the class stands in the text as a word of two characters."""

    def rows(number, *, num_classes=2, seed=0, noise=0.0):
        rng = np.random.default_rng(seed)
        labels = np.arange(number) % num_classes
        texts = []
        for label in labels:
            sign = SIGNS[rng.integers(num_classes) if rng.random() < noise else label]
            before, after = ("".join(rng.choice(CHARACTERS, rng.integers(1, 9))) for _ in range(2))
            texts.append(f"{before}{sign}{after}")
        frame = pd.DataFrame({"text": texts, "label": labels, "group": np.arange(number)})
        return frame.assign(sample_id=[f"{n:016x}" for n in range(number)])

    return rows


@pytest.fixture(scope="session")
def own_encoder():
    """Settings of a tiny encoder."""
    found = load(Text, ROOT / "params.yaml").pretrain_text.encoder
    small = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 32, "pair_size": 4}
    return found.model_copy(update=small | {"pair_min_count": 1, "min_token_count": 1, "pair_dropout": 0.5})


@pytest.fixture(scope="session")
def text_encoder(tmp_path_factory, tokens, own_encoder, make_rows):
    """A tiny own encoder with random weights, with pairs, saved with its tokenizer."""
    from assay.text.encoder import new_encoder, pair_keys, save_encoder
    from assay.text.vocabulary import make_tokenizer

    tokenizer = make_tokenizer(tokens)
    ids = tokenizer(list(make_rows(60)["text"]), add_special_tokens=False)["input_ids"]
    torch.manual_seed(0)
    pairs, sizes = pair_keys(ids, num_tokens=len(tokens), min_count=2), {"pad_token_id": 0, "max_tokens": 24}
    encoder = new_encoder(own_encoder, num_tokens=len(tokens), pairs=pairs, dropout=0.1, **sizes)
    folder = tmp_path_factory.mktemp("text_encoder")
    save_encoder(folder, encoder, tokenizer)
    return folder


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory, tokens):
    """A tiny BERT as transformers saves it: what the hub's Chinese RoBERTa is."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    BertTokenizer(vocab={token: number for number, token in enumerate(tokens)}).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(1)
    BertModel(BertConfig(vocab_size=len(tokens), max_position_embeddings=32, **sizes)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_classifier():
    """Function to a classifier with a new head, its values drawn from ``seed``, over the encoder in a folder."""
    from assay.text.classifier import TextClassifier, load_tokenizer
    from assay.text.encoder import load_encoder

    def classifier(folder, *, seed=0, encoder_dropout=None, **changes):
        torch.manual_seed(seed)
        options = {
            "num_classes": 3,
            "max_tokens": 24,
            "pooling": "mean",
            "dropout": 0.0,
            "token_dropout": 0.0,
        } | changes
        return TextClassifier(load_encoder(folder, dropout=encoder_dropout), load_tokenizer(folder), **options)

    return classifier


@pytest.fixture(scope="session")
def save_ensemble():
    """Function that writes networks as the folder of a classifier, with changes to its record."""
    from assay.text.classifier import save_classifier

    def save(folder, models, tokenizer, classes, **changes):
        names = [f"network_{number}" for number in range(len(models))]
        for name, model in zip(names, models, strict=True):
            save_classifier(folder / name, model, tokenizer)
        record = {"classes": classes, "networks": names, "fuse_linear": False}
        record |= {"unicode_form": "NFKC", "weights": [1.0] * len(models)}
        record |= {"scale": [1.0] * len(classes), "bias": [0.0] * len(classes)} | changes
        (folder / "ensemble.json").write_text(json.dumps(record))
        return folder

    return save


@pytest.fixture(scope="session")
def train_settings():
    """Function to a section of train_text of params.yaml, made small, with changes."""

    def settings(network="own", **changes):
        found = load(Text, ROOT / "params.yaml").network(network)
        small = {"batch_size": 8, "epochs": 2.0, "lr": 1e-3, "max_tokens": 24, "warmup": 0.25}
        small |= {"length_grouped": False, "token_dropout": 0.0, "eval_every": 0.5}
        return found.model_copy(update=small | changes)

    return settings
