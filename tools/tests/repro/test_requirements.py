"""A machine without OpenGL: what can't run is named first, and the rest runs. The real dvc and the real loader."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from assay_tools.repro import requirements
from assay_tools.repro.graph import Stage

PIPELINE = """\
stages:
  render_corridors:
    cmd: echo drawn > scenes.txt
    params: [render_corridors]
    outs: [scenes.txt]
  vlm_sft:
    cmd: cp scenes.txt model.txt
    deps: [scenes.txt]
    outs: [model.txt]
  fetch_text:
    cmd: echo text > text.txt
    outs: [text.txt]
"""
# find_library looks where the loader looks; a name that no system has stands for a library that is missing.
WITHOUT = "from assay_tools.repro import requirements as r; r.LIBRARIES = {'nowhere': 'libnowhere1'}\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "params.yaml").write_text("render_corridors: {source: render}\n")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
    )
    return tmp_path


def repro(folder: Path, before: str) -> subprocess.CompletedProcess[str]:
    code = before + "import sys; from assay.cli import main; sys.exit(main(['repro', '-j', '2']))"
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_what_cannot_run_is_left_out_and_the_rest_runs(project: Path) -> None:
    done = repro(project, WITHOUT)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "left out: render_corridors, and behind it vlm_sft. OpenGL" in said
    assert "(libnowhere1): make system, as root, installs it" in said
    assert said.index("left out") < said.index("fetch_text: starts")
    assert "done but for 2 stage(s), render_corridors and what needs it" in said
    assert (project / "text.txt").is_file()
    assert not (project / "scenes.txt").exists()
    # With the library everything runs; and what is drawn already needs none.
    assert repro(project, "").returncode == 0
    assert (project / "model.txt").is_file()
    again = repro(project, WITHOUT)
    assert again.returncode == 0
    assert "left out" not in again.stdout + again.stderr


def test_own_images_need_no_opengl(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "LIBRARIES", {"nowhere": "libnowhere1"})
    stages = {"render_corridors": Stage("render_corridors")}
    assert requirements.cannot_run(stages, {"render_corridors"}, project)
    (project / "params.yaml").write_text("render_corridors: {source: data/own/vlm/labels.csv}\n")
    assert not requirements.cannot_run(stages, {"render_corridors"}, project)
