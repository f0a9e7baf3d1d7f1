"""A small real pipeline under git and DVC, whose stages write down when they ran."""

import os
import shutil
import sys
from itertools import product
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
# holds the seconds that the stage takes, <stage>.fail how many more times it fails, <stage>.meet how many trainings must
# have begun before it goes on, however slow the machine, <stage>.stubborn that it is deaf to SIGTERM and starts a program
# that nobody waits for, in a session of its own.
WORK = """
import hashlib, os, signal, subprocess, sys, time, uuid
from pathlib import Path

stage, output, *inputs = sys.argv[1:]
notes = Path(os.environ["ASSAY_TEST_RUNS"])
record = notes / f"{stage}-{uuid.uuid4().hex}.run"
record.write_text(f"{time.time()} {os.getpid()} {os.getcwd()}")
print(f"{stage} is at work on {os.environ.get('CUDA_VISIBLE_DEVICES', 'no GPU')}", flush=True)
meet, deadline = notes / f"{stage}.meet", time.time() + 120
while meet.exists() and len(list(notes.glob("train@*.run"))) < int(meet.read_text()) and time.time() < deadline:
    time.sleep(0.05)
if (notes / f"{stage}.stubborn").exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    started = subprocess.run(["sh", "-c", "setsid sleep 600 > /dev/null & echo $!"], stdout=subprocess.PIPE, text=True)
    (notes / f"{stage}.orphan").write_text(started.stdout)
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


class Notes:
    """What the stages wrote down, and what they are told to do."""

    def __init__(self, folder):
        self.folder = folder

    def runs(self):
        """By stage: start, pid, folder and, where it came to an end, end."""
        found = {}
        for path in sorted(self.folder.glob("*.run")):
            found.setdefault(path.name.rsplit("-", 1)[0], []).append(path.read_text().split())
        return found

    def orphans(self):
        """Numbers of the processes that stubborn stages have left."""
        return [int(path.read_text() or 0) for path in self.folder.glob("*.orphan")]

    def clear(self):
        for path in self.folder.iterdir():
            path.unlink()

    def counts(self):
        return {stage: len(found) for stage, found in self.runs().items()}

    def tell(self, stages, **what):
        for stage, (kind, value) in product(stages.split(), what.items()):
            (self.folder / f"{stage}.{kind}").write_text(str(value))


@pytest.fixture
def notes(tmp_path, monkeypatch):
    folder = tmp_path / "notes"
    folder.mkdir()
    monkeypatch.setenv("ASSAY_TEST_RUNS", str(folder))
    # Stages call `python`.
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return Notes(folder)


@pytest.fixture(scope="session")
def template(make_project):
    """The pipeline, committed and never run."""
    files = {"dvc.yaml": PIPELINE, "work.py": WORK, "params.yaml": PARAMS}
    project = make_project(files | {".gitignore": "*.txt\n/timings/\n/.assay/\n"})
    project.commit()
    return project


@pytest.fixture(scope="session")
def finished(template, tmp_path_factory):
    """The pipeline, run once by the plain ``dvc repro``."""
    project = type(template)(shutil.copytree(template, tmp_path_factory.mktemp("finished") / "project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_TEST_RUNS", str(tmp_path_factory.mktemp("notes")))
        project.dvc("repro", "--quiet")
    return project


@pytest.fixture
def ran(finished, notes, tmp_path):
    """A copy of the pipeline that has run."""
    return type(finished)(shutil.copytree(finished, tmp_path / "ran"))


@pytest.fixture
def project(template, notes, tmp_path):
    """A copy of the pipeline that has never run."""
    return type(template)(shutil.copytree(template, tmp_path / "project"))
