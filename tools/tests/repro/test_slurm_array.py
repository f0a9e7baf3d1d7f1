"""The script of a Slurm array, run as Slurm runs it: by bash, with its environment, one process per task."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[3] / "scripts" / "slurm_array.sh"
Run = Callable[..., Any]


def task(number: int | None, stages: list[str], *, home: Path, commit: str) -> subprocess.CompletedProcess[str]:
    slurm = {} if number is None else {"SLURM_ARRAY_TASK_ID": str(number)}
    environment = {**os.environ, **slurm, "SLURM_SUBMIT_DIR": str(home), "ASSAY_COMMIT": commit}
    words = ["bash", str(SCRIPT), *stages]
    return subprocess.run(words, cwd=home.parent, env=environment, capture_output=True, text=True, check=False)


def test_an_array_trains_and_the_workspace_takes_it_over(
    project: Path, notes: Any, tmp_path: Path, dvc: Run, command: Run
) -> None:
    dvc("remote", "add", "--local", "--default", "shared", str(tmp_path / "remote"), cwd=project)
    dvc("repro", "--quiet", "fetch", cwd=project)
    command("git", "add", "dvc.lock", cwd=project)
    command("git", "commit", "--quiet", "--message", "fetched", cwd=project)
    dvc("push", "--quiet", "--run-cache", cwd=project)
    commit = command("git", "rev-parse", "HEAD", cwd=project).strip()
    shutil.rmtree(project / ".dvc" / "cache")
    stages = dvc("stage", "list", "--name-only", "train", cwd=project).split()
    assert stages == ["train@a", "train@b", "train@c"]
    for number in range(3):
        done = task(number, stages, home=project, commit=commit)
        assert done.returncode == 0, done.stderr
    assert {name: len(found) for name, found in notes.runs().items()} == dict.fromkeys(["fetch", *stages], 1)
    assert not any(str(project) == run[2] for name in stages for run in notes.runs()[name])
    dvc("repro", "--quiet", "--pull", cwd=project)
    assert {name: len(found) for name, found in notes.runs().items() if name in stages} == dict.fromkeys(stages, 1)
    assert "up to date" in dvc("status", cwd=project)


def test_a_task_without_a_stage_and_a_call_without_slurm_say_so(project: Path) -> None:
    done = task(3, ["train@a"], home=project, commit="HEAD")
    assert done.returncode != 0
    assert "no stage of this number" in done.stderr
    done = task(None, ["train@a"], home=project, commit="HEAD")
    assert done.returncode != 0
    assert "sbatch --array" in done.stderr
