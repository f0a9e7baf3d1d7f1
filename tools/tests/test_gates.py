"""The gates find what they are there to find: planted faults, and a real clone."""

import shutil
import sys
from pathlib import Path

import pytest

from assay_tools.gates import (
    bad_params,
    fix_lock,
    green_clone,
    overlapping,
    problems,
    undeclared,
    wrong_code_deps,
)
from assay_tools.workspace import Output

# dvc's own, about one of its libraries.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROOT = Path(__file__).parents[2]


def test_a_stage_without_its_code_and_with_a_source_file_is_named():
    pipeline = {
        "stages": {
            "one": {"cmd": "python -m assay.stages.one", "deps": ["src/assay/stages/one.py", "data"]},
            "two": {"do": {"cmd": "python -m assay.stages.two --fold 1", "deps": ["code/two.json"]}},
            "code": {"cmd": "python -m assay.closure", "deps": ["src/assay"]},
        }
    }
    lacking, needless = wrong_code_deps(pipeline)
    assert "stage one lacks the dep code/one.json" in lacking
    assert "stage one has the dep src/assay/stages/one.py" in needless


def test_bad_params_of_every_file_are_reported(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    (tmp_path / "params").mkdir()
    full = (ROOT / "params/full.yaml").read_text()
    (tmp_path / "params/full.yaml").write_text(full.replace("epochs: 30", "epochs: thirty"))
    (problem,) = bad_params(tmp_path)
    assert "train_stage1.epochs" in problem
    assert "thirty" in problem


STAGES = """\
stages:
  rows:
    desc: rows
    cmd: cp params.yaml rows.txt
    deps: [params.yaml]
    outs: [rows.txt]
  model:
    foreach: [one, two]
    do:
      desc: model
      cmd: mkdir models/${item}
      deps: [rows.txt]
      outs: ["models/${item}"]
  figures:
    desc: figures
    cmd: cp rows.txt metrics/all.json && cp rows.txt plots/all.csv
    deps: [rows.txt]
    metrics:
      - metrics/all.json: {cache: false}
    plots:
      - plots/all.csv: {cache: false}
"""


@pytest.fixture(scope="module")
def finished(make_project):
    """A small pipeline with the real params.yaml, run and committed."""
    files = {name: (ROOT / name).read_text() for name in ("params.yaml", ".pre-commit-config.yaml")}
    files |= {"dvc.yaml": STAGES, ".gitignore": "/.venv\n", "README.md": "# Project\n"}
    project = make_project(files)
    for name in ("models", "metrics", "plots"):
        (project / name).mkdir()
    project.dvc("repro", "-q")
    project.commit()
    return project


def test_a_sound_pipeline_has_no_problem_from_any_folder(project, tmp_path, monkeypatch):
    assert problems(project) == []
    monkeypatch.chdir(project)
    assert problems() == []
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="run from the root"):
        problems()


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (
            "outs: [rows.txt]",
            "outs: [rows.txt, models]",
            [
                f"out models/{name} of stage model@{name} lies inside out models of stage rows"
                for name in ("one", "two")
            ],
        ),
        ("metrics/all.json: {", "models/two/all.json: {", ["metric models/two/all.json of stage figures lies inside"]),
        ("outs: [rows.txt]", "outs: [rows.txt, plots/all.csv]", ["plots/all.csv of stage figures is also"]),
        ("[params.yaml]", "[params.yaml, models/one]", ["dvc refuses the pipeline: Same item(s) are"]),
        ("mkdir models/${item}", "mkdir models/${nothing}", ["dvc refuses the pipeline: failed to parse"]),
        ("    desc: figures\n", "", ["stage figures has no desc"]),
    ],
)
def test_faults_of_the_resolved_stages_are_named(project, old, new, wanted):
    project.edit("dvc.yaml", old, new)
    found = [line for line in problems(project) if "is not in git" not in line and "in git, but" not in line]
    assert len(found) == len(wanted), found
    assert all(any(text in line for line in found) for text in wanted), found


def test_neighbours_of_like_name_do_not_overlap():
    names = ["models/a", "models/a-b", "models/a.txt", "models/ab/c", "models"]
    rows = [Output(f"s{number}", name, "out", True) for number, name in enumerate(names)]
    assert overlapping(rows[:4]) == []
    assert len(overlapping(rows)) == 4


def test_results_are_declared_and_in_git(project):
    (project / "plots/stray.png").write_text("")
    (project / "metrics/new.json").write_text("{}")
    assert problems(project) == []
    project.git("add", "plots/stray.png")
    (stray,) = problems(project)
    assert stray.startswith("plots/stray.png: in git, but no stage")
    project.edit("dvc.yaml", "metrics:\n", "metrics:\n      - metrics/new.json: {cache: false}\n")
    project.git("rm", "-q", "--cached", "plots/all.csv")
    found = problems(project)
    assert any("metric metrics/new.json of stage figures is not in git" in line for line in found)
    assert any("plot plots/all.csv of stage figures is not in git" in line for line in found)
    assert len(found) == 3


def test_plots_beside_the_stages_count_as_declared(project):
    project.git("mv", "plots/all.csv", "plots/other.csv")
    project.edit("dvc.yaml", "stages:\n", "plots:\n  - curve: {x: a, y: {plots/other.csv: b}}\nstages:\n")
    project.edit("dvc.yaml", "      - plots/all.csv: {cache: false}\n", "      - plots/folder: {cache: false}\n")
    (project / "plots/folder").mkdir()
    (project / "plots/folder/a.csv").write_text("a")
    project.git("add", "plots")
    assert problems(project) == []


def test_a_cached_plot_needs_no_git():
    assert undeclared([Output("s", "plots/big", "plot", False)], tracked=["plots/big/a.csv"]) == []
    assert undeclared([Output("s", "plots/big", "plot", True)], tracked=[]) == []
    assert len(undeclared([Output("s", "plots/big", "plot", False)], tracked=["plots/bigger.csv"])) == 2


def test_stale_entries_of_the_lock_are_named_by_their_lines_and_removed(project):
    before = (project / "dvc.lock").read_text()
    project.edit("dvc.yaml", "foreach: [one, two]", "foreach: [two]")
    (problem,) = problems(project)
    first, last = (int(number) for number in problem.split()[2].split("-"))
    lines = before.splitlines(keepends=True)
    assert lines[first - 1] == "  model@one:\n"
    assert fix_lock(project) == ["model@one"]
    assert (project / "dvc.lock").read_text() == "".join(lines[: first - 1] + lines[last:])
    assert fix_lock(project) == []
    assert problems(project) == []
    assert "up to date" in project.dvc("status")


def test_green_clone_names_what_would_run_and_what_is_stale(project, monkeypatch):
    # Git sets these for its hooks; they must not lead the clone astray.
    monkeypatch.setenv("GIT_DIR", str(project / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(project / ".git/index"))
    assert green_clone(project) == []
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_INDEX_FILE")
    project.edit("dvc.yaml", "foreach: [one, two]", "foreach: [two]")
    assert green_clone(project) == []  # not committed
    project.commit()
    (stale,) = green_clone(project)
    assert "a fresh clone: dvc.lock: lines" in stale
    project.edit("dvc.yaml", "cmd: cp params.yaml rows.txt", "cmd: cp params.yaml rows.txt && true")
    project.commit()
    # What depends on rows is not behind by itself: it reruns only if rows comes out otherwise.
    assert green_clone(project)[-1].startswith("a fresh clone would run 1 stage(s), rows: commit")


@pytest.mark.slow
def test_the_hooks_stop_planted_faults(project, tmp_path):
    """The real pre-commit, the project's own configuration, real commits and a real push."""
    pytest.importorskip("pre_commit")
    (project / ".venv").symlink_to(sys.prefix)
    project.git("init", "-q", "--bare", str(tmp_path / "remote"))
    project.git("remote", "add", "origin", str(tmp_path / "remote"))
    project.run(".venv/bin/pre-commit", "install")

    def attempt(message, *, wanted):
        project.git("add", "-A")
        return project.git("commit", "-qm", message, wanted=wanted)

    project.write({"tool.py": "import os\nx = 'a'\n"})
    project.edit("README.md", "# Project", "# Project\n\n[gone](docs/gone.md)")
    said = attempt("unused import, single quotes, a broken link", wanted=1)
    for fault in ("F401", "1 file would be reformatted", "link to docs/gone.md does not exist"):
        assert fault in said
    project.write({"tool.py": 'x = "a"\n'})
    project.edit("README.md", "[gone](docs/gone.md)", "text")
    project.edit("dvc.yaml", "cmd: cp params.yaml rows.txt", "cmd: cp params.yaml rows.txt && true")
    attempt("well formed, but not run", wanted=0)
    said = project.git("push", "-q", "origin", "main", wanted=1)
    assert "a fresh clone would run 1 stage(s), rows" in said
    project.dvc("repro", "-q")
    attempt("run", wanted=0)
    project.git("push", "-q", "origin", "main")


@pytest.mark.slow
def test_green_clone_of_this_pipeline_names_the_stages_behind_an_edit(this_project, tmp_path):
    """What is committed runs nothing in a clone, or other stages than these would be named."""
    clone = this_project.clone(tmp_path / "clone")
    clone.edit("params.yaml", "objective: nll", "objective: ece")
    clone.commit()
    (line,) = green_clone(clone)
    assert "would run 3 stage(s), calibrate, evaluate, evaluate_cascade: " in line
