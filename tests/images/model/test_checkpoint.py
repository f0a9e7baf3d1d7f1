"""What names a checkpoint, and its folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from assay.core.resume import resume_key, state_hash
from assay.images.model.checkpoint import ResumeFolder

ROOT = Path(__file__).parents[3]


def test_the_key_covers_the_stage_that_runs_as_main() -> None:
    code = "import assay.core.resume as r; print(sorted(r.project_code()))"
    program = "import sys, runpy; sys.argv = ['x', '--help']\ntry:\n    runpy.run_module('assay.stages.train_stage1', "
    program += "run_name='__main__', alter_sys=True)\nexcept SystemExit:\n    pass\n"
    # runpy gives __main__ back when it is done, so the hashes are taken from inside, in place of the help text.
    program = "import argparse\n" + program.replace(
        "try:", f"argparse.ArgumentParser.print_help = lambda s: exec({code!r})\ntry:"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "assay.stages.train_stage1" in done.stdout
    assert "assay.images.model.training" in done.stdout


def test_the_key_is_a_function_of_its_parts() -> None:
    assert resume_key(a=1, b=2) == resume_key(b=2, a=1)
    assert resume_key(a=1) != resume_key(a=2)


def test_other_weights_have_another_hash() -> None:
    state = {"a": torch.zeros(2), "b": torch.ones(1, dtype=torch.int64)}
    assert state_hash(state) == state_hash(dict(reversed(state.items())))
    assert state_hash(state) != state_hash(state | {"a": torch.tensor([0.0, 1e-6])})


def test_removing_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    resume = ResumeFolder("stage", "key", root=tmp_path)
    resume.remove()
    resume.path.parent.mkdir()
    resume.path.write_bytes(b"")
    resume.remove()
    assert not list(tmp_path.iterdir())
