"""``assay why`` names what changed and what follows, for the real dvc on a small pipeline and on this one."""

import json
import os

import pytest
from ruamel.yaml import YAML

from assay_tools.why import Change, explain, tell

# dvc's own, about one of its libraries.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

STAGES = """\
stages:
  prepare:
    desc: rows
    cmd: python src/prepare.py
    params: [prepare]
    deps: [src/prepare.py, raw.csv]
    outs: [data/rows]
  train:
    foreach: [small, large]
    do:
      desc: model
      cmd: python src/train.py ${item}
      params: ["train.${item}"]
      deps: [src/train.py, data/rows/rows.csv]
      outs: ["models/${item}"]
  evaluate:
    desc: figures
    cmd: python src/evaluate.py
    deps: [src/evaluate.py, models/small, models/large]
    metrics:
      - metrics/all.json: {cache: false}
"""
CODE_STAGES = """\
  code:
    cmd: python -m assay.closure
    deps: [src/assay, requirements.lock]
    outs: [code: {cache: false}]
  fit:
    cmd: echo 1 > fit.txt
    deps: [code/fit.json]
    outs: [fit.txt]
"""
PARAMS = "prepare: {keep: 2, clean: {lower: true, forms: [a, b]}}\ntrain:\n  small: {lr: 0.1}\n  large: {lr: 0.2}\n"
FILES = {
    "src/prepare.py": "import os, shutil\nos.makedirs('data/rows')\nshutil.copy('raw.csv', 'data/rows/rows.csv')\n",
    "src/train.py": "import sys\nopen(f'models/{sys.argv[1]}', 'w').write(sys.argv[1])\n",
    "src/evaluate.py": "open('metrics/all.json', 'w').write('{}')\n",
    "raw.csv": "a\nb\n",
    "params.yaml": PARAMS,
    "dvc.yaml": STAGES,
    "timings/prepare.json": json.dumps({"wall_s": 30.0}),
    "timings/train@large.json": json.dumps({"wall_s": 90.0}),
    ".gitignore": "/timings/\n",
}


@pytest.fixture(scope="module")
def finished(make_project):
    """The pipeline, run and committed."""
    project = make_project(FILES)
    for name in ("models", "metrics"):
        (project / name).mkdir()
    project.dvc("repro", "-q")
    project.commit()
    return project


def changes(explanation):
    (reasons,) = explanation.stages
    return [(change.kind, change.name) for change in reasons.changes]


def reruns(explanation):
    return [row.stage for row in explanation.reruns]


def content(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and ".dvc/tmp" not in str(path)]
    return {str(path): path.read_bytes() for path in files}


def test_up_to_date_is_said_and_nothing_is_written(project):
    before = content(project)
    found = explain(project, "train@small")
    assert found.stages[0].is_current
    assert found.reruns == ()
    assert tell(found) == "train@small: up to date"
    assert content(project) == before


def test_a_leaf_of_the_parameters_is_shown_old_and_new(project):
    project.edit("params.yaml", "lower: true, forms: [a, b]", "lower: false, forms: []")
    project.edit("params.yaml", "keep: 2, ", "more: {x: 1}, ")
    (reasons,) = explain(project, "prepare").stages
    assert reasons.changes == (
        Change("params", "prepare.clean.forms", '["a", "b"]', "[]"),
        Change("params", "prepare.clean.lower", "true", "false"),
        Change("params", "prepare.keep", "2", "(absent)"),
        Change("params", "prepare.more.x", "(absent)", "1"),
    )


def test_what_follows_comes_in_order_with_its_minutes(project):
    project.edit("params.yaml", "keep: 2", "keep: 3")
    found = explain(project, "train")
    assert [(row.stage, row.wall_s, row.first) for row in found.reruns] == [
        ("prepare", 30.0, True),
        ("train@small", None, False),
        ("train@large", 90.0, False),
        ("evaluate", None, False),
    ]
    assert [reasons.upstream for reasons in found.stages] == [("prepare",), ("prepare",)]
    text = tell(found)
    assert "train@small, train@large will run again:" in text
    assert "upstream  changed themselves and run first: prepare" in text
    assert "At most" in text
    assert "4 stage(s): 2.0 min and 2 without a timing" in text


def test_one_of_a_group_alone(project):
    project.edit("params.yaml", "lr: 0.2", "lr: 3e-1")
    found = explain(project, "train")
    assert [reasons.is_current for reasons in found.stages] == [True, False]
    assert reruns(found) == ["train@large", "evaluate"]
    assert "train@small: up to date" in tell(found)
    # What runs before evaluate is named, and evaluate itself is not said to have changed.
    behind = explain(project, "evaluate")
    assert behind.stages[0].changes == ()
    assert behind.stages[0].upstream == ("train@large",)
    assert explain(project, "prepare").reruns == ()


def test_code_is_counted_against_the_version_that_ran(project):
    project.edit("src/train.py", "import sys\n", "import sys\nprint(1)\n")
    project.commit()
    project.edit("src/train.py", "print(1)\n", "print(1)\nprint(2)\n")
    found = explain(project, "train@small")
    assert changes(found) == [("code", "src/train.py")]
    assert found.stages[0].changes[0].note.startswith("+2 -0 lines since ")
    assert reruns(found) == ["train@small", "evaluate"]


def test_code_and_packages_are_named_before_the_stage_code_runs(project):
    """A stage that depends on its file of digests; a module, a new import and a package version change."""
    source = {
        "src/assay/stages/fit.py": "from assay import model\n",
        "src/assay/model.py": '"""A model."""\n\nimport numpy\n\nSIZE = 1\n',
        "requirements.lock": "numpy==2.0\n",
        "dvc.yaml": STAGES + CODE_STAGES,
    }
    project.write(source)
    project.dvc("repro", "-q", "fit")
    project.commit()
    project.edit("src/assay/model.py", "A model", "Words")
    assert changes(explain(project, "fit")) == []
    edited = {
        "src/assay/model.py": "import numpy\nimport assay.more\n\nSIZE = 2\n",
        "src/assay/more.py": "MORE = 1\n",
        "requirements.lock": "numpy==2.1\n",
    }
    project.write(edited)
    found = explain(project, "fit")
    code, package = [("code", "src/assay/model.py"), ("code", "src/assay/more.py")], ("package", "numpy")
    assert changes(found) == [*code, package]
    for part in ("lines since", "newly imported", "2.0 -> 2.1", "--dry can't foresee"):
        assert part in tell(found)
    assert reruns(found) == ["fit"]


def test_data_old_and_new_and_missing(project):
    (project / "raw.csv").write_text("a\nb\nc\n")
    (change,) = explain(project, "prepare").stages[0].changes
    assert (change.kind, change.name) == ("data", "raw.csv")
    assert change.old.endswith("(4 B)")
    assert change.new.endswith("(6 B)")
    (project / "raw.csv").unlink()
    (change,) = explain(project, "prepare").stages[0].changes
    assert (change.new, change.note) == ("(absent)", "no stage makes it")


def test_outputs_changed_by_hand(project):
    (project / "models/small").unlink()
    (project / "models/small").write_text("mine")
    (project / "metrics/all.json").unlink()
    assert changes(explain(project, "train@small")) == [("output", "models/small")]
    found = explain(project, "evaluate")
    assert ("data", "models/small") in changes(found)
    assert "git restore metrics/all.json brings it back" in tell(found)


def test_command_new_dep_and_new_stage(project):
    project.edit("dvc.yaml", "cmd: python src/evaluate.py", "cmd: python src/evaluate.py --all")
    project.edit("dvc.yaml", "[src/evaluate.py, ", "[src/evaluate.py, raw.csv, ")
    project.edit("dvc.yaml", "foreach: [small, large]", "foreach: [small, large, huge]")
    project.edit("params.yaml", "  large:", "  huge: {lr: 0.3}\n  large:")
    found = explain(project, "evaluate")
    assert changes(found) == [("command", ""), ("data", "raw.csv")]
    assert "python src/evaluate.py -> python src/evaluate.py --all" in tell(found)
    found = explain(project, "train@huge")
    assert changes(found) == [("never run", "")]
    assert reruns(found) == ["train@huge"]


def test_an_unknown_stage_gets_the_nearest_names(project):
    with pytest.raises(ValueError, match=r"no stage trian@large in dvc\.yaml; did you mean train@large"):
        explain(project, "trian@large")
    with pytest.raises(ValueError, match="there are evaluate, prepare, train"):
        explain(project, "zzz")
    project.edit("dvc.yaml", "outs: [data/rows]", "outs: [data/rows, models]")
    with pytest.raises(ValueError, match="dvc refuses the pipeline"):
        explain(project, "train")


def test_without_data_dvc_lock_is_compared(project, tmp_path):
    clone = project.clone(tmp_path / "clone")
    found = explain(clone, "evaluate")
    assert found.stages[0].is_current
    assert found.stages[0].absent == ("models/small", "models/large")
    assert "dvc pull or dvc repro --pull" in tell(found)
    clone.edit("params.yaml", "lr: 0.2", "lr: 0.3")
    assert reruns(explain(clone, "train@large")) == ["train@large", "evaluate"]
    # The lock of a merge that took one stage's entry from elsewhere.
    lock = YAML(typ="safe").load((clone / "dvc.lock").read_text())
    lock["stages"]["train@small"]["outs"][0]["md5"] = "0" * 32
    with (clone / "dvc.lock").open("w") as stream:
        YAML().dump(lock, stream)
    assert changes(explain(clone, "evaluate")) == [("data", "models/small")]


def test_it_answers_while_a_stage_is_locked(project):
    held = {"write": {str(project / "models/small"): {"pid": os.getpid(), "cmd": "dvc repro"}}, "read": {}}
    (project / ".dvc/tmp/rwlock").write_text(json.dumps(held))
    assert explain(project, "evaluate").stages[0].is_current


@pytest.mark.slow
def test_on_this_pipeline(this_project, tmp_path):
    """In a clone of what is committed: one key edited, that key named old and new, and its stages alone."""
    clone = this_project.clone(tmp_path / "clone")
    target, wanted = "train_counts", ["train_counts@quantile", "score_counts", "evaluate_counts"]
    before = explain(clone, target)
    known = {change for reasons in before.stages for change in reasons.changes}
    if any(change.kind == "never run" for change in known):
        pytest.skip(f"the committed dvc.lock has no entry of {target} yet")
    yaml = YAML()
    params = yaml.load((clone / "params.yaml").read_text())
    settings = params["train_counts"]["quantile"]
    old, settings["lr"] = settings["lr"], 0.0005
    with (clone / "params.yaml").open("w") as stream:
        yaml.dump(params, stream)
    found = explain(clone, target)
    told = {change for reasons in found.stages for change in reasons.changes}
    # A committed dvc.lock that is behind the code has reasons of its own; the edit adds one.
    assert told - known == {Change("params", "train_counts.quantile.lr", json.dumps(old), "0.0005")}
    assert set(wanted) <= set(reruns(found))
    if all(reasons.is_current for reasons in before.stages):
        assert reruns(found) == wanted
