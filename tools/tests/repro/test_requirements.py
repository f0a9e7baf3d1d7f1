"""What the machine lacks is named before anything runs. The real dvc and the real loader."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
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


LIGHT = """\
stages:
  code: {cmd: mkdir -p code && cp one.json code/one.json, deps: [one.json], outs: [code: {cache: false}]}
  one: {cmd: echo 1 > one.txt, deps: [code/one.json], outs: [one.txt]}
"""


@pytest.fixture
def light(project: Path) -> Path:
    """A stage whose code needs a package that the lock file pins; run once, then to be run again."""
    (project / "dvc.yaml").write_text(LIGHT)
    (project / "one.json").write_text('{"modules": {}, "packages": {"numpy": "0"}}')
    pins = [f"numpy=={version('numpy')}", "rich==0.1", "not-installed==1", "also-absent==2"]
    (project / "requirements.lock").write_text("\n".join(pins) + "\n")
    (project / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["not-installed>=1"]\n')
    return project


def test_packages_other_than_pinned_stop_the_run_where_they_decide_a_result(light: Path) -> None:
    done = repro(light, "")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert (
        f"2 package(s) differ from requirements.lock, none of which decides a result: rich {version('rich')} (0.1)"
        in said
    )
    assert "not-installed missing (1)" in said
    assert "also-absent" not in said, "no stage asks for it"
    assert said.index("differ from") < said.index("one: starts")
    (light / "requirements.lock").write_text("numpy==0.1\n")
    assert repro(light, "").returncode == 0, "nothing is to be run"
    (light / "one.txt").unlink()
    (light / "dvc.lock").unlink()
    done = repro(light, "")
    assert done.returncode == 2
    assert f"pins other packages than are installed: numpy {version('numpy')} (0.1): make setup" in done.stderr
    assert not (light / "one.txt").exists()


def test_a_disk_without_room_for_the_outputs_stops_the_run(light: Path) -> None:
    assert repro(light, "").returncode == 0
    lock = (light / "dvc.lock").read_text()
    (light / "dvc.lock").write_text(lock.replace("size: 2\n", f"size: {10**15}\n"))
    (light / "one.json").write_text('{"modules": {"a": "b"}, "packages": {}}')
    done = repro(light, "")
    assert done.returncode == 2
    assert re.search(
        r"GB free on the disk of .*, where by dvc\.lock this run takes DVC's cache 1000000\.0 GB", done.stderr
    )
    assert "make room (dvc gc -w)" in done.stderr
    # Nothing but the margin is lacking.
    free = shutil.disk_usage(light).free
    (light / "dvc.lock").write_text(lock.replace("size: 2\n", f"size: {int(free * 0.97)}\n"))
    done = repro(light, "")
    assert done.returncode == 0
    assert "little is left for what else a run writes" in done.stdout + done.stderr


def test_a_cache_that_cannot_be_written_stops_the_run(light: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so the system's answer is given for it."""
    (light / ".dvc/cache").mkdir()
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "cache" not in str(path) and may(path, mode))
    with pytest.raises(ValueError, match=r"cache .* can't be written.*dvc cache dir --local"):
        requirements.check_machine([Stage("one")], light)
    assert requirements.check_machine([], light) == []
