"""train_stage1 and distill_stage1 as processes: killed and started again, flags, and errors that are one message."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from assay.core.params import ParamsError, load
from assay.core.stage import run
from assay.core.tensors import save_tensors
from assay.images.model import FILTERS, VAL_SCORES
from assay.images.model.backbones import load_checkpoint
from assay.images.model.store import open_writer
from assay.images.stacking import EXPERTS
from assay.images.stacking.out_of_fold import HELD_OUT, logit_column
from assay.params.images import Images
from assay.stages.train_stage1 import main, override, parse_arguments

ROOT = Path(__file__).parents[2]
OUTPUTS = ("model.safetensors", "model.json", "history.csv", VAL_SCORES)
SIDE = 32


def project(folder: Path, **changes: object) -> Path:
    """A folder with prepared images and a params.yaml for a network that learns them in seconds."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(120):
        role = "train" if number < 96 else "val"
        rows.append({"image_path": f"{number}.png", "label": number % 2, "dataset": "d", "split": role})
        rows[-1] |= {"sample_id": f"s{number}", "group_id": f"g{number // 2}", "generator": "real"}
    frame = pd.DataFrame(rows)
    data = folder / "data" / "processed"
    with open_writer(data, side=SIDE, sample_ids=list(frame["sample_id"])) as writer:
        pixels = rng.integers(0, 200, (120, SIDE, SIDE, 3)) + 40 * frame["label"].to_numpy()[:, None, None, None]
        writer.append(pixels.astype(np.uint8))
    for role, part in frame.groupby("split"):
        part.to_csv(data / f"{role}_manifest.csv", index=False)
    train = frame[frame["split"] == "train"]
    train[["sample_id", "label", "group_id"]].assign(fold=np.arange(96) % 2).to_csv(data / "folds.csv", index=False)
    # What the experts say of the rows that they did not see: they know most.
    said = train.assign(part=HELD_OUT, base_fold=np.arange(96) % 2)
    for number, expert in enumerate(EXPERTS):
        said[logit_column(expert)] = (4 * said["label"] - 2 + rng.normal(0, 1 + number, 96)).astype(np.float32)
    (folder / "data/kfold").mkdir()
    for fold, part in said.groupby("base_fold"):
        part.to_parquet(folder / f"data/kfold/fold_{fold}.parquet")
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    small = {
        "architecture": "mobilenetv3_small_050",
        "weights": "random",
        "image_size": SIDE,
        "frozen_layers": 0,
        "epochs": 4,
        "schedule": "epoch",
        "warmup_epochs": 0,
    }
    params["runtime"]["threads"] = 1
    params["train_stage1"] |= small | {"batch_size": 8} | changes
    with (folder / "params.yaml").open("w") as stream:
        yaml.dump(params, stream)
    # Random weights: no tensors.
    save_tensors(folder / "data/weights/stage1.safetensors", {})
    return folder


def command(folder: Path, *launcher: str, stage: str = "train_stage1") -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, *launcher, "-m", f"assay.stages.{stage}"]
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(words, cwd=folder, env=environment, text=True, **pipes)


def finish(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    return out


def kill_after_first_checkpoint(process: subprocess.Popen[str], folder: Path) -> None:
    deadline = time.monotonic() + 240
    while not list(folder.glob(".assay/resume/*/checkpoint.pt")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"


@pytest.mark.parametrize(("name", "stage"), FILTERS.items())
def test_a_killed_run_ends_bit_identical_to_one_that_was_not(tmp_path: Path, name: str, stage: str) -> None:
    whole, killed = project(tmp_path / "whole"), project(tmp_path / "killed")
    finish(command(whole, stage=stage))
    kill_after_first_checkpoint(command(killed, stage=stage), killed)
    assert "resuming after epoch" in finish(command(killed, stage=stage))
    ours, theirs = (folder / "models/filters" / name for folder in (killed, whole))
    for file in OUTPUTS:
        assert (ours / file).read_bytes() == (theirs / file).read_bytes(), file
    assert not list((killed / ".assay" / "resume").iterdir())
    assert pd.read_csv(theirs / "history.csv")["epoch"].tolist() == [1, 2, 3, 4]
    assert (ours / "live/metrics.json").is_file()
    said = pd.read_parquet(ours / VAL_SCORES)
    assert said["sample_id"].tolist() == [f"s{number}" for number in range(96, 120)]


@pytest.mark.parametrize(("name", "stage"), FILTERS.items())
def test_two_processes_train_one_network_and_write_once(tmp_path: Path, name: str, stage: str) -> None:
    folder = project(tmp_path, epochs=2)
    launcher = "-m accelerate.commands.launch --cpu --num_processes 2 --num_machines 1"
    out = finish(command(folder, *f"{launcher} --mixed_precision no --dynamo_backend no".split(), stage=stage))
    assert out.count("epoch 1 ") == 1, out
    assert out.count("weights in") == 1
    history = pd.read_csv(folder / "models/filters" / name / "history.csv")
    assert history["epoch"].tolist() == [1, 2]
    assert history["train_auc"].iloc[-1] > 0.6
    assert load_checkpoint(folder / "models/filters" / name).info["best_epoch"] in (1, 2)


@pytest.fixture
def end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs the stage in this process, where it must fail: its last message."""

    def run_it(**changes: object) -> str:
        monkeypatch.chdir(project(tmp_path, **changes))
        monkeypatch.setattr("sys.argv", ["train_stage1"])
        with pytest.raises(SystemExit) as caught:
            run(main)
        return str(caught.value)

    return run_it


def test_a_bad_value_is_one_message_and_no_work(end, tmp_path, monkeypatch):
    message = end(lr=-1)
    assert message.startswith("train_stage1: params.yaml: 1 value(s) can't be used")
    assert "train_stage1.lr: got -1" in message
    assert not (tmp_path / "models").exists()
    monkeypatch.setenv("ASSAY_TRACEBACK", "1")
    with pytest.raises(ParamsError):
        run(main)


def test_a_repository_without_a_commit_is_explained(end: Callable[..., str], tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    assert "git commit once" in end(epochs=1)


def test_flags_override_the_file_and_are_checked_like_it() -> None:
    settings = load(Images, ROOT / "params.yaml").train_stage1
    changed = override(settings, parse_arguments(["--epochs", "9", "--lr", "1e-5", "--model_name", "resnet18"]))
    assert (changed.epochs, changed.lr, changed.architecture) == (9, 1e-5, "resnet18")
    assert changed.batch_size == settings.batch_size
    assert override(settings, parse_arguments([])) == settings
    with pytest.raises(ParamsError, match=r"flags: 1 value(.|\n)*lr: got 7\.0"):
        override(settings, parse_arguments(["--lr", "7"]))
