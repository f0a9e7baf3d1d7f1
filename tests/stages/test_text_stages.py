"""fetch_text -> prepare_text -> pretrain_text -> train_text -> evaluate_text, and `assay text`, on a small own table."""

import csv
import datetime
import io
import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file
from sklearn import metrics as sk
from transformers import BertConfig, BertModel, BertTokenizer

import assay.text
from assay.calibration.pooling import fit_weights, pool
from assay.cli import main as assay_cli
from assay.core.io import read_json, sha256_file
from assay.data.tables import write_rows
from assay.stages import evaluate_text, fetch_text, pool_text, prepare_text, pretrain_text, score_text, train_text
from assay.text.evaluation import RIVALS
from assay.text.prediction import load_predictor
from assay.text.vocabulary import SPECIAL

ROOT = Path(__file__).parents[2]
WRITTEN = ("data/text", "models/text", "metrics", "plots/text")
CHARACTERS = list("房间很干净服务热情位置方便书内容空洞快递慢质量的了我在这家酒店吃住看买到货说话人员前台")
SIGNS = {"good": "不错", "bad": "太差", "mixed": "一般"}
ROLES = ("train", "val", "calib", "test")
NETWORKS = ("own", "pretrained", "distilled")
SYSTEMS = ("test", "small", "uncalibrated", *NETWORKS, "linear", "tfidf_bigram", "majority")
CLASSIFIER, SMALL = Path("models/text/classifier"), Path("models/text/small")


def own_table(number: int, classes: tuple[str, ...] = ("good", "bad"), *, seed: int = 0) -> pd.DataFrame:
    """Texts whose class stands in them as a word of two characters, wrong now and then; and rows that can't be used."""
    rng = np.random.default_rng(seed)
    rows = []
    for place in range(number):
        label = classes[place % len(classes)]
        sign = SIGNS[label if rng.random() > 0.15 else str(rng.choice(classes))]
        before, after = ("".join(rng.choice(CHARACTERS, rng.integers(2, 12))) for _ in range(2))
        rows.append((f"{before}{sign}{after}", label))
    rows += [("", "good"), ("没有标签", ""), (rows[0][0], rows[0][1])]
    return pd.DataFrame(rows, columns=["text", "label"])


def write_params(**changes: Any) -> None:
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["runtime"] |= {"threads": 1, "device": "cpu"}
    params["fetch_text"] |= {"source": "own.csv", "vocabulary": "vocab.txt", "encoder": "folder: bert"}
    params["prepare_text"]["roles"] = {"train": 0.5, "val": 0.1, "calib": 0.1, "test": 0.3}
    own = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32, "pair_size": 8}
    params["pretrain_text"]["encoder"] |= own | {"pair_min_count": 2, "min_token_count": 2}
    params["pretrain_text"] |= {"epochs": 1, "batch_size": 16, "max_tokens": 32, "lr": 0.005}
    training = {"epochs": 2, "batch_size": 8, "max_tokens": 32, "lr": 0.005, "eval_every": 0.5}
    params["train_text"]["pretrained"]["frozen_layers"] = 1
    for name in NETWORKS:
        params["train_text"][name] |= training | changes.pop(name, {})
    params["evaluate_text"] |= {"length_edges": [12, 18], "num_mistakes": 7}
    for section, values in changes.items():
        params[section] |= values
    with Path("params.yaml").open("w") as stream:
        yaml.dump(params, stream)


def start(table: pd.DataFrame, **changes: Any) -> None:
    """Write params.yaml, the vocabulary, a tiny BERT to start from, and the table."""
    write_params(**changes)
    spare = list("甲乙丙丁")  # no text has these
    tokens = [*SPECIAL, *dict.fromkeys([*CHARACTERS, *"".join(SIGNS.values())]), *spare]
    Path("vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    table.to_csv("own.csv", index=False)
    BertTokenizer(vocab={token: number for number, token in enumerate(tokens)}).save_pretrained("bert")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(tokens), max_position_embeddings=64, **sizes)).save_pretrained("bert")


def train_networks() -> None:
    for name in NETWORKS:
        train_text.main(["--network", name])


def run_line() -> None:
    for stage in (fetch_text, prepare_text, pretrain_text):
        stage.main()
    train_networks()
    for stage in (pool_text, score_text, evaluate_text):
        stage.main()


def hashes() -> dict[str, str]:
    files = [path for folder in WRITTEN for path in Path(folder).rglob("*") if path.is_file()]
    return {path.as_posix(): sha256_file(path) for path in sorted(files)}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        start(own_table(320))
        run_line()
    return folder


def role(name: str) -> pd.DataFrame:
    return pd.read_parquet(f"data/text/rows/{name}.parquet")


def test_every_output_is_there(here):
    network = ["classifier.json", "config.json", "encoder.json", "head.safetensors", "model.safetensors"]
    network += ["tokenizer.json", "tokenizer_config.json"]
    encoder = sorted({*network, "history.csv", "pretraining.json"} - {"classifier.json", "head.safetensors"})
    ships = {"SHA256SUMS", "calib.parquet", "ensemble.json", "history.csv", "linear"}
    expected = {
        "data/text": ["mistakes.csv", "pretrained", "rows", "scores_test.parquet", "source"],
        "data/text/pretrained": ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"],
        "data/text/source": ["table.parquet", "vocab.txt"],
        "data/text/rows": sorted(
            [*(f"{name}.parquet" for name in (*ROLES, "augmented", "unlabelled")), "classes.json", "rejected.csv"]
        ),
        "models/text/encoder": encoder,
        "models/text/networks": sorted(NETWORKS),
        "models/text/networks/own": sorted([*network, "history.csv"]),
        "models/text/networks/pretrained": sorted([*network, "history.csv", "taught.parquet"]),
        "models/text/classifier": sorted(ships | {"own", "pretrained"}),
        "models/text/small": sorted(ships | {"distilled"}),
        "models/text/classifier/own": network,
        "models/text/classifier/pretrained": network,
        "models/text/classifier/linear": ["linear.json", "linear.parquet"],
        "metrics": ["text.json", "text_data.json"],
    }
    for folder, names in expected.items():
        assert sorted(path.name for path in Path(folder).iterdir()) == names, folder
    judged = pd.read_csv(CLASSIFIER / "history.csv").dropna(subset="eval_loss")
    assert judged.groupby("network").size().to_dict() == dict.fromkeys(NETWORKS, 4)
    assert judged["eval_accuracy"].between(0, 1).all()
    for name in ("confusion", "reliability", "length", "training"):
        assert Path(f"plots/text/{name}.png").stat().st_size > 5_000
    assert not list(Path(".assay/resume").glob("*text*"))


def test_roles_share_no_group_and_rejected_rows_have_reasons(here):
    parts = {name: role(name) for name in ROLES}
    assert sum(map(len, parts.values())) == 320
    groups = [set(part["group"]) for part in parts.values()]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert read_json("data/text/rows/classes.json") == ["bad", "good"]
    assert all(set(part["label"]) == {0, 1} for part in parts.values())
    rejected = pd.read_csv("data/text/rows/rejected.csv")
    assert rejected["reason"].tolist() == ["no text", "no label", "exact duplicate"]
    metrics = read_json("metrics/text_data.json")
    assert metrics["rejected"] == 3
    for name, part in parts.items():
        assert metrics[f"{name}.n"] == len(part)
        assert metrics[f"{name}.share_1"] == pytest.approx(part["label"].mean())
        assert metrics[f"{name}.chars.p50"] == pytest.approx(part["text"].str.len().median())


def test_the_vocabulary_is_what_occurs_in_train(here):
    tokens = json.loads(Path("models/text/encoder/tokenizer.json").read_text())["model"]["vocab"]
    text = "".join(role("train")["text"])
    source = Path("vocab.txt").read_text().split()
    assert list(tokens) == [*SPECIAL, *(token for token in source if text.count(token) >= 2)]
    assert not set("甲乙丙丁") & set(tokens)


def test_every_system_is_on_the_same_rows_with_interval(here):
    metrics, test = read_json("metrics/text.json"), role("test")
    for name in SYSTEMS:
        assert metrics[f"{name}.n"] == len(test)
        assert metrics[f"{name}.n_groups"] == test["group"].nunique()
        for metric in ("accuracy", "f1", "precision", "recall", "auc", "nll"):
            low, value, high = (metrics[f"{name}.{metric}{end}"] for end in ("_low", "", "_high"))
            if name == "majority":  # says the same of every row: no group moves it
                assert low is high is None or low <= value <= high, metric
            else:
                assert low <= value <= high, (name, metric)
    assert metrics["test.accuracy"] > metrics["majority.accuracy"] + 0.1
    assert metrics["majority.auc"] == 0.5
    assert metrics["test.accuracy"] == metrics["uncalibrated.accuracy"]
    assert metrics["test.nll"] != metrics["uncalibrated.nll"]
    assert metrics["pretraining.masked_loss"] < metrics["pretraining.start_masked_loss"]
    for name, other, key in RIVALS:
        assert metrics[f"{name}.{key}"] == pytest.approx(metrics[f"{name}.accuracy"] - metrics[f"{other}.accuracy"])
        assert metrics[f"{name}.{key}_low"] <= metrics[f"{name}.{key}_high"]


@pytest.mark.parametrize(("folder", "system"), [(CLASSIFIER, "test"), (SMALL, "small")])
def test_predictions_give_the_metrics_again(here, folder, system):
    metrics, test = read_json("metrics/text.json"), role("test")
    frame = load_predictor(folder).batch_predict(list(test["text"]))
    truth, predicted = test["label"].to_numpy(), (frame["label"] == "good").to_numpy().astype(int)
    scores = {"accuracy": sk.accuracy_score, "f1": sk.f1_score, "precision": sk.precision_score}
    for name, score in (scores | {"recall": sk.recall_score}).items():
        assert metrics[f"{system}.{name}"] == pytest.approx(score(truth, predicted))
    assert metrics[f"{system}.nll"] == pytest.approx(sk.log_loss(truth, frame[["p_bad", "p_good"]]), abs=1e-3)
    assert metrics[f"{system}.auc"] == pytest.approx(sk.roc_auc_score(truth, frame["p_good"]), abs=1e-3)


def test_mistakes_and_lengths_are_those_of_what_ships(here):
    metrics, test = read_json("metrics/text.json"), role("test")
    frame = load_predictor(CLASSIFIER).batch_predict(list(test["text"]))
    truth, predicted = test["label"].to_numpy(), (frame["label"] == "good").to_numpy().astype(int)
    found = pd.read_csv("data/text/mistakes.csv")
    wrong = frame[truth != predicted]
    assert len(found) == min(7, len(wrong)) > 0
    assert found["confidence"].is_monotonic_decreasing
    assert set(found["text"]) <= set(wrong["text"])
    assert found["confidence"][0] == pytest.approx(wrong["confidence"].max(), abs=1e-4)

    found = pd.read_csv("plots/text/length.csv")
    assert found["characters"].tolist() == ["0-11", "12-17", "18+"]
    assert found["n"].sum() == len(test)
    assert found["n"][0] == (test["text"].str.len() < 12).sum()
    assert np.average(found["accuracy"], weights=found["n"]) == pytest.approx(metrics["test.accuracy"])


def test_no_output_holds_a_path_a_date_or_a_clock_time(here):
    files = [path for folder in WRITTEN for path in Path(folder).rglob("*") if path.is_file()]
    texts = [path for path in files if path.suffix in (".json", ".csv", ".txt")]
    assert len(texts) > 15
    today = datetime.datetime.now(datetime.UTC)
    told = rf"{today:%Y-%m-%d}|{today:%Y/%m/%d}|\b\d\d:\d\d:\d\d\b|runtime|per_second"
    assert not [path for path in texts if re.search(told, path.read_text(encoding="utf-8"))]
    assert not [path for path in files if str(here).encode() in path.read_bytes()]


def test_a_second_run_gives_the_same_bytes(project, tmp_path, monkeypatch):
    """In another folder, so that nothing is left from the first."""
    monkeypatch.chdir(project)
    before = hashes()
    monkeypatch.chdir(tmp_path)
    start(own_table(320))
    run_line()
    assert hashes() == before
    assert len(before) > 35


def test_the_weights_are_those_of_val_and_the_temperature_that_of_calib(here):
    predictor, record = load_predictor(CLASSIFIER), read_json(CLASSIFIER / "ensemble.json")
    parts = {name: role(name) for name in ("val", "calib")}
    members = {name: predictor.member_log_probs(list(part["text"])) for name, part in parts.items()}
    labels = {name: part["label"].to_numpy() for name, part in parts.items()}
    assert fit_weights(members["val"], labels["val"]) == pytest.approx(record["weights"], abs=1e-3)
    (inverse,) = fit_weights([pool(members["calib"], record["weights"])], labels["calib"])
    assert record["temperature"] == pytest.approx(1 / inverse, rel=1e-2)
    calib = pd.read_parquet(CLASSIFIER / "calib.parquet")
    assert calib["sample_id"].tolist() == parts["calib"]["sample_id"].tolist()
    assert np.allclose(calib[record["classes"]], pool(members["calib"], record["weights"]), atol=1e-6)
    assert record["weights"] != [1.0, 1.0]


def test_the_temperature_is_a_positive_number_whatever_calib_says(project, tmp_path, monkeypatch):
    """A small role may hold no mistake, or nothing but mistakes."""
    shutil.copytree(project / "models", tmp_path / "models")
    monkeypatch.chdir(project)
    val, calib, record = role("val"), role("calib"), read_json(CLASSIFIER / "ensemble.json")
    right = load_predictor(CLASSIFIER).log_probs(list(calib["text"])).argmax(axis=1)
    monkeypatch.chdir(tmp_path)
    for labels in (right, 1 - right):
        changed = {"val": val, "calib": calib.assign(label=labels)}
        with pytest.warns(UserWarning, match="temperature of the text classifier reached its bound"):
            found = pool_text.fit_ensemble(CLASSIFIER, changed, record, scaling="temperature", device="cpu")
        assert found["temperature"] == (0.01 if labels is right else 100.0)
        assert found["weights"] == pytest.approx(record["weights"], abs=1e-3)


def test_the_frozen_layers_stay_as_they_came_and_the_upper_ones_do_not(here):
    given, trained = (
        load_file(f"{folder}/model.safetensors")
        for folder in ("data/text/pretrained", "models/text/networks/pretrained")
    )
    same = {name for name, value in trained.items() if torch.equal(value, given[name.removeprefix("body.")])}
    frozen = {name for name in trained if ".layer.1." not in name}
    assert frozen == {name for name in same if name in frozen}
    # The keys' bias moves no attention weight, and nothing moves it.
    assert same - frozen <= {"body.encoder.layer.1.attention.self.key.bias"}
    for path in Path("models").rglob("*.json"):
        assert str(here) not in path.read_text(encoding="utf-8"), path


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three classes, all layers of the pretrained encoder trained, taught by the linear model; changed copies for one."""
    folder = tmp_path_factory.mktemp("three")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        teacher = {"distillation": {"teacher": "linear", "weight": 0.5}, "class_weights": "balanced", "pooling": "cls"}
        own_table(50, ("good", "bad", "mixed"), seed=9).drop(columns="label").to_csv("more.csv", index=False)
        Path("cilin.txt").write_text("Aa01= 不错 很好\n快递 速递\n", encoding="utf-8")
        changes = {
            "copies": 1,
            "deletion": 0.1,
            "swap": 0.1,
            "synonyms": 0.5,
            "thesaurus": "cilin.txt",
            "translation": None,
        }
        start(
            own_table(240, ("good", "bad", "mixed")),
            prepare_text={"classes": ["mixed", "good", "bad"], "augment": changes, "unlabelled": "more.csv"},
            distilled={"augmented": True},
            pretrained=teacher
            | {"frozen_layers": 0, "merged_tokens": 1, "num_layers": 1, "keep": "best", "early_stopping": 4},
            pool_text={"members": ["pretrained", "distilled", "own"]},
        )
        run_line()
    return folder


def test_three_classes_and_networks_and_fewer_layers(three, monkeypatch):
    monkeypatch.chdir(three)
    metrics, test = read_json("metrics/text.json"), role("test")
    assert read_json("data/text/rows/classes.json") == ["mixed", "good", "bad"]
    record = read_json(CLASSIFIER / "ensemble.json")
    assert record["networks"] == ["pretrained", "distilled", "own"]
    assert len(record["weights"]) == 4
    assert read_json(CLASSIFIER / "pretrained/config.json")["num_hidden_layers"] == 1
    frame = load_predictor(CLASSIFIER).batch_predict(list(test["text"]))
    assert [name for name in frame if name.startswith("p_")] == ["p_mixed", "p_good", "p_bad"]
    predicted = frame[["p_mixed", "p_good", "p_bad"]].to_numpy().argmax(axis=1)
    assert metrics["test.f1"] == pytest.approx(sk.f1_score(test["label"], predicted, average="macro"))
    assert metrics["test.accuracy"] > metrics["majority.accuracy"] + 0.1


def test_changed_copies_are_of_train_alone_and_trained_on_where_asked_for(three, monkeypatch):
    monkeypatch.chdir(three)
    copies, train = role("augmented"), role("train").set_index("sample_id")
    assert 100 < len(copies) <= len(train)
    assert (copies["label"].to_numpy() == train.loc[copies["sample_id"], "label"].to_numpy()).all()
    assert (copies["group"].to_numpy() == train.loc[copies["sample_id"], "group"].to_numpy()).all()
    assert copies["text"].str.contains("速递|很好").any()
    texts = {name: read_json(f"timings/train_text@{name}.json")["texts"] for name in NETWORKS}
    assert texts == {"own": 240, "pretrained": 240, "distilled": 240 + 2 * (len(copies) + 51)}


def test_the_student_learns_from_unlabelled_texts_by_what_its_teacher_says(three, monkeypatch):
    """None of them is a text of any role; one row is empty, one a duplicate."""
    monkeypatch.chdir(three)
    found = role("unlabelled")
    assert list(found) == ["sample_id", "text"]
    assert not set(found["text"]) & {text for name in ROLES for text in role(name)["text"]}
    assert len(found) == 51
    taught = pd.read_parquet("models/text/networks/pretrained/taught.parquet")
    assert taught["sample_id"].tolist() == [*role("train")["sample_id"], *found["sample_id"]]
    assert np.allclose(taught[["mixed", "good", "bad"]].sum(axis=1), 1)


def test_a_trained_ensemble_teaches_another_classifier(three, tmp_path, monkeypatch):
    """The labels say nothing here: a network that follows the teacher alone comes near what it says."""
    monkeypatch.chdir(tmp_path)
    for name in ("data", "models", "bert"):
        shutil.copytree(three / name, name)
    teacher = {"teacher": f"folder: {three / CLASSIFIER}", "weight": 1.0}
    write_params(own={"distillation": teacher, "epochs": 8}, pool_text={"members": ["own"], "fuse_linear": False})
    shutil.rmtree(CLASSIFIER)
    train_text.main(["--network", "own"])
    pool_text.main()
    assert read_json(CLASSIFIER / "ensemble.json")["weights"] == [1.0]
    assert sorted(path.name for path in CLASSIFIER.iterdir() if path.is_dir()) == ["linear", "own"]
    # It never saw a label, and what it learned of them came through the teacher.
    test = role("test")
    frame = assay.text.load().batch_predict(list(test["text"]))
    names = np.array(["mixed", "good", "bad"])
    assert (frame["label"].to_numpy() == names[test["label"]]).mean() > 0.45


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("empty")
def test_bytes_that_are_no_utf8_are_told_by_line_and_byte():
    start(own_table(20))
    content = Path("own.csv").read_bytes().split(b"\n")
    content[3] = b"\xc4\xe3" + content[3]
    Path("own.csv").write_bytes(b"\n".join(content))
    byte = len(b"\n".join(content[:3])) + 2
    with pytest.raises(
        ValueError, match=rf"fetch_text.source own.csv: .*line 4, byte {byte} is not UTF-8.*mend that line"
    ):
        fetch_text.main()
    start(own_table(20))
    Path("vocab.txt").write_bytes(b"[PAD]\n\xff\n")
    with pytest.raises(ValueError, match=r"fetch_text.vocabulary.*line 2, byte 7 is not UTF-8"):
        fetch_text.main()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "nowhere.csv"}, "fetch_text.source 'nowhere.csv': no such file"),
        ({"source": "own.txt"}, "fetch_text.source own.txt: suffix '.txt' is not known"),
        ({"vocabulary": "nowhere.txt"}, "fetch_text.vocabulary 'nowhere.txt': no such file"),
        ({"encoder": "bert"}, "fetch_text.encoder 'bert': allowed are"),
        ({"encoder": "folder: nowhere"}, "fetch_text.encoder: nowhere is no model folder"),
    ],
)
@pytest.mark.usefixtures("empty")
def test_what_is_not_there_is_told(changes, message):
    start(own_table(20), fetch_text=changes)
    Path("own.txt").write_text("text,label\n")
    with pytest.raises(ValueError, match=message):
        fetch_text.main()


def prepare(table: pd.DataFrame, **changes: dict[str, object]) -> None:
    start(table, **changes)
    fetch_text.main()
    prepare_text.main()


@pytest.mark.usefixtures("empty")
def test_a_line_that_cant_be_read_is_a_rejected_row_and_whole_numbers_stay_so_beside_a_gap():
    rows = own_table(60, seed=1)[:60]
    one, other = 9223372036854775993, 9223372036854775992  # the same as floats
    lines = [{"text": text, "label": one if label == "good" else other} for text, label in rows.itertuples(index=False)]
    gap = {"text": "没有标签的一行", "label": None}
    content = [json.dumps(line) for line in [*lines, gap, {"text": "坏\ud83d", "label": one}]] + ["", "{"]
    Path("own.jsonl").write_bytes(b"\xef\xbb\xbf" + "\n".join(content).encode())
    prepare(own_table(20), fetch_text={"source": "own.jsonl"})
    assert read_json("data/text/rows/classes.json") == [str(other), str(one)]
    rejected = pd.read_csv("data/text/rows/rejected.csv", keep_default_na=False)
    assert rejected[["row", "reason"]].to_numpy().tolist() == [
        [61, "no label"],
        *([row, "unreadable"] for row in (62, 63, 64)),
    ]
    details = rejected["detail"].tolist()[1:]
    for detail, told in zip(
        details, ("line 62 holds the surrogate U\\+D83D", "line 63 is blank", "line 64 is not JSON"), strict=True
    ):
        assert re.match(told, detail)


@pytest.mark.usefixtures("empty")
def test_a_text_that_is_a_list_is_a_rejected_row():
    rows = own_table(60, seed=1)[:60]
    frame = pd.DataFrame({"text": [[text] for text in rows["text"]], "label": rows["label"]}, dtype=object)
    frame.to_parquet("own.parquet")
    told = r"none of 60 rows can be used; rejected: 60 unreadable \(row 1: column text holds no text but list"
    with pytest.raises(ValueError, match=told):
        prepare(own_table(20), fetch_text={"source": "own.parquet"})


TABLE = own_table(40)


@pytest.mark.parametrize(
    ("table", "classes", "told"),
    [
        (TABLE, ["bad", "good", "ugly"], r"prepare_text.classes: no row has the label\(s\) \['ugly'\]; .*'bad': 20"),
        (TABLE[TABLE["label"] == "good"], None, r"a classifier needs two classes; rows by label: {'good': 20}; "),
        *(
            (
                pd.concat([TABLE[TABLE["label"] == "good"], TABLE[TABLE["label"] == "bad"][:size]]),
                None,
                rf"class 'bad' has {size} text\(s\) in {size} group.*needs 4 groups",
            )
            for size in (1, 3)
        ),
        (
            TABLE,
            ["yes", "no"],
            r"none of 43 rows can be used; rejected: 41 unknown label \(row 1: '\w+'; the classes are",
        ),
    ],
)
@pytest.mark.usefixtures("empty")
def test_classes_and_roles_that_cannot_be_are_told_with_what_was_rejected(table, classes, told):
    with pytest.raises(ValueError, match=told) as stopped:
        prepare(table, prepare_text={"classes": classes})
    # What is wrong with the table is there, although the stage stopped.
    rejected = pd.read_csv("data/text/rows/rejected.csv")
    for reason, size in rejected["reason"].value_counts().items():
        assert f"{size} {reason} (row " in str(stopped.value)
    assert "all are in data/text/rows/rejected.csv" in str(stopped.value)


@pytest.mark.usefixtures("empty")
def test_near_duplicates_share_a_role():
    table = own_table(80)[:80]
    table["text"] = [text * 3 for text in table["text"]]
    twins = table.assign(text=[text + "了" for text in table["text"]])
    prepare(pd.concat([table, twins], ignore_index=True))
    parts = {name: role(name) for name in ROLES}
    home = {text: name for name, part in parts.items() for text in part["text"]}
    assert len(home) == 160
    assert all(home[text] == home[text + "了"] for text in table["text"])
    assert read_json("metrics/text_data.json")["near_duplicates"] >= 80


def ask(*arguments: str | Path) -> int:
    return assay_cli(["text", *map(str, arguments), "--threads", "1"])


def test_one_text_is_answered_in_words(here, capsys):
    assert ask("房间不错很干净") == 0
    said = capsys.readouterr().out
    row = load_predictor(CLASSIFIER).predict("房间不错很干净")
    probs = ", ".join(f"{name} {value:.3f}" for name, value in row["probs"].items())
    assert said == f"{row['label']} ({probs})\n"
    assert ask("很差" * 40) == 0
    assert capsys.readouterr().out.endswith(", text truncated\n")
    assert ask("很差" * 40, "--long", "window") == 0
    assert "truncated" not in capsys.readouterr().out
    assert ask(" \u200b") == 3
    assert capsys.readouterr().out == "error: empty text\n"


READERS = {
    ".csv": pd.read_csv,
    ".jsonl": partial(pd.read_json, lines=True),
    ".parquet": pd.read_parquet,
}


@pytest.mark.parametrize("suffix", READERS)
def test_a_file_gives_a_row_a_text_and_exit_status_3_for_bad_ones(here, tmp_path, capsys, suffix):
    texts = pd.DataFrame({"text": ["房间不错", "", "很差" * 40, "👍"], "id": range(4)})
    source, output = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    write_rows(texts, source)
    assert ask("--file", source, "-o", output) == 3
    said = capsys.readouterr()
    assert f"4 text(s), 1 error(s), in {output}" in said.err
    assert said.out == ""
    rows = READERS[suffix](output)
    assert rows["status"].tolist() == ["ok", "error", "ok", "ok"]
    assert rows["reason"][1] == "empty text"
    assert [bool(value) for value in rows["truncated"][[0, 2, 3]]] == [False, True, False]
    assert np.allclose(rows.loc[[0, 2, 3], ["p_bad", "p_good"]].sum(axis=1), 1, atol=1e-5)
    expected = load_predictor(CLASSIFIER).batch_predict(["房间不错"])
    assert rows["confidence"][0] == pytest.approx(expected["confidence"][0], abs=2e-6)


def test_lines_of_a_text_file_and_of_standard_input(here, tmp_path, monkeypatch, capsys):
    (tmp_path / "t.txt").write_text("房间不错\n\n很差\n", encoding="utf-8")
    assert ask("--file", tmp_path / "t.txt") == 3
    rows = pd.read_csv(io.StringIO(capsys.readouterr().out), keep_default_na=False)
    assert rows["text"].tolist() == ["房间不错", "", "很差"]
    assert rows["status"].tolist() == ["ok", "error", "ok"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("房间不错\n很差\n".encode())))
    assert ask("--file", "-") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("into_a_file", [False, True])
def test_a_safe_csv_marks_what_a_spreadsheet_would_run_and_no_text_splits_a_row(here, tmp_path, capsys, into_a_file):
    source, output = tmp_path / "in.jsonl", tmp_path / "rows.csv"
    texts = ["=1+1", "好\r=坏", "'=1", "\n+1", "-0.5", "好"]
    source.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    found = []
    for options in ((), ("--safe-csv",)):
        assert ask("--file", source, *(["-o", output] if into_a_file else []), *options) == 0
        said = output.read_bytes().decode() if into_a_file else capsys.readouterr().out
        found.append(list(csv.DictReader(io.StringIO(said, newline=""))))
        assert {row["status"] for row in found[-1]} == {"ok"}
    assert [row["text"] for row in found[0]] == texts
    assert [row["text"] for row in found[1]] == ["'=1+1", "好\r=坏", "''=1", "'\n+1", "'-0.5", "好"]


@pytest.mark.parametrize("suffix", READERS)
def test_what_is_no_text_or_no_utf8_can_be_written_all_the_same(here, tmp_path, capsys, suffix):
    source, output = tmp_path / "in.jsonl", tmp_path / f"out{suffix}"
    source.write_text(
        "\n".join(map(json.dumps, [{"text": "房间不错"}, {"text": 17}, {"text": None}, {"text": "\ud83d"}]))
    )
    assert ask("--file", source, "-o", output) == 3
    rows = READERS[suffix](output)
    # 17 is the text "17", as it is for training.
    assert rows["status"].tolist() == ["ok", "ok", "error", "error"]
    assert rows["reason"][3].startswith("line 4 holds the surrogate U+D83D")
    # Python gives bytes on the command line that are no UTF-8 as surrogates.
    assert ask("坏\udcff", "-o", output) == 3
    assert ask("坏\udcff") == 3
    assert "surrogate U+DCFF" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either one text in quotes, or --file"),
        (["好", "--file", "x.txt"], "either one text in quotes, or --file"),
        (["好", "--models", "nowhere"], "no nowhere/ensemble.json: run dvc repro pool_text"),
        (["好", "--models", "data"], "no data/ensemble.json: run dvc repro pool_text"),
        (["好", "--safe-csv"], "--safe-csv says how CSV is written, and none is here"),
        (["--file", "nowhere.csv"], "nowhere.csv can't be read"),
        (["--file", "nowhere.txt"], "nowhere.txt can't be read"),
        (["--file", "data/text/rows/rejected.csv", "-o", "x.xlsx"], "suffix '.xlsx' is not known"),
        (["--file", "plots/text/length.csv"], r"lacks the column\(s\) \['text'\]"),
    ],
)
def test_wrong_use_is_one_line(here, capsys, arguments, message):
    assert assay_cli(["text", *arguments]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert len(said.strip().splitlines()) == 1
