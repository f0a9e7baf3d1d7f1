"""What an edit to params.yaml, to the code or to the locked packages reruns: the real dvc on the real dvc.yaml, against
tables written down here.

Parameters twice, because neither way alone shows everything:

- A copy of dvc.yaml, params.yaml and the package in which every dependency and output is a small stand-in, committed
  by ``dvc commit``. It needs no data and no dvc.lock. Observed with dvc 3.67: ``dvc repro --dry`` names only the
  stages that changed themselves, since their outputs stay as they are; ``--force-downstream`` names those behind them
  too.
- A clone of what is committed, without data, where dvc.lock speaks for what is missing (``--allow-missing``).
  Observed with dvc 3.67: a changed stage whose deps are missing is not printed as "Running stage"; it ends the dry
  run with "failed to reproduce". With ``--keep-going`` dvc goes on, names every changed stage as failed and
  everything behind it as skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from assay import closure

ROOT = Path(__file__).parent.parent
SUBSETS = ["full", *(f"fold_{number}" for number in range(5))]
KFOLD = {f"kfold_fold_{number}" for number in range(5)}
CASCADE = {"score_cascade", "evaluate_cascade"}
BEHIND_EXPERTS = KFOLD | {"build_meta", "train_meta"} | CASCADE
STAGE1 = {"train_stage1", "score_stage1", "calibrate", "evaluate"} | CASCADE


def trainings(expert: str) -> set[str]:
    return {f"train_expert@{expert}-{subset}" for subset in SUBSETS}


VARIANTS = ("regression", "equal_width", "quantile", "staged", "ordinal", "llm_lora")
COUNTS = {"score_counts", "evaluate_counts"}
TEXT = {"train_text", "score_text", "evaluate_text"}
VLM = {"score_vlm", "vlm_predict"}
BEHIND_COUNTS = {"prepare_counts"} | COUNTS | {f"train_counts@{variant}" for variant in VARIANTS}
EVERY_TRAINING = trainings("efficientnetv2_b3") | trainings("maxvit")
# key, new value, stages that become invalid
TABLE = [
    ("train_expert.efficientnetv2_b3.lr", 0.0005, trainings("efficientnetv2_b3") | BEHIND_EXPERTS),
    ("train_expert.maxvit.image_size", 32, {"init_expert@maxvit"} | trainings("maxvit") | BEHIND_EXPERTS),
    ("train_meta.search.num_candidates", 3, {"train_meta"} | CASCADE),
    ("evaluate_cascade.budget_forged", 0.011, {"evaluate_cascade"}),
    ("train_stage1.lr", 0.0005, STAGE1),
    ("calibrate.objective", "ece", {"calibrate", "evaluate", "evaluate_cascade"}),
    ("evaluate.num_bins", 7, {"evaluate"}),
    ("train_counts.quantile.lr", 0.0005, {"train_counts@quantile"} | COUNTS),
    ("train_counts.llm_lora.rank", 3, {"train_counts@llm_lora"} | COUNTS),
    ("evaluate_counts.ridge_alpha", 3.0, COUNTS),
    ("evaluate_counts.num_resamples", 200, {"evaluate_counts"}),
    ("evaluate.robustness.max_samples", 20, {"score_stage1", "calibrate", "evaluate"} | CASCADE),
    ("prepare_counts.quantile_bins", 7, BEHIND_COUNTS),
    ("train_text.lr", 0.0005, TEXT),
    ("pretrain_text.mask_share", 0.2, {"pretrain_text"} | TEXT),
    ("evaluate_text.num_mistakes", 7, {"evaluate_text"}),
    ("vlm_predict.num_mistakes", 7, {"vlm_predict"}),
    ("vlm_sft_high_risk.lr", 0.0005, {"vlm_sft_high_risk"} | VLM),
    ("vlm_sft.lora.rank", 3, {"vlm_sft"} | VLM),
    ("pretrain_vlm.epochs", 1.0, {"pretrain_vlm", "vlm_sft", "vlm_sft_high_risk"} | VLM),
    ("prepare.folds", 4, {"prepare"} | STAGE1 | EVERY_TRAINING | BEHIND_EXPERTS),
]


def dvc(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def edit(folder: Path, key: str, value: object) -> None:
    """Write params.yaml of ``folder`` as it was at first, with one value changed."""
    yaml = YAML()
    original = folder / "params.original.yaml"
    if not original.exists():
        shutil.copy(folder / "params.yaml", original)
    params = yaml.load(original.read_text(encoding="utf-8"))
    *sections, name = key.split(".")
    section: Any = params
    for part in sections:
        section = section[part]
    assert section[name] != value, f"{key} is {value} already: the edit would change nothing"
    section[name] = value
    with (folder / "params.yaml").open("w", encoding="utf-8") as stream:
        yaml.dump(params, stream)


def import_of(folder: Path) -> dict[str, str]:
    """The environment of a process that imports the package of ``folder``."""
    return os.environ | {"PYTHONPATH": str(folder / "src")}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline with a small text in the place of every file that it reads or writes, all up to date."""
    folder = tmp_path_factory.mktemp("stand_ins")
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    subprocess.run([sys.executable, "-m", "assay.closure"], cwd=folder, env=import_of(folder), check=True)
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n")
    with Repo(str(folder)) as repo:
        paths = {Path(item.fs_path) for stage in repo.index.stages for item in [*stage.outs, *stage.deps]}
    # Children first: a file that is a dep may lie in a folder that is an output.
    for path in sorted(paths, reverse=True):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(path.name)
    done = dvc("commit", "--force", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "up to date" in dvc("repro", "--dry", cwd=folder).stdout
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # dvc's own, about one of its libraries
@pytest.mark.parametrize(("key", "value", "wanted"), TABLE, ids=[row[0] for row in TABLE])
def test_an_edit_invalidates_its_stages_and_no_other(
    stand_ins: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: object, wanted: set[str]
) -> None:
    edit(stand_ins, key, value)
    monkeypatch.chdir(stand_ins)
    with Repo(str(stand_ins)) as repo:
        assert {stage.addressing for stage in repo.reproduce(dry=True, force_downstream=True)} == wanted


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is committed, without data; skips where the committed dvc.lock lacks stages of the table."""
    folder = tmp_path_factory.mktemp("committed") / "clone"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(ROOT), str(folder)], check=True)
    lock = folder / "dvc.lock"
    stages = set(YAML(typ="safe").load(lock.read_text(encoding="utf-8"))["stages"]) if lock.is_file() else set()
    lacking = set().union(*(wanted for _, _, wanted in TABLE)) - stages
    if lacking:
        pytest.skip(f"the committed dvc.lock lacks {len(lacking)} stages, {min(lacking)} among them: run dvc repro")
    return folder


@pytest.mark.parametrize(("key", "value", "wanted"), TABLE[:4], ids=[row[0] for row in TABLE[:4]])
def test_in_a_clone_without_data_dvc_lock_says_the_same(clone: Path, key: str, value: object, wanted: set[str]) -> None:
    edit(clone, key, value)
    done = dvc("repro", "--dry", "--allow-missing", "--keep-going", cwd=clone)
    lines = (done.stdout + done.stderr).splitlines()
    telling = [line for line in lines if re.search(r"Running stage|will be skipped|failed to reproduce", line)]
    assert {name for line in telling for name in re.findall(r"'(.+?)'", line)} == wanted, "\n".join(lines)


METRIC = {"evaluate", "train_meta", "evaluate_cascade", "evaluate_counts", "evaluate_text", "vlm_predict"}
LOOP = {"train_stage1"} | EVERY_TRAINING
# Normalising stands beside the augmentations, and every network's input goes through it.
INPUT = LOOP | KFOLD | {"init_expert@efficientnetv2_b3", "init_expert@maxvit"}
INPUT |= {"build_meta", "score_stage1", "score_cascade"}
APPENDED = "\n\nEDITED = 1\n"
# what is edited, its file, text that is put behind it (or replaced in it), stages that become invalid
CODE = [
    ("a docstring", "images/model/training.py", ('"""The training loop', '"""This training loop'), set()),
    ("a comment", "images/model/training.py", "\n# One more word.\n", set()),
    ("a progress bar", "core/progress.py", APPENDED, set()),
    ("the harness", "core/stage.py", APPENDED, set()),
    ("a parameter class", "params/counts.py", APPENDED, set()),
    ("a module of the developers' tools", "report/page.py", APPENDED, set()),
    ("a metric", "metrics/binary.py", APPENDED, METRIC),
    ("a plot", "report/counts_plots.py", APPENDED, {"prepare_counts", "evaluate_counts"}),
    ("a transform", "images/model/transforms.py", APPENDED, INPUT),
    ("the training loop", "images/model/training.py", APPENDED, LOOP),
    ("one stage", "stages/train_meta.py", APPENDED, {"train_meta"}),
]
PACKAGES = [
    ("lightgbm", {"build_meta", "train_meta", "score_cascade"}),
    ("timm", INPUT),
    ("ruff", set()),
    ("tqdm", set()),
]


@pytest.fixture
def invalid(stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], set[str]]]:
    """Stages that changed themselves after the stage `code` has run; the source is put back afterwards."""
    yaml = stand_ins / "params.original.yaml"
    if yaml.exists():
        shutil.copy(yaml, stand_ins / "params.yaml")
    monkeypatch.chdir(stand_ins)

    def found() -> set[str]:
        closure.main()
        with Repo(str(stand_ins)) as repo:
            return {stage.addressing for stage in repo.reproduce(dry=True)} - {"code"}

    yield found
    shutil.rmtree(stand_ins / "src")
    shutil.copytree(ROOT / "src", stand_ins / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "requirements.lock", stand_ins / "requirements.lock")
    closure.main()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "edit", "wanted"), [row[1:] for row in CODE], ids=[row[0] for row in CODE])
def test_an_edit_of_the_code_invalidates_its_stages_and_no_other(
    invalid: Callable[[], set[str]], name: str, edit: str | tuple[str, str], wanted: set[str]
) -> None:
    path = Path("src/assay", name)
    text = path.read_text(encoding="utf-8")
    edited = text + edit if isinstance(edit, str) else text.replace(*edit)
    assert edited != text
    path.write_text(edited, encoding="utf-8")
    assert invalid() == wanted


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("package", "wanted"), PACKAGES, ids=[row[0] for row in PACKAGES])
def test_another_version_of_a_package_invalidates_the_stages_it_decides(
    invalid: Callable[[], set[str]], package: str, wanted: set[str]
) -> None:
    path = Path("requirements.lock")
    text = path.read_text(encoding="utf-8")
    edited = re.sub(rf"^{package}==[^\s;]+", f"{package}==99.0", text, flags=re.MULTILINE)
    assert edited != text
    path.write_text(edited, encoding="utf-8")
    assert invalid() == wanted
