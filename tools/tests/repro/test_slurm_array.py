"""The script of a Slurm array, run as Slurm runs it: by bash, with its environment, one process per task."""

import os
import shutil
import subprocess
from pathlib import Path

from assay_tools.site_cache import close_site_cache

SCRIPT = Path(__file__).parents[3] / "scripts" / "slurm_array.sh"


def task(number: int | None, stages: list[str], *, home: Path, commit: str) -> subprocess.CompletedProcess[str]:
    slurm = {} if number is None else {"SLURM_ARRAY_TASK_ID": str(number)}
    environment = {**os.environ, **slurm, "SLURM_SUBMIT_DIR": str(home), "ASSAY_COMMIT": commit}
    words = ["bash", str(SCRIPT), *stages]
    return subprocess.run(words, cwd=home.parent, env=environment, capture_output=True, text=True, check=False)


def test_an_array_trains_and_the_workspace_takes_it_over(project, notes, tmp_path):
    project.dvc("remote", "add", "--local", "--default", "shared", str(tmp_path / "remote"))
    site = close_site_cache(project)
    project.dvc("repro", "--quiet", "fetch")
    project.commit()
    project.dvc("push", "--quiet", "--run-cache")
    commit = project.git("rev-parse", "HEAD")
    shutil.rmtree(project / ".dvc" / "cache")
    stages = project.dvc("stage", "list", "--name-only", "train").split()
    shutil.rmtree(site)
    assert stages == ["train@a", "train@b", "train@c"]
    for number in range(3):
        done = task(number, stages, home=project, commit=commit)
        assert done.returncode == 0, done.stderr
    assert notes.counts() == dict.fromkeys(["fetch", *stages], 1)
    # A task leaves nothing where config.local says that the workspace's DVC keeps its indexes.
    assert not site.exists()
    assert not any(str(project) == run[2] for name in stages for run in notes.runs()[name])
    project.dvc("repro", "--quiet", "--pull")
    assert {name: notes.counts()[name] for name in stages} == dict.fromkeys(stages, 1)
    assert "up to date" in project.dvc("status")


def test_a_task_without_a_stage_and_a_call_without_slurm_say_so(project):
    done = task(3, ["train@a"], home=project, commit="HEAD")
    assert done.returncode != 0
    assert "no stage of this number" in done.stderr
    done = task(None, ["train@a"], home=project, commit="HEAD")
    assert done.returncode != 0
    assert "sbatch --array" in done.stderr
