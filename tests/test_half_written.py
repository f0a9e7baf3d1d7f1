"""Written whole or not at all is what users ask for: at SIGTERM and SIGKILL, on a full disk, by two runs at once."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from assay.cli import main

ROOT = Path(__file__).parent.parent
SMALL = "stages:\n" + "".join(
    f"  {name}:\n    cmd: echo {name} > {name}.txt\n    outs: [{name}.txt]\n" for name in ("one", "two")
)
LOCK = "schema: '2.0'\nstages:\n" + "".join(
    f"  {name}:\n    cmd: echo {name} > {name}.txt\n    outs:\n    - path: {name}.txt\n      hash: md5\n      size: 4\n"
    f"      md5: {number:031}a\n"
    for number, name in enumerate(("one", "two", "gone"))
)
WRITERS = [f"{kind}, {suffix}" for kind in ("images", "texts") for suffix in ("csv", "jsonl", "parquet")]
WRITERS += ["report", "results", "params", "check --fix", "order of dvc.lock"]


@pytest.fixture(scope="module")
def told():
    """All that deaths.py has seen."""
    with tempfile.TemporaryDirectory() as name:
        folder, project = Path(name) / "rows", Path(name) / "project"
        folder.mkdir()
        tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for file in tracked.splitlines():
            if file.startswith(("metrics/", "docs/", "params")) or file in (
                "README.md",
                "dvc.yaml",
                "requirements.lock",
            ):
                (project / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / file, project / file)
        # To be written anew, longer than before.
        (project / "docs/results.md").write_text("of last week")
        small = project / "small"
        (small / ".dvc").mkdir(parents=True)
        (small / "dvc.yaml").write_text(SMALL)
        (small / "dvc.lock").write_text(LOCK)
        author = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
        for words in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "state"]):
            subprocess.run(["git", *words], cwd=project, check=True)
        command = [sys.executable, str(Path(__file__).with_name("deaths.py")), str(folder), str(project)]
        environment = os.environ | {"TQDM_DISABLE": "1", "DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        yield [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("writer", WRITERS)
def test_no_end_leaves_half_a_file(told, writer):
    mine = [row for row in told if row["name"] == writer]
    for row in mine:
        assert row["which"] == "old", row
        # Only SIGKILL leaves anything: a file that its name hides, beside the target.
        assert all(name.startswith(".") for name in row["left"]), row
        assert not row["left"] or row["how"] == "SIGKILL", row
    assert all(row["said"] for row in mine if row["how"] in ("full", "read-only")), "no sentence, but a traceback"
    status = {"SIGTERM": 143, "SIGKILL": -9, "full": 1, "read-only": 1}
    assert {(row["how"], row["status"]) for row in mine} == set(status.items())
    # Its opening and its renaming at least.
    assert all(sum(row["how"] == how for row in mine) >= 2 for how in ("SIGTERM", "SIGKILL"))
    assert any(row["left"] for row in mine if row["how"] == "SIGKILL"), "nothing was ever in the middle"


def test_two_runs_that_write_one_file_leave_one_of_both(told):
    (row,) = [row for row in told if row["name"] == "two at once"]
    assert row["seen"] == ["a", "b"]
    assert row["left"] == []


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_a_device_or_a_pipe_is_not_replaced(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(ROOT)
    target = tmp_path / "target.csv"
    if kind == "pipe":
        os.mkfifo(target)
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to(os.devnull)
    before = target.lstat()
    assert main(["report", "-o", str(target)]) == 2
    assert "name a file" in capsys.readouterr().err
    assert (target.lstat().st_mode, target.lstat().st_ino) == (before.st_mode, before.st_ino)
