"""From what trials took to the costs of the whole line: sums, lines through two runs, and what is short."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from assay.core.params import load, validate
from assay.params.counts import Counts
from assay.params.stacking import Stacking
from assay.params.text import Text
from assay.preflight.command import made_by
from assay.preflight.estimate import GIB, Cost, cost_table, scoring_costs, shortages, training_costs
from assay.preflight.trainings import cut_epochs, text_trials
from assay.preflight.trials import Measured, Trial, last_words, link, straight_line

ROOT = Path(__file__).resolve().parents[2]
FOUND = Measured(row_s=0.01, fixed_s=5.0, row_cpu_s=0.02, fixed_cpu_s=4.0, peak_bytes=GIB, output_bytes=1000)


def test_two_runs_give_seconds_a_row_and_start_up():
    assert straight_line([7.0, 11.0], rows=(100, 300)) == pytest.approx((0.02, 5.0))
    assert straight_line([7.0, 6.0], rows=(100, 300)) == (0.0, 7.0)  # noise alone
    assert FOUND.seconds(1000) == pytest.approx(15.0)
    assert FOUND.cpu_seconds(1000) == pytest.approx(24.0)


def test_a_trial_stands_for_all_that_cost_the_same():
    trial = Trial(
        stage="train_x@a",
        command=("train_x",),
        rows=100,
        batch=4,
        links=(),
        cut=lambda content, scratch, rows: None,
        output="models/x",
        stands_for={"train_x@a": 100, "train_x@b": 200},
    )
    costs = training_costs(trial, FOUND)
    assert [(cost.stage, cost.seconds, cost.disk_bytes) for cost in costs] == [
        ("train_x@a", pytest.approx(6.0), 2000),
        ("train_x@b", pytest.approx(7.0), 2000),
    ]


def test_forward_passes_count_every_network_and_row():
    params = load(Stacking, ROOT / "params.yaml")
    sizes, held = {"train": 100, "val": 10, "calib": 20, "tune": 20, "test": 40}, {0: 50, 1: 50}
    networks = dict.fromkeys(("train_stage1", "efficientnetv2_b3", "maxvit"), FOUND)
    costs = {cost.stage: cost for cost in scoring_costs(sizes, held, params, networks)}
    assert set(costs) == {"score_stage1", "kfold_fold_0", "kfold_fold_1", "build_meta", "score_cascade"}
    row = FOUND.row_s / 6
    assert costs["kfold_fold_0"].seconds == pytest.approx(5 + 70 * 2 * row)
    assert costs["score_cascade"].seconds == pytest.approx(
        5 + 80 * 2 * 6 * row
    )  # two folds, the refit, three other sizes
    assert costs["kfold_fold_0"].disk_bytes == 2 * 70 * 2 * 257 * 4


def test_what_is_short_is_an_error_with_what_helps():
    costs = [
        Cost("train_a", 60.0, 60.0, "trial", 2 * GIB, 4 * GIB),
        Cost("train_b", 60.0, 120.0, "trial", GIB, 2 * GIB),
    ]
    well = shortages(costs, memory=4 * GIB, disk=100 * GIB, jobs=2)
    assert [finding.level for finding in well] == ["ok", "ok", "ok"]
    memory, together, disk = shortages(costs, memory=GIB, disk=13 * GIB, jobs=2)
    assert (memory.level, together.level, disk.level) == ("error", "warning", "error")
    assert "2.0 GiB for train_a, 1.0 GiB are free: lower the batch_size of train_a" in memory.text
    assert disk.text.startswith("14.00 GiB for outputs")
    assert "cache.type" in disk.text
    assert shortages([], memory=1, disk=1) == []


def test_folds_of_an_expert_are_one_line_of_the_table():
    costs = [Cost(f"train_expert@maxvit-{subset}", 60.0, 90.0, "trial") for subset in ("full", "fold_0", "fold_1")]
    lines = cost_table([*costs, Cost("kfold_fold_0", 30.0, 30.0, "forward")]).splitlines()
    assert [line.split()[:4] for line in lines[1:3]] == [
        ["train_expert@maxvit", "3", "3.0", "4.5"],
        ["kfold_fold", "1", "0.5", "0.5"],
    ]
    assert lines[-1].split()[-5:-2] == ["4", "3.5", "5.0"]


def test_a_part_of_an_epoch_keeps_the_share_of_the_head():
    content = load(Counts, ROOT / "params.yaml").model_dump()
    cut_epochs(content, Path(), 300, path=("train_counts", "staged"), count=1000, share=0.25)
    assert content["train_counts"]["staged"]["epochs"] == pytest.approx(0.225)
    assert content["train_counts"]["staged"]["head_epochs"] == pytest.approx(0.075)


@pytest.mark.parametrize(
    ("code", "stderr", "said"),
    [
        (1, "100%|##|\ntrain_x: no room\n  for it\n(ASSAY_TRACEBACK=1 shows where)\n", "train_x: no room for it"),
        (1, "Traceback\nTypeError: odd\n", "TypeError: odd"),
        (-9, "epoch 1", "signal 9"),
        (3, "", "status 3"),
    ],
)
def test_a_failed_trial_says_why(code, stderr, said):
    assert said in last_words(subprocess.CompletedProcess([], code, "", stderr), name="train_x")


def test_inputs_that_are_missing_come_with_their_command():
    assert (
        made_by(["data/weights/stage1.safetensors", "models/text/encoder"])
        == " (dvc repro fetch_weights pretrain_text)"
    )
    assert made_by(["data/processed/pixels"]) == ""


def test_a_trial_of_the_pretrained_text_network_has_fewer_texts_and_leaves_those_of_the_project(tmp_path):
    """The frozen layers take every text once, however short the epoch is."""
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    rows, scratch = tmp_path / "data/text/rows", tmp_path / "scratch"
    rows.mkdir(parents=True)
    texts = pd.DataFrame({"sample_id": list("abcdef"), "text": list("甲乙丙丁戊己"), "label": [0, 0, 0, 0, 1, 1]})
    texts.assign(group=range(6)).to_parquet(rows / "train.parquet")
    trials = {trial.stage: trial for trial in text_trials(validate(Text, content), tmp_path)}
    assert list(trials) == ["pretrain_text", "train_text@own", "train_text@pretrained"]
    assert set(trials["train_text@own"].stages) == {"train_text@own", "train_text@distilled"}
    link(tmp_path, scratch, ("data/text/rows/train.parquet",))
    trials["train_text@pretrained"].cut(content, scratch, 3)
    assert sorted(pd.read_parquet(scratch / "data/text/rows/train.parquet")["label"]) == [0, 0, 1]
    assert content["train_text"]["pretrained"]["epochs"] == 1
    assert len(pd.read_parquet(rows / "train.parquet")) == 6
