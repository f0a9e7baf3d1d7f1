"""The gates find what they are there to find: planted faults, and a real clone."""

import os
import shutil
import subprocess
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


ENVIRONMENT = os.environ | {"DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull}
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


def run(*command: str, cwd: Path, wanted: int = 0) -> str:
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == wanted, done.stdout + done.stderr
    return done.stdout + done.stderr


def commit(folder: Path) -> None:
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-qnm", "state", cwd=folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small pipeline with the real params.yaml, run and committed."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    for name in ("models", "metrics", "plots"):
        (folder / name).mkdir(parents=True)
    for name in ("params.yaml", ".pre-commit-config.yaml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "dvc.yaml").write_text(STAGES)
    (folder / ".gitignore").write_text("/.venv\n")
    (folder / "README.md").write_text("# Project\n")
    run("git", "init", "-q", "-b", "main", cwd=folder)
    run("git", "config", "user.name", "t", cwd=folder)
    run("git", "config", "user.email", "t@example.invalid", cwd=folder)
    run(sys.executable, "-m", "dvc", "init", "-q", cwd=folder)
    run(sys.executable, "-m", "dvc", "repro", "-q", cwd=folder)
    commit(folder)
    return folder


@pytest.fixture
def pipeline(finished, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "project"))


def edit(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


def test_a_sound_pipeline_has_no_problem_from_any_folder(pipeline, tmp_path, monkeypatch):
    assert problems(pipeline) == []
    monkeypatch.chdir(pipeline)
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
                "out models/one of stage model@one lies inside out models of stage rows",
                "out models/two of stage model@two lies inside out models of stage rows",
            ],
        ),
        ("metrics/all.json: {", "models/two/all.json: {", ["metric models/two/all.json of stage figures lies inside"]),
        ("outs: [rows.txt]", "outs: [rows.txt, plots/all.csv]", ["plots/all.csv of stage figures is also"]),
        (
            "deps: [params.yaml]",
            "deps: [params.yaml, models/one]",
            ["dvc refuses the pipeline: Same item(s) are"],
        ),
        ("mkdir models/${item}", "mkdir models/${nothing}", ["dvc refuses the pipeline: failed to parse"]),
        ("    desc: figures\n", "", ["stage figures has no desc"]),
    ],
)
def test_faults_of_the_resolved_stages_are_named(pipeline, old, new, wanted):
    edit(pipeline, "dvc.yaml", old, new)
    found = [line for line in problems(pipeline) if "is not in git" not in line and "in git, but" not in line]
    assert len(found) == len(wanted), found
    assert all(any(text in line for line in found) for text in wanted), found


def test_neighbours_of_like_name_do_not_overlap():
    names = ["models/a", "models/a-b", "models/a.txt", "models/ab/c", "models"]
    rows = [Output(f"s{number}", name, "out", True) for number, name in enumerate(names)]
    assert overlapping(rows[:4]) == []
    assert len(overlapping(rows)) == 4
    assert overlapping([]) == []


def test_results_are_declared_and_in_git(pipeline):
    (pipeline / "plots/stray.png").write_text("")
    (pipeline / "metrics/new.json").write_text("{}")
    assert problems(pipeline) == []
    run("git", "add", "plots/stray.png", cwd=pipeline)
    (stray,) = problems(pipeline)
    assert stray.startswith("plots/stray.png: in git, but no stage")
    edit(pipeline, "dvc.yaml", "metrics:\n", "metrics:\n      - metrics/new.json: {cache: false}\n")
    run("git", "rm", "-q", "--cached", "plots/all.csv", cwd=pipeline)
    found = problems(pipeline)
    assert any("metric metrics/new.json of stage figures is not in git" in line for line in found)
    assert any("plot plots/all.csv of stage figures is not in git" in line for line in found)
    assert len(found) == 3


def test_plots_beside_the_stages_count_as_declared(pipeline):
    run("git", "mv", "plots/all.csv", "plots/other.csv", cwd=pipeline)
    edit(pipeline, "dvc.yaml", "stages:\n", "plots:\n  - curve: {x: a, y: {plots/other.csv: b}}\nstages:\n")
    edit(pipeline, "dvc.yaml", "      - plots/all.csv: {cache: false}\n", "      - plots/folder: {cache: false}\n")
    (pipeline / "plots/folder").mkdir()
    (pipeline / "plots/folder/a.csv").write_text("a")
    run("git", "add", "plots", cwd=pipeline)
    assert problems(pipeline) == []


def test_a_cached_plot_needs_no_git():
    assert undeclared([Output("s", "plots/big", "plot", False)], tracked=["plots/big/a.csv"]) == []
    assert undeclared([Output("s", "plots/big", "plot", True)], tracked=[]) == []
    assert len(undeclared([Output("s", "plots/big", "plot", False)], tracked=["plots/bigger.csv"])) == 2


def test_stale_entries_of_the_lock_are_named_by_their_lines_and_removed(pipeline):
    before = (pipeline / "dvc.lock").read_text()
    edit(pipeline, "dvc.yaml", "foreach: [one, two]", "foreach: [two]")
    (problem,) = problems(pipeline)
    first, last = (int(number) for number in problem.split()[2].split("-"))
    lines = before.splitlines(keepends=True)
    assert lines[first - 1] == "  model@one:\n"
    assert fix_lock(pipeline) == ["model@one"]
    assert (pipeline / "dvc.lock").read_text() == "".join(lines[: first - 1] + lines[last:])
    assert fix_lock(pipeline) == []
    assert problems(pipeline) == []
    assert "up to date" in run(sys.executable, "-m", "dvc", "status", cwd=pipeline)


def test_green_clone_names_what_would_run_and_what_is_stale(pipeline, monkeypatch):
    # Git sets these for its hooks; they must not lead the clone astray.
    monkeypatch.setenv("GIT_DIR", str(pipeline / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(pipeline / ".git/index"))
    assert green_clone(pipeline) == []
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_INDEX_FILE")
    edit(pipeline, "dvc.yaml", "foreach: [one, two]", "foreach: [two]")
    assert green_clone(pipeline) == []  # not committed
    commit(pipeline)
    (stale,) = green_clone(pipeline)
    assert "a fresh clone: dvc.lock: lines" in stale
    edit(pipeline, "dvc.yaml", "cmd: cp params.yaml rows.txt", "cmd: cp params.yaml rows.txt && true")
    commit(pipeline)
    # What depends on rows is not behind by itself: it reruns only if rows comes out otherwise.
    assert green_clone(pipeline)[-1].startswith("a fresh clone would run 1 stage(s), rows: commit")


@pytest.mark.slow
def test_the_hooks_stop_planted_faults(pipeline, tmp_path):
    """The real pre-commit, the project's own configuration, real commits and a real push."""
    pytest.importorskip("pre_commit")
    (pipeline / ".venv").symlink_to(sys.prefix)
    run("git", "init", "-q", "--bare", str(tmp_path / "remote"), cwd=tmp_path)
    run("git", "remote", "add", "origin", str(tmp_path / "remote"), cwd=pipeline)
    run(".venv/bin/pre-commit", "install", cwd=pipeline)

    def attempt(message: str, *, wanted: int) -> str:
        run("git", "add", "-A", cwd=pipeline)
        return run("git", "commit", "-qm", message, cwd=pipeline, wanted=wanted)

    (pipeline / "tool.py").write_text("import os\nx = 'a'\n")
    said = attempt("unused import, single quotes", wanted=1)
    assert "F401" in said
    assert "1 file would be reformatted" in said
    (pipeline / "tool.py").write_text('x = "a"\n')
    edit(pipeline, "README.md", "# Project", "# Project\n\n[gone](docs/gone.md)")
    assert "link to docs/gone.md does not exist" in attempt("a broken link", wanted=1)
    edit(pipeline, "README.md", "[gone](docs/gone.md)", "text")
    edit(pipeline, "dvc.yaml", "cmd: cp params.yaml rows.txt", "cmd: cp params.yaml rows.txt && true")
    attempt("well formed, but not run", wanted=0)
    said = run("git", "push", "-q", "origin", "main", cwd=pipeline, wanted=1)
    assert "a fresh clone would run 1 stage(s), rows" in said
    run(sys.executable, "-m", "dvc", "repro", "-q", cwd=pipeline)
    attempt("run", wanted=0)
    run("git", "push", "-q", "origin", "main", cwd=pipeline)


@pytest.mark.slow
def test_green_clone_of_this_pipeline_names_the_stages_behind_an_edit(tmp_path):
    """What is committed runs nothing in a clone, or other stages than these would be named."""
    if not (ROOT / "dvc.lock").is_file():
        pytest.skip("no dvc.lock yet")
    clone = tmp_path / "clone"
    run("git", "clone", "-q", "--no-hardlinks", str(ROOT), str(clone), cwd=tmp_path)
    edit(clone, "params.yaml", "objective: nll", "objective: ece")
    run("git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit", "-qam", "edit", cwd=clone)
    (line,) = green_clone(clone)
    assert "would run 3 stage(s), calibrate, evaluate, evaluate_cascade: " in line
