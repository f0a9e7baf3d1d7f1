"""A small real pipeline under git and DVC, whose stages write down when they ran."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# fetch -> train@a, train@b, train@c -> join -> tell ; other stands alone
PIPELINE = """
stages:
  fetch:
    desc: a start
    cmd: python work.py fetch data.txt
    deps: [work.py]
    outs: [data.txt]
  train:
    matrix:
      name: [a, b, c]
    desc: three that can run side by side
    cmd: python work.py train@${item.name} model_${item.name}.txt data.txt
    params: ["train.${item.name}"]
    deps: [work.py, data.txt]
    outs: ["model_${item.name}.txt"]
  join:
    desc: needs all three
    cmd: python work.py join joined.txt model_a.txt model_b.txt model_c.txt
    deps: [work.py, model_a.txt, model_b.txt, model_c.txt]
    outs: [joined.txt]
  tell:
    desc: a light stage whose output stands in git
    cmd: python work.py tell metrics.json joined.txt
    deps: [work.py, joined.txt]
    metrics:
      - metrics.json: {cache: false}
  other:
    desc: on its own
    cmd: python work.py other other.txt
    deps: [work.py]
    outs: [other.txt]
"""
# ASSAY_TEST_RUNS: a folder outside the workspace; a file per run, with start and end. A file <stage>.sleep there
# holds the seconds that the stage takes, <stage>.fail how many more times it fails.
WORK = """
import hashlib, os, sys, time, uuid
from pathlib import Path

stage, output, *inputs = sys.argv[1:]
notes = Path(os.environ["ASSAY_TEST_RUNS"])
record = notes / f"{stage}-{uuid.uuid4().hex}.run"
record.write_text(f"{time.time()} {os.getpid()} {os.getcwd()}")
print(f"{stage} is at work on {os.environ.get('CUDA_VISIBLE_DEVICES', 'no GPU')}", flush=True)
wait = notes / f"{stage}.sleep"
time.sleep(float(wait.read_text()) if wait.exists() else 0.1)
fails = notes / f"{stage}.fail"
if fails.exists() and int(fails.read_text()) > 0:
    fails.write_text(str(int(fails.read_text()) - 1))
    sys.exit(f"{stage}: planted failure")
text = "".join(Path(name).read_text() for name in inputs) + Path("params.yaml").read_text()
Path(output).write_text('{"value": "' + hashlib.md5((stage + text).encode()).hexdigest() + '"}')
record.write_text(f"{record.read_text()} {time.time()}")
"""
PARAMS = "train: {a: 1, b: 2, c: 3}\n"


def run_command(*words: str, cwd: Path) -> str:
    """Run git or the like; its output."""
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def run_dvc(*arguments: str, cwd: Path) -> str:
    """The real dvc."""
    return run_command(sys.executable, "-m", "dvc", *arguments, cwd=cwd)


class Notes:
    """What the stages wrote down, and what they are told to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def runs(self) -> dict[str, list[list[str]]]:
        """By stage: start, pid, folder and, where it came to an end, end."""
        found: dict[str, list[list[str]]] = {}
        for path in sorted(self.folder.glob("*.run")):
            found.setdefault(path.name.rsplit("-", 1)[0], []).append(path.read_text().split())
        return found

    def clear(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()

    def tell(self, stage: str, **what: float) -> None:
        for kind, value in what.items():
            (self.folder / f"{stage}.{kind}").write_text(str(value))


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Notes:
    folder = tmp_path / "notes"
    folder.mkdir()
    monkeypatch.setenv("ASSAY_TEST_RUNS", str(folder))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    # Stages call `python`.
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return Notes(folder)


@pytest.fixture(scope="session")
def finished(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline, run once by the plain ``dvc repro``."""
    folder, notes = tmp_path_factory.mktemp("finished") / "project", tmp_path_factory.mktemp("notes")
    shutil.copytree(template, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_TEST_RUNS", str(notes))
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        run_dvc("repro", "--quiet", cwd=folder)
    return folder


@pytest.fixture
def ran(finished: Path, notes: Notes, tmp_path: Path) -> Path:
    """A copy of the pipeline that has run."""
    return Path(shutil.copytree(finished, tmp_path / "ran"))


@pytest.fixture
def command() -> Callable[..., str]:
    return run_command


@pytest.fixture
def dvc() -> Callable[..., str]:
    return run_dvc


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline, committed and never run."""
    folder = tmp_path_factory.mktemp("template") / "project"
    folder.mkdir()
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "work.py").write_text(WORK)
    (folder / "params.yaml").write_text(PARAMS)
    run_command("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
    run_command("git", "config", "user.name", "t", cwd=folder)
    run_command("git", "config", "user.email", "t@example.invalid", cwd=folder)
    run_dvc("init", "--quiet", cwd=folder)
    (folder / ".gitignore").write_text("*.txt\n/timings/\n/.assay/\n")
    run_command("git", "add", "--all", cwd=folder)
    run_command("git", "commit", "--quiet", "--message", "pipeline", cwd=folder)
    return folder


@pytest.fixture
def project(template: Path, notes: Notes, tmp_path: Path) -> Path:
    """A copy of the pipeline that has never run."""
    return Path(shutil.copytree(template, tmp_path / "project"))
