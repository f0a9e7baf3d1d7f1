"""Who teaches the fast filter, and which of both filters becomes stage 1."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from assay.images.model import FILTERS, VAL_SCORES
from assay.images.model.dataset import TEACHER
from assay.images.stacking import EXPERTS
from assay.images.stacking.out_of_fold import ANCHOR, HELD_OUT, logit_column
from assay.stages import choose_stage1
from assay.stages.distill_stage1 import with_teacher

ROOT = Path(__file__).parents[2]
COUNT = 12


@pytest.fixture
def train(tmp_path: Path) -> pd.DataFrame:
    """Rows of train; beside them folds.csv and what two folds' experts say, of anchors, too."""
    names = [f"s{number:02d}" for number in range(COUNT)]
    rows = pd.DataFrame({"sample_id": names, "label": np.arange(COUNT) % 2, "group_id": names})
    folds = np.arange(COUNT) // 2 % 2
    rows.assign(fold=folds).to_csv(tmp_path / "folds.csv", index=False)
    said = rows.assign(part=HELD_OUT, base_fold=folds)
    said[logit_column(EXPERTS[0])] = np.arange(COUNT, dtype=np.float32)
    said[logit_column(EXPERTS[1])] = np.float32(3.0)
    anchors = said.assign(sample_id="a" + said["sample_id"], part=ANCHOR)
    for fold in (0, 1):
        part = pd.concat([said[folds == fold], anchors.assign(base_fold=fold)])
        part.sample(frac=1.0, random_state=fold).to_parquet(tmp_path / f"fold_{fold}.parquet")
    return rows


def taught(train: pd.DataFrame, folder: Path) -> pd.DataFrame:
    return with_teacher(train, folds=folder / "folds.csv", kfold=folder)


def test_the_teacher_is_the_experts_mean_on_rows_that_they_did_not_see(train: pd.DataFrame, tmp_path: Path) -> None:
    shuffled = train.sample(frac=1.0, random_state=3)
    found = taught(shuffled, tmp_path)
    assert found.drop(columns=TEACHER).equals(shuffled)
    assert found.sort_index()[TEACHER].tolist() == [(number + 3) / 2 for number in range(COUNT)]


def test_a_teacher_that_has_seen_a_row_is_none(train: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"lacks 1 sample\(s\) of the train manifest \['other'\]; run dvc repro prepare"
    ):
        taught(pd.concat([train, train.head(1).assign(sample_id="other")]), tmp_path)
    folds = pd.read_csv(tmp_path / "folds.csv")
    folds.assign(fold=1 - folds["fold"]).to_csv(tmp_path / "folds.csv", index=False)
    with pytest.raises(ValueError, match=r"12 sample\(s\) were embedded by networks of another fold, which saw them"):
        taught(train, tmp_path)
    (tmp_path / "fold_1.parquet").unlink()
    with pytest.raises(ValueError, match=r"6 sample\(s\) missing"):
        taught(train, tmp_path)
    (tmp_path / "fold_0.parquet").unlink()
    with pytest.raises(ValueError, match=r"no fold_\*.parquet in .*run dvc repro on the kfold stages"):
        taught(train, tmp_path)


def scores(*, gain: float, scenes: int) -> dict[str, pd.DataFrame]:
    """Logits of both filters for 20 pictures of each scene; in every scene the distilled one says more by ``gain``."""
    rng = np.random.default_rng(0)
    size = 20 * scenes
    labels = np.arange(size) % 2
    keys = pd.DataFrame(
        {"sample_id": [f"v{n}" for n in range(size)], "label": labels, "group_id": np.arange(size) // 20}
    )
    noise = rng.normal(size=size)
    return {name: keys.assign(logit=(1 + more) * labels + noise) for name, more in zip(FILTERS, (0, gain), strict=True)}


@pytest.mark.parametrize(
    ("gain", "scenes", "ship", "shipped"),
    [
        (1.0, 20, "auto", "distilled"),
        (0.001, 20, "auto", "plain"),  # better, and not shown to be
        (-1.0, 20, "auto", "plain"),
        (1.0, 3, "auto", "plain"),  # no interval
        (1.0, 20, "plain", "plain"),
        (-1.0, 20, "distilled", "distilled"),
    ],
)
def test_the_distilled_filter_ships_where_val_shows_it_to_be_better_or_where_it_is_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], gain, scenes, ship, shipped
) -> None:
    monkeypatch.chdir(tmp_path)
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["distill_stage1"]["ship"] = ship
    with Path("params.yaml").open("w") as stream:
        yaml.dump(params, stream)
    for name, table in scores(gain=gain, scenes=scenes).items():
        folder = choose_stage1.MODELS / name
        folder.mkdir(parents=True)
        table.to_parquet(folder / VAL_SCORES)
        for file in choose_stage1.FILES:
            (folder / file).write_text(f"{name} {file}")
    choose_stage1.main()
    files = {path.name: path.read_text() for path in choose_stage1.OUTPUT.iterdir()}
    assert files == {file: f"{shipped} {file}" for file in choose_stage1.FILES}
    metrics = json.loads(choose_stage1.METRICS.read_text())
    assert metrics["shipped"] == shipped
    assert metrics["distilled.auc_gain_plain"] == pytest.approx(metrics["distilled.auc"] - metrics["plain.auc"])
    assert (metrics["distilled.auc_gain_plain_low"] is None) == (scenes < 5)
    assert (metrics["plain.n"], metrics["plain.n_groups"]) == (20 * scenes, scenes)
    said = capsys.readouterr().out
    assert said.startswith("The distilled filter against the plain one, AUC on val: ")
    assert f"stage 1: the {shipped} filter (distill_stage1.ship: {ship})" in said
    shutil.copytree(choose_stage1.OUTPUT, tmp_path / "before")
    choose_stage1.main()
    assert {path.name: path.read_text() for path in choose_stage1.OUTPUT.iterdir()} == files
