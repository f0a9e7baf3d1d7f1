"""``assay study`` with the real git, dvc and ``assay repro``, on a small pipeline that writes real keys of metrics."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from assay.core.io import sha256_file
from assay_tools.study import state_of_code

PIPELINE = """
stages:
  fetch:
    cmd: python work.py fetch data.txt
    deps: [work.py]
    outs: [data.txt]
  train:
    cmd: python work.py train model.txt
    params: [runtime.seed, forge.unseen]
    deps: [work.py, data.txt]
    outs: [model.txt]
  evaluate:
    cmd: python work.py evaluate metrics/stage1.json
    deps: [work.py, model.txt]
    metrics: [metrics/stage1.json: {cache: false}]
  evaluate_cascade:
    cmd: python work.py evaluate_cascade metrics/cascade.json
    deps: [work.py, model.txt]
    metrics: [metrics/cascade.json: {cache: false}]
  evaluate_text:
    cmd: python work.py evaluate_text metrics/text.json
    deps: [work.py, model.txt]
    metrics: [metrics/text.json: {cache: false}]
"""
# ASSAY_TEST_RUNS: a folder in which each stage notes that it ran; <stage>-<seed>.fail there makes it fail, .sleep wait.
WORK = """
import json, os, sys, time
from pathlib import Path
from ruamel.yaml import YAML

stage, output = sys.argv[1:]
params = YAML(typ="safe").load(Path("params.yaml").read_text())
seed, unseen = params["runtime"]["seed"], params["forge"]["unseen"]
notes, name = Path(os.environ["ASSAY_TEST_RUNS"]), f"{stage}-{seed}"
with (notes / "ran").open("a") as stream:
    stream.write(f"{stage} {seed} {','.join(unseen)} {Path('left').exists()}\\n")
while (notes / f"{name}.sleep").exists():
    time.sleep(0.1)
if (notes / f"{name}.fail").exists():
    sys.exit(f"{name}: planted failure")
if not output.startswith("metrics/"):
    sys.exit(Path(output).write_text(f"{params['runtime']} {unseen}" if stage == "train" else "data") and 0)
metrics = json.loads(Path("template", Path(output).name).read_text())
value = seed / 100 + len(unseen[0]) / 1000
metrics |= {key: value for key in metrics if key.endswith((".auc", ".balanced_accuracy", ".accuracy"))}
Path(output).parent.mkdir(exist_ok=True)
Path(output).write_text(json.dumps(metrics))
"""
STUDY = "forge: {families: [recon, blend], unseen: [blend]}\n"
PLAN = "params: params/study.yaml\nseeds: [11, 12]\nfamily_seeds: [11]\n"
IGNORED = "/.assay/\n/timings/\n/data.txt\n/model.txt\n"


@pytest.fixture(scope="module")
def study(make_project, this_project, tmp_path_factory):
    """The pipeline with its embedded default run and committed, and a folder for notes of what runs."""
    files = {"dvc.yaml": PIPELINE, "work.py": WORK, "params/study.yaml": STUDY, "params/runs/study.yaml": PLAN}
    files |= {name: (this_project / name).read_text() for name in ("params.yaml", "docs/study.md")}
    files |= {f"template/{name}.json": (this_project / f"metrics/{name}.json").read_text() for name in NAMES}
    project = make_project(files | {".gitignore": IGNORED})
    notes = tmp_path_factory.mktemp("notes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_TEST_RUNS", str(notes))
        project.dvc("repro", "--quiet")
        project.commit()
        (notes / "ran").unlink()
        yield project, notes


NAMES = ("stage1", "cascade", "text")


def ran(notes):
    """What ran: stage, seed, families held out, and whether it was in a clone in which the test has left a file."""
    path = notes / "ran"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def record(project, run):
    return json.loads((project / f"docs/study/{run}.json").read_text())


@pytest.mark.slow
def test_a_study_that_fails_and_is_killed_goes_on_to_its_end(study, until):
    project, notes = study
    default = {path: path.read_bytes() for path in project.glob("metrics/*.json")} | {
        project / "dvc.lock": (project / "dvc.lock").read_bytes()
    }
    # A failure stops its own run alone.
    (notes / "train-12.fail").touch()
    only = ("--only", "seed-*", "family-recon-*")
    done = project.assay("study", "-j", "1", *only)
    assert done.returncode == 1, done.stderr
    assert "[1/3] seed-11: done in " in done.stdout
    assert "[2/3] seed-12: failed after " in done.stdout
    assert "train-12: planted failure" in done.stdout
    assert "1 of 3 runs failed: seed-12" in done.stdout
    assert [line[0] for line in ran(notes)].count("fetch") <= 1, "what runs have in common ran in each"
    asked = {(stage, *what) for stage, *what, _ in ran(notes)}
    assert ("evaluate_text", "11", "blend") in asked
    assert ("evaluate", "11", "recon") in asked
    assert ("evaluate_text", "11", "recon") not in asked, "a line without forgeries has run for a family"
    states = project.assay("study", "--list").stdout.splitlines()
    assert [line.partition(" (")[0] for line in states] == [
        "done: seed-11",
        "begun: seed-12",
        "done: family-recon-seed-11",
        "waiting: family-blend-seed-11",
    ]
    # Killed in the middle of a training: the next one goes on in the same clone.
    (notes / "train-12.fail").unlink()
    (notes / "train-12.sleep").touch()
    (notes / "ran").unlink()
    process = project.start("assay.cli", "study", "--only", "seed-*")
    until(lambda: any(line[:2] == ["train", "12"] for line in ran(notes)))
    second = project.assay("study")
    assert (second.returncode, "assay study is at work here already" in second.stderr) == (2, True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (notes / "train-12.sleep").unlink()
    (project / ".assay/study/seed-12/left").touch()
    done = project.assay("study", *only)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("done already") == 2
    assert [line for line in ran(notes) if line[0] == "train"][-1] == ["train", "12", "blend", "True"]
    # Each run is kept by its commit and lock, and by what it measured; the default is what it was.
    commit = project.git("rev-parse", "HEAD")
    for run in ("seed-11", "seed-12", "family-recon-seed-11"):
        found = record(project, run)
        assert found["commit"] == commit
        assert found["lock"] == sha256_file(project / f".assay/study/{run}.lock")
        assert not (project / f".assay/study/{run}").exists()
    values = {
        run: next(row["value"] for row in record(project, run)["figures"] if row["what"] == "cascade, unseen families")
        for run in ("seed-11", "seed-12", "family-recon-seed-11")
    }
    assert values == {"seed-11": 0.115, "seed-12": 0.125, "family-recon-seed-11": 0.115}
    assert {row["line"] for row in record(project, "seed-12")["figures"]} == {"images", "text"}
    assert {row["line"] for row in record(project, "family-recon-seed-11")["figures"]} == {"images"}
    assert {path: path.read_bytes() for path in default} == default
    page = (project / "docs/study.md").read_text()
    assert "| images | cascade, unseen families | AUC | 2 | 0.120 | 0.0071 |" in page
    assert f"| seed-12 | `params/study.yaml` | `runtime.seed: 12` | `{commit[:12]}` |" in page


def test_other_parameters_make_a_record_stale_and_a_commit_of_records_does_not(study, tmp_path):
    project = type(study[0])(shutil.copytree(study[0], tmp_path / "project"))
    state = state_of_code(project, "params/study.yaml")
    for seed, told in ((11, state), (12, "another")):
        values = json.dumps({"state": told, "values": {"runtime.seed": seed}})
        project.write({f"docs/study/seed-{seed}.json": values})
    project.commit()
    assert states(project)[:2] == ["done", "done by other code or parameters"]
    project.write({"params/study.yaml": f"{STUDY}train_stage1: {{epochs: 7}}\n"})
    assert "params/study.yaml is not: git commit" in project.assay("study").stderr
    project.commit()
    assert states(project)[:2] == ["done by other code or parameters"] * 2


def states(project):
    return [line.partition(":")[0] for line in project.assay("study", "--list").stdout.splitlines()]


@pytest.mark.parametrize(
    ("plan", "arguments", "told"),
    [
        (PLAN, ["--only", "seed-13"], "--only seed-13 is no run; there are seed-11, seed-12, family-recon-seed-11"),
        ("params: params/study.yaml\nseeds: []\nfamily_seeds: []\n", [], "seeds: got []; List should have at least 1"),
        ("params: params/study.yaml\nseeds: [1, 1]\nfamily_seeds: []\n", [], "seeds has an entry twice: [1, 1]"),
        ("params: params/none.yaml\nseeds: [1]\nfamily_seeds: []\n", [], "params/none.yaml"),
    ],
)
def test_a_plan_that_cannot_be_used_is_told(study, tmp_path, plan, arguments, told):
    path = Path(tmp_path / "plan.yaml")
    path.write_text(plan)
    done = study[0].assay("study", "--list", "--runs", os.fspath(path), *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_the_plan_that_ships_holds_each_family_out_once(this_project):
    lines = this_project.assay("study", "--list").stdout.splitlines()
    names = [line.split()[1] if line.startswith("done:") else line.split(": ")[1].split()[0] for line in lines]
    families = [name.split("-")[1] for name in names if name.startswith("family-")]
    assert len(families) == len(set(families)) == 8
    assert sum(name.startswith("seed-") for name in names) == 3
