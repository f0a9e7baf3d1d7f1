"""The assay command: help, good input, wrong input."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from assay.cli import main
from assay.core.params import read_yaml
from assay.params.schema import validate_file

ROOT = Path(__file__).parent.parent


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A git repository with every file that git tracks, as it is in the work tree."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commit(folder):
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    subprocess.run(["git", *identity, "commit", "-qm", "state"], cwd=folder, check=True)


def test_check_is_well_and_finds_a_bad_value(copy, capsys):
    assert main(["check"]) == 0
    text = (copy / "params.yaml").read_text()
    (copy / "params.yaml").write_text(text.replace("lr: 0.001", "lr: abc"))
    assert main(["check"]) == 1
    assert "train_stage1.lr: got 'abc'" in capsys.readouterr().err


def comments(text):
    return [line for line in text.splitlines() if line.lstrip().startswith("#")]


def test_params_use_puts_values_over_the_default_and_refuses_to_lose_edits(copy, capsys):
    default = (copy / "params.yaml").read_text()
    assert main(["params"]) == 0
    assert main(["params", "--use", "params/full.yaml"]) == 0
    full = (copy / "params.yaml").read_text()
    assert read_yaml(copy / "params.yaml") == validate_file(copy / "params/full.yaml")
    assert read_yaml(copy / "params.yaml")["train_stage1"]["epochs"] == 30
    assert comments(full)[1:] == comments(default)
    # From one to the other and back: each over the default, not over what is there.
    commit(copy)
    assert main(["params", "--use", "params/tiny.yaml"]) == 0
    assert read_yaml(copy / "params.yaml")["train_stage1"]["lr"] == 0.001
    assert main(["params", "--use", "params/full.yaml"]) == 0
    assert (copy / "params.yaml").read_text() == full
    assert main(["params", "--use", "default"]) == 0
    assert (copy / "params.yaml").read_text() == default
    assert main(["params", "--use", "params/full.yaml"]) == 0
    edited = full.replace("epochs: 30", "epochs: 31")
    (copy / "params.yaml").write_text(edited)
    assert main(["params", "--use", "params/tiny.yaml"]) == 2
    assert "edits that are not committed" in capsys.readouterr().err
    assert (copy / "params.yaml").read_text() == edited


@pytest.mark.parametrize("arguments", [["params", "--use", "nowhere.yaml"], ["params", "--use", "dvc.yaml"]])
def test_wrong_input_is_one_clear_message(copy, arguments, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("assay params: ")
    assert arguments[-1] in error


def test_outside_a_project_the_command_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in ("report", "check"):
        assert main([command]) == 2
        assert "run from the root of the project" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--quick"], ["--jobs", "2"]])
def test_what_belongs_to_the_check_of_data_asks_for_it(option, capsys):
    assert main(["check", *option]) == 2
    assert "add --data" in capsys.readouterr().err


def test_help_names_every_command():
    done = subprocess.run([sys.executable, "-m", "assay.cli", "--help"], capture_output=True, text=True, check=True)
    for command in ("check", "gate", "params", "report"):
        assert command in done.stdout
