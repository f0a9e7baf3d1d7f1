"""The gates find what they are there to find: planted faults, and a real clone."""

import shutil
import subprocess
from pathlib import Path

import pytest

from assay.closure import import_closure, imported_names
from assay.gates import bad_params, fix_deps, green_clone, missing_deps, read_pipeline

ROOT = Path(__file__).parent.parent


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A miniature project: one stage, a helper imported inside a function, one under TYPE_CHECKING."""
    package = tmp_path / "src/assay"
    (package / "stages").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "stages/__init__.py").write_text("")
    (package / "lazy.py").write_text("from assay.deep import value\n")
    (package / "deep.py").write_text("value = 1\n")
    (package / "typed.py").write_text("class Thing: ...\n")
    (package / "stages/one.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from assay.typed import Thing\n"
        "def main():\n    from assay import lazy\n    return lazy\n"
    )
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  one:\n    desc: one\n    cmd: python -m assay.stages.one  # kept\n"
        "    deps:\n      - src/assay/stages/one.py\n      - data\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_closure_follows_imports_inside_functions_but_not_type_checking(project):
    names = {path.name for path in import_closure("assay.stages.one")}
    assert names == {"one.py", "lazy.py", "deep.py"}


def test_closure_of_an_unknown_module_is_an_error(project):
    with pytest.raises(ValueError, match=r"assay\.nothing"):
        import_closure("assay.nothing")


def test_relative_imports_are_refused(project):
    path = project / "src/assay/relative.py"
    path.write_text("from . import deep\n")
    with pytest.raises(ValueError, match="relative import in line 1"):
        imported_names(path)


def test_a_missing_and_a_needless_dep_are_named_and_mended(project):
    (problem,) = missing_deps(read_pipeline())
    assert "src/assay/deep.py, src/assay/lazy.py" in problem
    assert fix_deps()
    assert missing_deps(read_pipeline()) == []
    text = (project / "dvc.yaml").read_text()
    assert "# kept" in text
    assert "- data\n" in text
    assert not fix_deps()
    (project / "src/assay/lazy.py").write_text("")
    (problem,) = missing_deps(read_pipeline())
    assert "does not import: src/assay/deep.py" in problem


def test_bad_params_of_every_file_are_reported(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    (tmp_path / "params").mkdir()
    full = (ROOT / "params/full.yaml").read_text()
    (tmp_path / "params/full.yaml").write_text(full.replace("epochs: 30", "epochs: thirty"))
    (problem,) = bad_params(tmp_path)
    assert "train_stage1.epochs" in problem
    assert "thirty" in problem


@pytest.mark.slow
def test_green_clone_names_the_stage_behind_the_code(tmp_path):
    """A real clone of what is committed runs nothing; an edit to a parameter is noticed, and its stages are named."""
    if not (ROOT / "dvc.lock").is_file():
        pytest.skip("no dvc.lock yet")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    assert green_clone(clone) == []
    params = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text(params.replace("objective: nll", "objective: ece"))
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    subprocess.run(["git", *identity, "commit", "-qam", "edit"], cwd=clone, check=True)
    found = green_clone(clone)
    assert any("calibrate" in line for line in found)
    assert not any("train_stage1" in line for line in found)
