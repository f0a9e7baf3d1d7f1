"""fetch_counts -> prepare_counts -> train_counts@<variant> -> evaluate_counts, and `assay counts`, on a small own table."""

import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from scipy.stats import spearmanr
from sklearn.metrics import mean_squared_error

from assay.cli import main as assay
from assay.core.io import read_json, sha256_file
from assay.core.params import load
from assay.counts.bins import bins_from_json
from assay.counts.conformal import intervals_from_json
from assay.counts.evaluation import SIMPLE
from assay.counts.networks import embed_questions
from assay.counts.prediction import load_predictor
from assay.counts.queueing import mean_waits
from assay.counts.systems import baseline_answers, variant_answers
from assay.counts.table import ROLES
from assay.data.tables import write_rows
from assay.params.counts import VARIANTS, Counts
from assay.stages import evaluate_counts, fetch_counts, prepare_counts, score_counts, train_counts

ROOT = Path(__file__).parents[2]
PLOTS = ("confusion", "predicted", "training", "queue", "intervals")
WRITTEN = ("data/counts", "models/counts", "metrics", "plots")


def write_params(encoder: Path) -> None:
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["runtime"] |= {"threads": 1}
    params["fetch_counts"] |= {"source": "own.csv", "encoder": f"folder: {encoder}", "causal_lm": "config"}
    params["fetch_counts"]["causal_lm_config"] |= {"hidden_size": 16, "intermediate_size": 32, "num_heads": 2}
    params["prepare_counts"] |= {"quantile_bins": 4, "equal_width_bins": 5}
    params["prepare_counts"]["roles"] = {"train": 0.5, "val": 0.1, "calib": 0.2, "test": 0.2}
    params["prepare_counts"]["max_rows_per_group"] |= {"val": 4, "calib": 6, "test": 5}
    params["evaluate_counts"]["queue"] |= {"jobs": 3000, "jobs_left_out": 500}
    for variant in VARIANTS:
        params["train_counts"][variant] |= {"epochs": 2.0, "lr": 0.001, "head_lr": 0.01}
        params["train_counts"][variant] |= {"batch_size": 8, "max_tokens": 24}
        layers = {"num_layers": 1} if variant == "llm_lora" else {"frozen_layers": 1}
        params["train_counts"][variant] |= layers
    params["train_counts"]["staged"]["head_epochs"] = 1.0
    with Path("params.yaml").open("w") as stream:
        yaml.dump(params, stream)


def own_table() -> pd.DataFrame:
    """60 questions under 6 settings; the count follows from words of the question and from the setting."""
    rng = np.random.default_rng(0)
    rows = []
    for question in range(60):
        kind = question % 3
        words = f"{['find the sum', 'is it prime', 'how many ways'][kind]} w{rng.integers(40)}"
        for setting in range(6):
            count = int(rng.lognormal(1.5 + 0.8 * kind + 0.2 * setting, 0.2)) + 1
            rows.append((words, f"gpt w{setting}", count, f"q{question}"))
    frame = pd.DataFrame(rows, columns=["text", "setting", "counts", "group"]).astype(object)
    bad = pd.DataFrame({"text": ["", "why"], "setting": "gpt", "counts": [3, "many"], "group": "q0"}, dtype=object)
    return pd.concat([frame, bad], ignore_index=True)


def run_line(variants: tuple[str, ...] = VARIANTS) -> None:
    fetch_counts.main()
    prepare_counts.main()
    for variant in variants:
        train_counts.main(["--variant", variant])
    score_counts.main()
    evaluate_counts.main()


def hashes() -> dict[str, str]:
    files = [path for folder in WRITTEN for path in Path(folder).rglob("*") if path.is_file()]
    return {path.as_posix(): sha256_file(path) for path in sorted(files)}


@pytest.fixture(scope="module")
def project(tmp_path_factory, tiny_encoder):
    folder = tmp_path_factory.mktemp("counts")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_params(tiny_encoder)
        own_table().to_csv("own.csv", index=False)
        run_line()
    return folder


def test_roles_share_no_question_and_rejected_rows_have_reasons(here):
    parts = {role: pd.read_parquet(f"data/counts/rows/{role}.parquet") for role in ROLES}
    groups = {role: set(part["group"]) for role, part in parts.items()}
    # Of the 60 questions 48 differ in their words; equal ones are one group, whatever group they name.
    assert {role: len(names) for role, names in groups.items()} == {"train": 23, "val": 5, "calib": 10, "test": 10}
    assert len(set().union(*groups.values())) == 48
    assert len(parts["test"]) == 50
    rejected = pd.read_csv("data/counts/rows/rejected.csv")
    assert rejected["reason"].tolist() == ["empty text", "count is no number"]
    assert read_json("metrics/counts_data.json")["rejected"] == 2


def test_bins_were_fitted_on_train_alone(here):
    bins = read_json("data/counts/rows/bins.json")
    counts = pd.read_parquet("data/counts/rows/train.parquet")["counts"]
    assert bins["quantile"]["edges"] == list(pd.qcut(counts, 4, retbins=True, duplicates="drop")[1])
    assert [bins["equal_width"]["edges"][0], bins["equal_width"]["edges"][-1]] == [counts.min(), counts.max()]


def test_every_system_is_on_the_same_rows_with_interval(here):
    metrics = read_json("metrics/counts.json")
    for name in (*VARIANTS, *SIMPLE):
        assert metrics[f"{name}.n"] == 50
        assert metrics[f"{name}.n_groups"] == 10
        for metric in ("mse", "mae", "accuracy", "macro_f1", "within_one", "width_accuracy", "width_macro_f1"):
            low, value, high = (metrics[f"{name}.{metric}{end}"] for end in ("_low", "", "_high"))
            assert low <= high
            assert value is not None
    assert metrics["majority.spearman"] is None
    assert metrics["regression.spearman"] is not None
    assert metrics["tfidf_ridge.spearman"] > 0.5
    peer = metrics["peer.count"]
    assert metrics["regression.spearman_gain"] == pytest.approx(
        metrics["regression.spearman"] - metrics[f"{peer}.spearman"]
    )


def test_predictions_give_the_metrics_again(here):
    frame = pd.read_parquet("data/counts/test_predictions.parquet")
    metrics = read_json("metrics/counts.json")
    for name in (*VARIANTS, "setting_mean", "tfidf_ridge", "tfidf_logreg", "encoder_ridge"):
        assert metrics[f"{name}.mse"] == pytest.approx(mean_squared_error(frame["counts"], frame[name]))
        if metrics[f"{name}.spearman"] is None:  # undefined where a small network says the same of every text
            assert np.ptp(frame[name]) < 1e-6, name
        else:
            assert metrics[f"{name}.spearman"] == pytest.approx(spearmanr(frame["counts"], frame[name])[0])
        assert frame[name].min() >= 1


def test_the_worth_of_every_system_stands_beside_its_errors(here):
    """Waits against those of a queue of the same predictions, coverage against the limits in the table."""
    metrics, frame = read_json("metrics/counts.json"), pd.read_parquet("data/counts/test_predictions.parquet")
    truth = frame["counts"].to_numpy(dtype=float)
    first = metrics["first_come.wait_90"]
    for name in (*VARIANTS, "setting_mean", "tfidf_ridge"):
        wait = mean_waits(truth, frame[name], loads=[0.9])["wait_90"][0]
        assert metrics[f"{name}.wait_90"] == pytest.approx(wait)
        saved = (first - wait) / (first - metrics["oracle.wait_90"])
        assert metrics[f"{name}.oracle_share_90"] == pytest.approx(saved)
        assert metrics[f"{name}.aged_p99_90"] > metrics[f"{name}.aged_wait_90"] > 0
    assert metrics["median.oracle_share_90"] == 0
    linear = metrics["peer.linear"]
    gain = metrics["regression.oracle_share_90"] - metrics[f"{linear}.oracle_share_90"]
    assert metrics["regression.oracle_share_90_gain_linear"] == pytest.approx(gain)
    for name in VARIANTS:
        inside = (frame[f"{name}.low"] <= truth) & (truth <= frame[f"{name}.high"])
        assert metrics[f"{name}.coverage"] == pytest.approx(inside.mean())
        assert metrics[f"{name}.coverage"] > 0.6  # ten problems to learn from
    assert metrics["intervals.num_groups"] == 10
    assert metrics["intervals.kind_gpt w0.n"] + metrics["intervals.kind_gpt w1.n"] > 5


def test_the_choice_was_made_on_val(here):
    metrics, choice = read_json("metrics/counts.json"), read_json("models/counts/choice.json")
    for purpose, metric in (("count", "spearman"), ("bin", "macro_f1")):
        assert choice[purpose] == max(VARIANTS, key=lambda name: metrics[f"val.{name}.{metric}"] or -1)
        assert metrics[f"peer.{purpose}"] == max(SIMPLE, key=lambda name: metrics[f"val.{name}.{metric}"] or -1)


def test_plots_are_there_and_hold_every_row(here):
    for name in ("prepare_counts/distribution", *(f"counts/{name}" for name in PLOTS)):
        assert Path(f"plots/{name}.png").stat().st_size > 5_000
    for path in Path("plots/counts/confusion").iterdir():
        assert len(pd.read_csv(path)) == 50


def test_a_second_run_gives_the_same_bytes(here):
    """The other variants are trained by the code of these."""
    before, again = hashes(), ("regression", "ranking", "staged", "llm_lora")
    for folder in ("data/counts", "metrics", "plots", *(f"models/counts/{name}" for name in again)):
        shutil.rmtree(folder)
    run_line(again)
    assert hashes() == before


def test_answers_do_not_depend_on_batch_or_order(here):
    texts = list(pd.read_parquet("data/counts/rows/test.parquet")["text"])[:9]
    for variant in VARIANTS:
        predictor = load_predictor(Path("models/counts") / variant)
        together = predictor.predict(texts)
        one_by_one = pd.concat([predictor.predict([text]) for text in texts], ignore_index=True)
        backwards = predictor.predict(texts[::-1]).iloc[::-1].reset_index(drop=True)
        pd.testing.assert_frame_equal(together, one_by_one, rtol=1e-4)
        pd.testing.assert_frame_equal(together, backwards, rtol=1e-4)
        assert ((together["low"] <= together["high"]) & (together["count"] >= 1)).all()
        probs = together.filter(like="p_")
        if variant in ("regression", "ranking"):
            assert probs.empty
            assert together.sort_values("count")["bin"].is_monotonic_increasing
        else:
            assert np.allclose(probs.sum(axis=1), 1)
        if variant == "equal_width":  # the others name bins by their rule, as often as train holds them
            assert np.array_equal(probs.to_numpy().argmax(axis=1), together["bin"])


def test_one_question_and_lines_of_a_text_file_are_answered_in_words(here, tmp_path, capsys):
    assert assay(["counts", "how many ways w3?", "--setting", "gpt w1", "--variant", "quantile", "--threads", "1"]) == 0
    said = capsys.readouterr().out
    intervals = read_json("models/counts/intervals.json")["variants"]["quantile"]
    assert re.search(r"units, bin .* by quantile, 90% interval \d+-\d+, probabilities by bin", said)
    predictor = load_predictor(Path("models/counts/quantile"), intervals=intervals_from_json(intervals))
    row = predictor.predict(["how many ways w3?"], setting="gpt w1").iloc[0]
    reach = intervals["kinds"].get("gpt w1", intervals["pooled"])
    assert row["interval_high"] == np.floor(np.expm1(np.log1p(row["count"]) + reach))
    assert f"interval {row['interval_low']}-{row['interval_high']}," in said
    assert load_predictor(Path("models/counts/quantile")).predict(["how"])["interval_low"].isna().all()
    (tmp_path / "q.txt").write_text("is it prime\nhow many ways\n")
    assert assay(["counts", "--file", str(tmp_path / "q.txt"), "--threads", "1"]) == 0
    out = capsys.readouterr()
    assert len(out.out.splitlines()) == 3
    assert "2 question(s) by" in out.err


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_file_gives_a_row_a_question_and_exit_status_3_for_bad_ones(here, tmp_path, suffix):
    questions = pd.DataFrame(
        {"text": ["is it prime w3", "", "find the sum " * 3000], "setting": ["gpt w2", "gpt", None]}
    )
    source, output = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    write_rows(questions, source)
    assert assay(["counts", "--file", str(source), "-o", str(output), "--for", "bin", "--threads", "1"]) == 3
    readers = {".csv": pd.read_csv, ".jsonl": lambda path: pd.read_json(path, lines=True), ".parquet": pd.read_parquet}
    rows = readers[suffix](output)
    assert rows["status"].tolist() == ["ok", "error", "ok"]
    assert rows["reason"][1] == "empty text"
    assert [bool(value) for value in rows["truncated"][[0, 2]]] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either one question in quotes, or --file"),
        (["q", "--file", "x"], "either one question"),
        (["q", "--variant", "tree"], "variant 'tree' is not trained .*trained: equal_width"),
        (["q", "--variant", "other/quantile"], "variant 'other/quantile': give the name of a folder in models/counts"),
        (["q", "--models", "nowhere"], "no folder nowhere"),
        (["--file", "nowhere.csv"], "nowhere.csv can't be read"),
        (["--file", "nowhere.txt"], "nowhere.txt can't be read"),
        (["q", "-o", "x.xlsx"], "suffix '.xlsx' is not known"),
    ],
)
def test_wrong_use_is_one_line(here, capsys, arguments, message):
    assert assay(["counts", *arguments]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert len(said.strip().splitlines()) == 1


def test_a_variant_that_cannot_fit_is_rejected_before_training(here, monkeypatch, capsys):
    monkeypatch.setattr("assay.counts.networks.available_memory", lambda device: 1000)
    with pytest.raises(ValueError, match=r"train_counts.quantile needs .* GiB"):
        train_counts.main(["--variant", "quantile"])
    assert "optimizer" in capsys.readouterr().out


def test_shuffled_counts_teach_nothing(project, tiny_encoder, tmp_path, monkeypatch):
    """On counts that follow from nothing, no system ranks the test rows."""
    monkeypatch.chdir(tmp_path)
    write_params(tiny_encoder)
    table = own_table().iloc[:360]
    table["counts"] = np.random.default_rng(3).permutation(table["counts"].to_numpy())
    table.to_csv("own.csv", index=False)
    fetch_counts.main()
    prepare_counts.main()
    train_counts.main(["--variant", "regression"])
    rows = {role: pd.read_parquet(f"data/counts/rows/{role}.parquet") for role in ("train", "val", "test")}
    bins = {kind: bins_from_json(record) for kind, record in read_json("data/counts/rows/bins.json").items()}
    embed = partial(embed_questions, tiny_encoder, device="cpu")
    said = baseline_answers(rows, bins, load(Counts).evaluate_counts, embed=embed, seed=0)
    truth = rows["test"]["counts"]
    texts = {"test": list(rows["test"]["text"])}
    said["regression"] = variant_answers(Path("models/counts/regression"), texts, bins, device="cpu")
    for name in ("regression", "tfidf_ridge", "encoder_ridge"):
        assert abs(np.nan_to_num(spearmanr(truth, said[name]["test"].counts)[0])) < 0.45, name


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (
            "text,counts\na,1\nb,2\nc,many\n",
            r"2 group\(s\) can't be split.*rejected: 1 count is no number \(row 3: 'many'\)",
        ),
        (
            "text,counts\na,x\nb,\n",
            r"none of 2 rows can be used; rejected: 1 count is no number \(row 1: 'x'\), 1 no count",
        ),
        (
            "text,counts\na,3\nb,3\nc,3\nd,3\ne,1E+20\n",
            r"counts are 3: there is nothing to tell apart; rejected: 1 count too",
        ),
    ],
)
def test_a_stage_that_stops_says_what_was_rejected(tmp_path, monkeypatch, tiny_encoder, table, told):
    monkeypatch.chdir(tmp_path)
    write_params(tiny_encoder)
    Path("own.csv").write_text(table)
    fetch_counts.main()
    with pytest.raises(ValueError, match=told):
        prepare_counts.main()
    assert len(pd.read_csv("data/counts/rows/rejected.csv")) == told.count("rejected: 1") + told.count("no count")
