"""What an edit to params.yaml, to the code or to the locked packages reruns: the real dvc on the real dvc.yaml, against
tables written down here.

A copy of dvc.yaml, params.yaml and the package in which every dependency and output is a small stand-in, committed to
DVC. It needs no data and no dvc.lock. DVC says which stages changed themselves, and its graph what stands behind. What
dvc.lock says in a clone without data is tested with assay gate and assay why, in tools/tests.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from dvc.dependency import param
from dvc.repo import Repo
from dvc.stage import Stage
from dvc.utils.serialize import load_path
from ruamel.yaml import YAML

from assay import closure

# dvc's own, about one of its libraries.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROOT = Path(__file__).parent.parent
SUBSETS = ["full", *(f"fold_{number}" for number in range(5))]
KFOLD = {f"kfold_fold_{number}" for number in range(5)}
CASCADE = {"score_cascade", "evaluate_cascade"}
SCORED = {"score_stage1", "calibrate", "evaluate", "train_meta"} | CASCADE
CHOSEN = {"choose_stage1"} | SCORED
BEHIND_EXPERTS = KFOLD | {"build_meta", "evaluate_alignment", "distill_stage1"} | CHOSEN
STAGE1 = {"train_stage1", "distill_stage1"} | CHOSEN


def trainings(expert: str) -> set[str]:
    return {f"train_expert@{expert}-{subset}" for subset in SUBSETS}


VARIANTS = ("regression", "ranking", "equal_width", "quantile", "staged", "ordinal", "llm_lora")
COUNTS = {"score_counts", "evaluate_counts"}
SCORED_TEXT = {"pool_text", "score_text", "evaluate_text"}
OWN_TEXT = {"train_text@own", "train_text@distilled"} | SCORED_TEXT
VLM = {"score_vlm", "vlm_predict"}
FOLDS = {"vlm_sft@fold_0_of_2", "vlm_sft@fold_1_of_2"}
SFT = {f"vlm_sft@{network}" for network in ("no_augmentation", "base", "order_1", "order_2")} | FOLDS | {"filter_vlm"}
SECOND = {f"vlm_sft_high_risk@{network}" for network in ("plain", "amplifier", "reweighting", "both", "vision")}
BEHIND_COUNTS = {"prepare_counts"} | COUNTS | {f"train_counts@{variant}" for variant in VARIANTS}
EVERY_TRAINING = trainings("efficientnetv2_b3") | trainings("maxvit")
INITS = {"init_expert@efficientnetv2_b3", "init_expert@maxvit"}
DRAWN = {"forge", "prepare", "fetch_counts", "prepare_counts", "prepare_text", "render_corridors", "prepare_vlm"}
SEEDED = STAGE1 | INITS | EVERY_TRAINING | BEHIND_EXPERTS | BEHIND_COUNTS - {"prepare_counts"}
SEEDED |= {"pretrain_text", "train_text@pretrained"} | OWN_TEXT | {"pretrain_vlm"} | SFT | SECOND | VLM
# key, new value, stages that become invalid
TABLE = [
    ("train_expert.efficientnetv2_b3.lr", 0.0005, trainings("efficientnetv2_b3") | BEHIND_EXPERTS),
    # The weights are checked against all networks by one stage; where they come out the same, what is behind is skipped.
    ("train_expert.maxvit.image_size", 32, {"fetch_weights"} | INITS | EVERY_TRAINING | BEHIND_EXPERTS | STAGE1),
    ("train_meta.search.num_candidates", 3, {"train_meta"} | CASCADE),
    ("evaluate_cascade.budget_forged", 0.011, {"evaluate_cascade"}),
    ("train_stage1.lr", 0.0005, STAGE1),
    ("distill_stage1.weight", 0.5, {"distill_stage1"} | CHOSEN),
    ("distill_stage1.ship", "plain", CHOSEN),
    ("calibrate.objective", "ece", {"calibrate", "evaluate", "evaluate_cascade"}),
    ("evaluate.num_bins", 7, {"evaluate"}),
    ("train_counts.quantile.lr", 0.0005, {"train_counts@quantile"} | COUNTS),
    ("train_counts.llm_lora.rank", 3, {"train_counts@llm_lora"} | COUNTS),
    ("evaluate_counts.ridge_alpha", 3.0, COUNTS),
    ("evaluate_counts.queue.ageing", 0.5, {"evaluate_counts"}),
    ("evaluate.robustness.max_samples", 20, SCORED),
    ("prepare_counts.quantile_bins", 7, BEHIND_COUNTS),
    ("train_text.own.lr", 0.0005, {"train_text@own"} | SCORED_TEXT),
    ("train_text.pretrained.lr", 0.0005, {"train_text@pretrained", "train_text@distilled"} | SCORED_TEXT),
    ("pretrain_text.mask_share", 0.2, {"pretrain_text"} | OWN_TEXT),
    ("evaluate_text.num_mistakes", 7, {"evaluate_text"}),
    ("vlm_predict.num_mistakes", 7, {"vlm_predict"}),
    ("vlm_sft_high_risk.lr", 0.0005, SECOND | VLM),
    ("vlm_high_risk_networks.both.attend", False, {"vlm_sft_high_risk@both"} | VLM),
    ("vlm_sft.lora.rank", 3, SFT | SECOND | VLM),
    ("pretrain_vlm.epochs", 1.0, {"pretrain_vlm"} | SECOND | SFT | VLM),
    ("prepare.folds", 4, {"forge", "prepare"} | STAGE1 | EVERY_TRAINING | BEHIND_EXPERTS),
    # Another seed of training meets the same data; another seed of the data draws all of it anew.
    ("runtime.seed", 8, SEEDED),
    ("runtime.data_seed", 8, DRAWN | SEEDED - INITS),
]


def set_params(path: Path, values: dict[str, object]) -> None:
    """Change keys of a params.yaml."""
    yaml = YAML()
    params = yaml.load(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        *sections, name = key.split(".")
        section: Any = params
        for part in sections:
            section = section[part]
        assert section[name] != value, f"{key} is {value} already: the edit would change nothing"
        section[name] = value
    with path.open("w", encoding="utf-8") as stream:
        yaml.dump(params, stream)


@pytest.fixture(scope="module", autouse=True)
def _parse_once() -> Iterator[None]:
    """DVC parses params.yaml anew for each stage that reads it: most of the time, were it not for this."""

    @cache
    def parsed(path: str, fs: Any, modified_ns: int) -> Any:
        return load_path(path, fs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(param, "load_path", lambda path, fs: parsed(path, fs, Path(path).stat().st_mtime_ns))
        yield


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline with a small text in the place of every file that it reads or writes, all up to date."""
    folder = tmp_path_factory.mktemp("stand_ins")
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n")
    with pytest.MonkeyPatch.context() as patch, Repo(str(folder)) as repo:
        patch.chdir(folder)
        closure.main()
        paths = {Path(item.fs_path) for stage in repo.index.stages for item in [*stage.outs, *stage.deps]}
        # Children first: a file that is a dep may lie in a folder that is an output.
        for path in sorted(paths, reverse=True):
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(path.name)
        repo.commit(force=True)
    return folder


@pytest.fixture(scope="module")
def repo(stand_ins: Path) -> Iterator[Repo]:
    """DVC's view of it, read once: no edit of these tests changes which stages there are."""
    with Repo(str(stand_ins)) as repo:
        assert not changed(repo)
        yield repo


def changed(repo: Repo) -> set[Stage]:
    """Stages that ``dvc repro`` would run for a change of their own; the stage ``code`` is run by hand here."""
    with repo.lock:
        return {stage for stage in repo.index.graph if stage.name != "code" and stage.changed()}


@pytest.fixture
def here(stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """In that folder, a function that gives the path of a file to edit; the file is put back afterwards."""
    monkeypatch.chdir(stand_ins)
    originals: dict[Path, tuple[bytes, int]] = {}

    def file(name: str) -> Path:
        path = Path(name)
        originals[path] = path.read_bytes(), path.stat().st_mtime_ns
        return path

    yield file
    for path, (content, modified_ns) in originals.items():
        path.write_bytes(content)
        os.utime(path, ns=(modified_ns, modified_ns))
    if Path("params.yaml") not in originals:
        closure.main()


@pytest.mark.parametrize(("key", "value", "wanted"), TABLE, ids=[row[0] for row in TABLE])
def test_an_edit_invalidates_its_stages_and_no_other(repo, here, key, value, wanted):
    set_params(here("params.yaml"), {key: value})
    themselves = changed(repo)
    behind = set().union(*(nx.ancestors(repo.index.graph, stage) for stage in themselves))
    assert {stage.name for stage in themselves | behind} == wanted


METRIC = {
    "choose_stage1",
    "calibrate",
    "evaluate",
    "evaluate_alignment",
    "train_meta",
    "evaluate_cascade",
    "evaluate_counts",
    "evaluate_text",
    "vlm_predict",
}
LOOP = {"train_stage1", "distill_stage1"} | EVERY_TRAINING
# Normalising stands beside the augmentations, and every network's input goes through it.
INPUT = LOOP | KFOLD | INITS
LIGHTGBM = {"evaluate_alignment", "train_meta"}
INPUT |= {"build_meta", "evaluate_alignment", "score_stage1", "score_cascade"}


def appended(text: str) -> str:
    return f"{text}\n\nEDITED = 1\n"


def other_version(package: str) -> Callable[[str], str]:
    """An edit of requirements.lock."""
    return lambda text: re.sub(rf"^{package}==[^\s;]+", f"{package}==99.0", text, flags=re.MULTILINE)


LOOP_FILE, LOCK = "src/assay/images/model/training.py", "requirements.lock"
# what is edited, its file, how, stages that become invalid
CODE = [
    ("a docstring", LOOP_FILE, lambda text: text.replace('"""The training loop', '"""This training loop'), set()),
    ("a comment", LOOP_FILE, lambda text: f"{text}\n# One more word.\n", set()),
    ("a progress bar", "src/assay/core/progress.py", appended, set()),
    ("the harness", "src/assay/core/stage.py", appended, set()),
    ("a parameter class", "src/assay/params/counts.py", appended, set()),
    ("a module of the developers' tools", "src/assay/report/page.py", appended, set()),
    ("a metric", "src/assay/metrics/binary.py", appended, METRIC),
    ("a plot", "src/assay/report/counts_plots.py", appended, {"prepare_counts", "evaluate_counts"}),
    ("a transform", "src/assay/images/model/transforms.py", appended, INPUT),
    ("the training loop", LOOP_FILE, appended, LOOP),
    ("one stage", "src/assay/stages/train_meta.py", appended, {"train_meta"}),
    ("version of lightgbm", LOCK, other_version("lightgbm"), LIGHTGBM),
    ("version of timm", LOCK, other_version("timm"), INPUT | {"fetch_weights"}),
    ("version of ruff", LOCK, other_version("ruff"), set()),
    ("version of tqdm", LOCK, other_version("tqdm"), set()),
]


@pytest.mark.parametrize(("name", "change", "wanted"), [row[1:] for row in CODE], ids=[row[0] for row in CODE])
def test_an_edit_of_code_or_packages_invalidates_its_stages_and_no_other(repo, here, name, change, wanted):
    path = here(name)
    text = path.read_text(encoding="utf-8")
    edited = change(text)
    assert edited != text
    path.write_text(edited, encoding="utf-8")
    closure.main()
    assert {stage.name for stage in changed(repo)} == wanted
