"""From texts to classes: windows, batches, bad rows, and folders that lack something."""

import dataclasses
import io
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import assay.text
from assay.calibration.scaling import Scaling
from assay.cli import main as assay_cli
from assay.shipped.sums import write_sums
from assay.text.classifier import load_tokenizer
from assay.text.linear import fit_linear, save_linear
from assay.text.prediction import load_predictor, rows_log_probs, windows

CLASSES = ["bad", "good", "mixed"]
PROBS = ["p_bad", "p_good", "p_mixed"]
SIZE = 24


@pytest.fixture(scope="module")
def folder(text_encoder, make_rows, make_classifier, save_ensemble, tmp_path_factory):
    """Two networks with random weights that say something of a text, and a linear model."""
    target, tokenizer = tmp_path_factory.mktemp("classifier"), load_tokenizer(text_encoder)
    rows = make_rows(60, num_classes=3)
    models = [make_classifier(text_encoder, seed=seed).eval() for seed in range(2)]
    batch = tokenizer(list(rows["text"]), padding=True, return_tensors="pt")
    for model in models:
        with torch.no_grad():
            logits = model(batch["input_ids"], batch["attention_mask"])["logits"]
            # Every class is said of some texts.
            model.head.weight.mul_(1.5 / logits.std(dim=0)[:, None])
            model.head.bias.copy_(-1.5 * (logits - model.head.bias).mean(dim=0) / logits.std(dim=0))
    save_linear(target / "linear", fit_linear(list(rows["text"]), rows["label"].to_numpy(), max_ngram=2, c=1.0, seed=0))
    pool = {"fuse_linear": True, "weights": [0.5, 0.4, 0.3], "scale": [0.7, 0.6, 0.8], "bias": [0.1, 0.0, -0.1]}
    save_ensemble(target, models, tokenizer, CLASSES, **pool)
    write_sums(target, ["*", "*/*"])
    return target


@pytest.fixture(scope="module")
def predictor(folder):
    return load_predictor(folder)


@pytest.fixture(scope="module")
def texts(make_rows):
    rng = np.random.default_rng(2)
    short = list(make_rows(80, num_classes=3, seed=5)["text"])
    return short + ["".join(rng.choice(list("很差不错一般书")) for _ in range(size)) for size in (21, 22, 23, 60, 200)]


@given(ids=st.lists(st.integers(0, 99), max_size=80), size=st.integers(1, 20))
def test_windows_cover_every_token_in_order(ids, size):
    found = windows(ids, size=size)
    assert all(len(part) <= size for part in found)
    if len(ids) <= size:
        assert found == [ids]
        return
    assert all(len(part) == size for part in found)
    step, numbered = max(1, size // 2), windows(range(len(ids)), size=size)
    assert found == [[ids[place] for place in part] for part in numbered]
    assert {place for part in numbered for place in part} == set(range(len(ids)))
    starts = [part[0] for part in numbered]
    assert starts == sorted(set(starts))
    assert all(later - earlier <= step for earlier, later in pairwise(starts))
    assert numbered[-1][-1] == len(ids) - 1


def test_probabilities_are_the_calibrated_pool_by_hand(predictor, texts):
    frame = predictor.batch_predict(texts)
    members = predictor.member_log_probs(texts)
    assert len(members) == 3
    pooled = np.prod([np.exp(member) ** w for member, w in zip(members, (0.5, 0.4, 0.3), strict=True)], axis=0)
    product = (pooled / pooled.sum(axis=1, keepdims=True)) ** [0.7, 0.6, 0.8] * np.exp([0.1, 0.0, -0.1])
    probs = frame[PROBS].to_numpy()
    assert np.allclose(probs, product / product.sum(axis=1, keepdims=True), atol=1e-6)
    columns = ["text", "label", "confidence", "truncated", *PROBS, "status", "reason"]
    assert frame.columns.tolist() == predictor.batch_predict([]).columns.tolist() == columns
    assert frame["label"].tolist() == [CLASSES[number] for number in probs.argmax(axis=1)]
    assert np.array_equal(frame["confidence"], probs.max(axis=1))
    assert len(set(frame["label"])) > 1
    assert np.ptp(probs, axis=0).min() > 0.1


def test_a_network_is_its_logits_whatever_the_batch(predictor, texts):
    model, tokenizer = predictor.networks[0]
    rows = [tokenizer(text, truncation=True, max_length=SIZE)["input_ids"] for text in texts]
    found = {size: rows_log_probs(model, tokenizer, rows, name="rows", batch_size=size) for size in (1, 7, 64)}
    with torch.no_grad():
        logits = [model(torch.tensor([row]), torch.ones(1, len(row)))["logits"] for row in rows]
    expected = torch.log_softmax(torch.cat(logits).double(), dim=1).numpy()
    for size, values in found.items():
        assert np.allclose(values, expected, atol=1e-5), size
    assert np.ptp(expected, axis=0).min() > 0.5


def test_predictions_are_equal_to_the_last_digit_whatever_the_batch_and_order(predictor, texts):
    together = predictor.batch_predict(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = predictor.batch_predict([texts[number] for number in order]).iloc[np.argsort(order)]
    one_by_one = pd.concat([predictor.batch_predict([text]) for text in texts])
    for other in (shuffled, one_by_one):
        pd.testing.assert_frame_equal(together, other.reset_index(drop=True), check_exact=True)


def test_a_text_beyond_the_limit_is_cut_and_said_to_be(predictor):
    fits, long, endless = "很差" * 11, "很差" * 11 + "不", "很差" * 5000
    frame = predictor.batch_predict([fits, long, "好", endless])
    assert frame["truncated"].tolist() == [False, True, False, True]
    probs = frame[PROBS].to_numpy()
    networks = dataclasses.replace(predictor, linear=None, weights=(1.0, 1.0))
    # The linear model reads all of it; the networks see equal tokens.
    for other in (long, endless):
        assert np.allclose(networks.log_probs([fits]), networks.log_probs([other]), atol=1e-6)
    assert not np.allclose(probs[0], probs[1], atol=1e-6)
    assert predictor.batch_predict([long], long="window")["truncated"].tolist() == [False]


def test_a_window_of_a_long_text_is_the_mean_of_its_parts(predictor):
    alone = dataclasses.replace(
        predictor, networks=predictor.networks[:1], linear=None, weights=(1.0,), scaling=Scaling((1.0,) * 3, (0.0,) * 3)
    )
    rng = np.random.default_rng(1)
    text = "".join(rng.choice(list("很差不错一般书房间"), 50))
    parts = [text[start : start + 22] for start in (0, 11, 22, 28)]
    expected = np.exp(alone.log_probs(parts)).mean(axis=0)
    found = np.exp(alone.log_probs(["好", text, "差"], long="window"))
    assert np.allclose(found[1], expected, atol=1e-6)
    assert np.allclose(found[[0, 2]], np.exp(alone.log_probs(["好", "差"])), atol=1e-6)
    assert not np.allclose(found[1], np.exp(alone.log_probs([text]))[0], atol=1e-3)


BAD = {
    "": "empty text",
    "  \n\t": "empty text",
    "\u200b\ufeff\x07": "empty text",
    "坏\ud83d": "the surrogate U+D83D stands at character 2",
}


def test_bad_rows_have_a_reason_and_the_others_an_answer(predictor):
    good = ["👍👍", "AB ab", "繁體中文", "房\u200b间\x07很好", "\ufffd", "龘"]
    content = [*BAD, None, float("nan"), 17, *good]
    frame = predictor.batch_predict(content)
    assert frame["status"].tolist() == ["error"] * 7 + ["ok"] * 6
    for reason, expected in zip(frame["reason"], [*BAD.values(), *["no text"] * 3, *[""] * 6], strict=True):
        assert reason.startswith(expected)
        assert bool(reason) == bool(expected)
    bad, usable = frame[:7], frame[7:]
    numbers = ["confidence", *PROBS]
    assert bad[numbers].isna().all(axis=None)
    assert bad["label"].isna().all()
    assert bad["truncated"].isna().all()
    assert usable[numbers].notna().all(axis=None)
    assert usable["label"].isin(CLASSES).all()
    assert usable["text"].tolist() == good
    clean = predictor.batch_predict(["房间很好"])
    assert np.allclose(clean[numbers], usable.iloc[[3]][numbers].astype(float), atol=1.5e-6)
    # Without a value of another type, for which pandas would take the column as objects anyway.
    assert predictor.batch_predict(["", None])["status"].tolist() == ["error", "error"]
    assert predictor.batch_predict(["好", "坏\ud83d"])["status"].tolist() == ["ok", "error"]
    for text, reason in BAD.items():
        with pytest.raises(ValueError, match=re.escape(reason)):
            predictor.predict(text)


def test_one_text_is_the_row_of_a_batch(folder, predictor):
    row = predictor.batch_predict(["房间很干净"]).iloc[0]
    assert assay.text.load(str(folder)).predict("房间很干净") == {
        "label": row["label"],
        "confidence": row["confidence"],
        "probs": {name: row[f"p_{name}"] for name in CLASSES},
        "truncated": False,
    }
    assert predictor.predict("很" * 90)["truncated"] is True
    assert predictor.predict("很" * 90, long="window")["truncated"] is False


def test_an_empty_folder_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"no ensemble.json in .*: run dvc repro pool_text, or give the folder"):
        load_predictor(tmp_path)
    (tmp_path / "ensemble.json").write_text(json.dumps({"networks": ["network_0"]}))
    with pytest.raises(ValueError, match=r"no classifier.json in .*network_0: run dvc repro train_text"):
        load_predictor(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"scale": None},
        {"bias": [0.0]},
        {"weights": [1.0]},
        {"weights": None},
        {"networks": None},
        {"classes": ["bad", "good"]},
        {"fuse_linear": None},
    ],
    ids=str,
)
def test_a_record_that_does_not_fit_is_told_on_loading(folder, tmp_path, change):
    """None: the key is missing."""
    copy = tmp_path / "classifier"
    shutil.copytree(folder, copy)
    record = json.loads((copy / "ensemble.json").read_text()) | change
    (copy / "ensemble.json").write_text(json.dumps({k: v for k, v in record.items() if v is not None}))
    with pytest.raises(ValueError, match=r"ensemble\.json"):
        load_predictor(copy)


@pytest.mark.parametrize("name", ["../other", "/etc", "network_0/../../other", "linked", ""])
def test_a_record_names_networks_of_its_own_folder_alone(folder, tmp_path, name):
    copy = Path(shutil.copytree(folder, tmp_path / "classifier"))
    shutil.copytree(folder / "network_0", tmp_path / "other")
    (copy / "linked").symlink_to("../other")
    record = json.loads((copy / "ensemble.json").read_text())
    (copy / "ensemble.json").write_text(json.dumps(record | {"networks": [name, *record["networks"][1:]]}))
    with pytest.raises(ValueError, match=rf"name '{name}': .*classifier"):
        load_predictor(copy)


def test_a_network_that_asks_for_code_is_refused_whatever_standard_input_says(folder, tmp_path, monkeypatch, capsys):
    copy, marker = Path(shutil.copytree(folder, tmp_path / "classifier")), tmp_path / "ran"
    network = copy / "network_0"
    (network / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()")
    config = json.loads((network / "config.json").read_text())
    asked = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (network / "config.json").write_text(json.dumps(config | asked))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"y\n" * 9)))
    assert assay_cli(["text", "--file", "-", "--models", str(copy), "--no-verify"]) == 2
    assert "network_0/config.json asks for code of its own" in capsys.readouterr().err
    assert not marker.exists()


def test_a_tokenizer_that_opens_further_folders_has_nobody_asked_whether_code_may_run(folder, tmp_path, monkeypatch):
    copy, marker = Path(shutil.copytree(folder, tmp_path / "classifier")), tmp_path / "ran"
    network = copy / "network_0"
    for name, changes in {
        "config.json": {part: {"model_type": "vit"} for part in ("question_encoder", "generator")},
        "tokenizer_config.json": {"tokenizer_class": "RagTokenizer"},
    }.items():
        (network / name).write_text(json.dumps(json.loads((network / name).read_text()) | changes))
    (network / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()")
    (network / "question_encoder_tokenizer").mkdir()
    asked = {"auto_map": {"AutoTokenizer": ["evil.Words", None]}, "tokenizer_class": "Words"}
    (network / "question_encoder_tokenizer" / "tokenizer_config.json").write_text(json.dumps(asked))
    write_sums(copy, ["*", "*/*"])
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("standard input was asked"))
    with pytest.raises(ValueError, match=r"no tokenizer in .*network_0: Loading this model requires you to execute"):
        assay.text.load(copy)
    assert not marker.exists()


def test_a_folder_without_its_linear_model_is_told(folder, tmp_path):
    copy = tmp_path / "classifier"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("linear"))
    with pytest.raises(ValueError, match="no linear model that can be read"):
        load_predictor(copy)
