"""The daily loop of README.md with the real dvc: experiments, a queue of them, and differences between branches.

Stage 1 of the images line on params/tiny.yaml; every test works in a git clone of that, with the same dvc cache.
"""

import csv
import io
import json
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow
# conftest.py's class, which can not be imported here.
Clone = Any
FILTER = ("train_stage1", "distill_stage1", "choose_stage1")
STAGES = ["code", "fetch_photos", "forge", "fetch_weights", "prepare"]
# The experts teach one of both filters.
STAGES += ["init_expert", "train_expert", *(f"kfold_fold_{fold}" for fold in range(5))]
STAGES += [*FILTER, "score_stage1", "calibrate", "evaluate"]
BEHIND_LR = {*FILTER, "score_stage1", "calibrate", "evaluate"}


@pytest.fixture(scope="module")
def base(
    finished: dict[str, Future[Clone]], tmp_path_factory: pytest.TempPathFactory, copy_clone: Callable[..., Clone]
) -> Clone:
    """Stage 1 up to its evaluation; the stages of dvc.yaml besides these are taken out."""
    whole = finished["images"].result()
    stages = [name for name in whole.stages() if name.split("@")[0] in STAGES]
    clone = copy_clone(whole, tmp_path_factory.mktemp("experiments") / "base", stages=stages)
    yaml, path = YAML(), clone.path / "dvc.yaml"
    pipeline = yaml.load(path.read_text(encoding="utf-8"))
    pipeline["stages"] = {name: pipeline["stages"][name] for name in STAGES}
    with path.open("w", encoding="utf-8") as stream:
        yaml.dump(pipeline, stream)
    clone.commit("stage 1")
    return clone


@pytest.fixture
def clone(base: Clone, tmp_path: Path, copy_clone: Callable[..., Clone]) -> Clone:
    made = copy_clone(base, tmp_path / "clone")
    assert "up to date" in made.dvc("repro", "--dry")
    return made


def metrics(clone: Clone, name: str = "stage1") -> dict[str, Any]:
    return json.loads((clone.path / f"metrics/{name}.json").read_text(encoding="utf-8"))


def ran(output: str) -> set[str]:
    """Stages whose command was run."""
    lines = [line for line in output.splitlines() if line.startswith("Running stage")]
    return {line.split("'")[1] for line in lines}


def figure(row: dict[str, str], key: str) -> float:
    """A metric of stage 1 in a row of ``table``; dvc puts the file before a key that several files have."""
    named = f"metrics/stage1.json:{key}"
    return float(row[named] if named in row else row[key])


def table(clone: Clone) -> list[dict[str, str]]:
    """The experiments of ``dvc exp show``, without the workspace and the branches."""
    rows = csv.DictReader(io.StringIO(clone.dvc("exp", "show", "--csv")))
    return [row for row in rows if row["typ"] not in ("", "baseline")]


def test_an_experiment_keeps_its_value_and_is_shown(clone: Clone) -> None:
    """DVC writes 1e-05 for this value, which YAML 1.1 reads as text."""
    before = metrics(clone)
    output = clone.dvc("exp", "run", "-S", "train_stage1.lr=1e-5")
    assert ran(output) == BEHIND_LR
    lr = clone.params()["train_stage1"]["lr"]
    assert isinstance(lr, float)
    assert lr == 1e-5
    assert json.loads((clone.path / "models/stage1/model.json").read_text(encoding="utf-8"))["params"]["lr"] == 1e-5
    assert clone.stages()["train_stage1"]["params"]["params.yaml"]["train_stage1"]["lr"] == 1e-5
    assert metrics(clone) != before
    (row,) = table(clone)
    assert float(row["train_stage1.lr"]) == 1e-5
    assert figure(row, "test.nll") == metrics(clone)["test.nll"]
    diff = json.loads(clone.dvc("exp", "diff", "--json", "HEAD", row["Experiment"]))
    lr = diff["params"]["params.yaml"]["train_stage1.lr"]
    assert (lr["old"], lr["new"]) == (0.001, 1e-5)
    nll = diff["metrics"]["metrics/stage1.json"]["test.nll"]
    assert (nll["old"], nll["new"]) == (before["test.nll"], metrics(clone)["test.nll"])


def test_a_wrong_value_stops_before_any_work(clone: Clone) -> None:
    """The first stage that reads the value refuses it; nothing else has run, and the old value is as it was."""
    lock, before = clone.lock, metrics(clone)
    done = clone.start("exp", "run", "-S", "train_stage1.lr=abc")
    assert done.returncode != 0
    assert "train_stage1.lr: got 'abc'" in done.stdout
    assert "Traceback" not in done.stdout
    assert ran(done.stdout) == {"train_stage1"}
    assert "epoch 1" not in done.stdout
    assert clone.lock == lock
    assert metrics(clone) == before
    assert table(clone) == []
    clone.git("checkout", "params.yaml")
    assert ran(clone.dvc("repro")) == set()
    assert "up to date" in clone.dvc("status")


def test_a_sweep_waits_in_the_queue_and_its_best_is_applied(clone: Clone) -> None:
    before = metrics(clone)
    output = clone.dvc("exp", "run", "--queue", "-S", "evaluate.num_bins=7,9")
    assert output.count("Queued experiment") == 2
    assert clone.dvc("queue", "status").count("Queued") == 2
    assert ran(clone.dvc("repro", "--dry")) == set(), "queueing changed the workspace"
    output = clone.dvc("exp", "run", "--run-all")
    assert ran(output) == {"evaluate"}
    assert clone.dvc("queue", "status").count("Success") == 2
    rows = {int(row["evaluate.num_bins"]): row for row in table(clone)}
    assert set(rows) == {7, 9}, output
    values = {before["test.ece_width_chance"], *(figure(row, "test.ece_width_chance") for row in rows.values())}
    assert len(values) == 3, "a value changed nothing"
    assert metrics(clone) == before, "the queue changed the workspace"
    clone.dvc("exp", "apply", rows[7]["Experiment"])
    assert clone.params()["evaluate"]["num_bins"] == 7
    assert metrics(clone)["test.ece_width_chance"] == figure(rows[7], "test.ece_width_chance")
    assert ran(clone.dvc("repro")) == set()
    assert "up to date" in clone.dvc("status")


@pytest.fixture(scope="module")
def branches(base: Clone, tmp_path_factory: pytest.TempPathFactory, copy_clone: Callable[..., Clone]) -> Clone:
    """A branch ``main`` and, checked out, a branch ``bins`` with another value, run and committed."""
    clone = copy_clone(base, tmp_path_factory.mktemp("branches") / "clone")
    clone.git("checkout", "--quiet", "-b", "bins")
    clone.edit({"calibrate.objective": "ece", "evaluate.num_bins": 3})
    assert ran(clone.dvc("repro")) == {"calibrate", "evaluate"}
    clone.commit("three bins")
    return clone


def committed(clone: Clone, branch: str) -> dict[str, Any]:
    return json.loads(clone.git("show", f"{branch}:metrics/stage1.json"))


def test_metrics_diff_between_branches(branches: Clone) -> None:
    old, new = committed(branches, "main"), committed(branches, "bins")
    diff = json.loads(branches.dvc("metrics", "diff", "--json", "main"))["metrics/stage1.json"]
    told = {key: (entry["old"], entry["new"]) for key, entry in diff.items()}
    assert told == {key: (old[key], new[key]) for key in old if new[key] != old[key]}
    assert "test.ece_mass" in diff
    assert "test.auc" not in diff
    shown = branches.dvc("metrics", "diff", "main")
    assert "test.ece_mass" in shown


def test_plots_diff_writes_a_page_with_both_branches(branches: Clone, tmp_path: Path) -> None:
    branches.dvc("plots", "diff", "main", "--out", str(tmp_path / "page"), "--targets", "plots/stage1/reliability.csv")
    page = (tmp_path / "page/index.html").read_text(encoding="utf-8")
    for branch in ("main", "bins"):
        rows = list(csv.DictReader(io.StringIO(branches.git("show", f"{branch}:plots/stage1/reliability.csv"))))
        assert all(row["mean_prob"] in page for row in rows)
    assert '"rev": "main"' in page
    assert '"rev": "workspace"' in page


def test_the_values_of_two_branches_can_be_had_again(branches: Clone) -> None:
    """Back on main everything comes from the cache, and forth again."""
    for branch, bins in (("main", 5), ("bins", 3)):
        branches.git("checkout", "--quiet", branch)
        branches.check_out()
        assert branches.params()["evaluate"]["num_bins"] == bins
        assert ran(branches.dvc("repro")) == set()
        assert branches.git("status", "--porcelain") == ""
