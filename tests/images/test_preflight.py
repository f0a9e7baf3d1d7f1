"""Each need of a later stage against data that lack it, and all errors at once."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assay.core.params import load
from assay.data.findings import findings_table, of_level, raise_errors
from assay.data.roles import ROLES
from assay.images.preflight import check_fold_table, check_prepared, pipeline_folds
from assay.params.stacking import Stacking
from assay.preflight.images import assumed_folds, check_later

ROOT = Path(__file__).resolve().parents[2]
PARAMS = load(Stacking, ROOT / "params.yaml")


def rows(groups, *, per_group=10):
    """A frame with so many groups of a class in a role; ``groups``: (role, label) -> number."""
    records = [
        (role, label, f"{role}-{label}-{group}")
        for (role, label), count in groups.items()
        for group in range(count)
        for _ in range(per_group)
    ]
    return pd.DataFrame(records, columns=["split", "label", "group_id"]).assign(role=None)


def prepared(groups, *, folds=5):
    settings = PARAMS.prepare.model_copy(update={"folds": folds})
    return check_prepared(rows(groups), settings=settings, num_kfold_stages=5)


def enough(**changes):
    """Groups of both classes in every role; ``calib_1=0`` leaves calib without forged ones."""
    groups = {(role, label): 60 if role == "train" else 20 for role in ROLES for label in (0, 1)}
    for key, count in changes.items():
        role, label = key.split("_")
        groups[role, int(label)] = count
    return groups


def changed(**changes):
    """The embedded parameters with other values, ``section__key=value``."""
    content = PARAMS.model_dump()
    for key, value in changes.items():
        *path, name = key.split("__")
        section = content
        for part in path:
            section = section[part]
        section[name] = value
    return Stacking.model_validate(content)


def later(groups, params=PARAMS, *, per_group=10):
    frame = rows(groups, per_group=per_group)
    parts = {role: frame[frame["split"] == role] for role in ROLES}
    return check_later(parts, assumed_folds(parts["train"], folds=5), params)


def test_enough_data_are_well():
    assert {finding.level for finding in prepared(enough())} == {"ok"}
    assert {finding.level for finding in later(enough(calib_0=30))} == {"ok"}


@pytest.mark.parametrize(
    ("groups", "options", "said"),
    [
        (
            enough(calib_1=0),
            {},
            [
                "role calib: 200 rows (200 real in 20, 0 forged in 0 groups): no forged. For role calib, add forged images",
                "roles.calib",
            ],
        ),
        (
            enough(val_0=0, val_1=0, tune_0=0),
            {},
            [
                "2 reason(s)",
                "role val: 0 rows (0 real in 0, 0 forged in 0 groups): no real and no forged",
                "role tune: 200 rows",
            ],
        ),
        (enough(train_1=3), {}, ["folds, forged: 3 groups of forged for 5 folds: at least 5", "roles.train"]),
        (
            {(role, 1): 9 for role in ROLES},
            {},
            [
                "1 reason(s)",
                "class real: no real image (label 0) is left of 450",
            ],
        ),
        (
            {(role, label): 1 for role in ROLES for label in (0, 1)},
            {},
            [
                "2 reason(s)",
                "class real: 5 group(s) hold real images",
                "at least 9 groups: add real images",
                "class forged: 5",
            ],
        ),
        (enough(), {"folds": 4}, ["prepare.folds is 4, but dvc.yaml has 5 stages", "set it to 5"]),
        (enough(test_0=0), {"folds": 4}, ["2 reason(s)", "role test", "folds, dvc.yaml"]),
    ],
)
def test_what_cannot_work_is_said_all_at_once(groups, options, said):
    found = prepared(groups, **options)
    with pytest.raises(ValueError, match="can't work with these data") as caught:
        raise_errors(found, what="the images line")
    assert not [words for words in said if words not in str(caught.value)], str(caught.value)


@pytest.mark.parametrize(
    ("need", "groups", "changes", "said"),
    [
        ("fold 0", enough(train_1=9), {}, ""),
        ("fold 4", enough(train_1=9), {}, "one group of a class"),
        ("build_meta, anchors", enough(calib_0=4, calib_1=5), {}, "90 rows in 9 groups of calib for 256 dimensions"),
        ("build_meta, anchors", enough(calib_0=4, calib_1=5), {}, "Raise roles.calib"),
        ("train_stage1, batches", enough(), {"train_stage1__batch_size": 1500}, "Set train_stage1.batch_size to 150"),
        ("train_expert.maxvit, batches", enough(), {"train_expert__maxvit__batch_size": 500}, "few. Lower"),
        (
            "train_expert.maxvit, input",
            enough(),
            {"train_expert__maxvit__image_size": 96, "train_expert__maxvit__input": "srm"},
            "at 96 pixels of 128 stored: a",
        ),
        ("train_stage1, epoch", enough(val_1=3), {}, "chosen on 3 groups"),
        ("train_meta, rows", enough(train_0=4, train_1=4), {}, "LightGBM gives one value to all"),
        ("train_meta, logits", {**enough(train_0=5, train_1=5)}, {}, "40 rows, 80 rows fit"),
        ("train_meta, num_leaves", enough(train_0=30, train_1=30), {}, "480 rows fill 24"),
        ("train_meta, columns", enough(train_0=30, train_1=30), {}, "514 columns for 480 rows: more than rows"),
        ("cascade, forged", enough(tune_1=20), {}, "it will be 'observed'"),
        ("cascade, forged", enough(tune_1=20), {"evaluate_cascade__certify": True}, "out of reach. Raise roles.tune"),
        ("cascade, real", enough(tune_0=20), {}, "certifies <= 13.9%; 10.0% takes 29"),
        (
            "cascade, real",
            enough(tune_0=20),
            {"evaluate_cascade__assumed_correlation": 0.1},
            "correlate by at most 0.1",
        ),
        ("evaluate.robustness", enough(test_0=1, test_1=1), {}, "20 of 20 test rows: few"),
        (
            "external phone",
            enough(),
            {"evaluate__external": [{"name": "phone", "path": "no/such"}]},
            "nothing at no/such",
        ),
    ],
)
def test_what_a_later_stage_lacks_is_named_with_what_helps(need, groups, changes, said):
    params = changed(**changes) if changes else PARAMS
    (found,) = [finding for finding in later(groups, params) if finding.need == need]
    assert said in found.text
    fine = ("", "it will be 'observed'", "certifies <= 13.9%; 10.0% takes 29", "correlate by at most 0.1")
    level = dict.fromkeys(fine, "ok") | {"nothing at no/such": "error"}
    if said != "40 rows, 80 rows fit":  # exactly enough
        assert found.level == level.get(said, "warning"), found
    else:
        assert found.level == "ok"


def test_a_fold_of_one_class_is_an_error():
    table = pd.DataFrame({"fold": [0, 0, 1], "label": [0, 1, 0], "group_id": ["a", "b", "c"]})
    assert [finding.level for finding in check_fold_table(table)] == ["warning", "error"]


def test_the_table_begins_with_the_worst(tmp_path):
    table = findings_table([*later(enough(tune_0=3)), *prepared(enough(test_1=0))])
    levels = [line.split()[0] for line in table.splitlines()]
    assert levels == sorted(levels, key=["error", "warning", "ok"].index)
    assert levels[0] == "error"
    assert (pipeline_folds(ROOT / "dvc.yaml"), pipeline_folds(tmp_path / "dvc.yaml")) == (5, None)


def test_assumed_folds_deal_out_the_groups_of_each_class():
    frame = rows({("train", 0): 10, ("train", 1): 7})
    table = assumed_folds(frame, folds=5)
    assert table.groupby("group_id")["fold"].nunique().max() == 1
    assert np.bincount(table.drop_duplicates("group_id")["fold"]).tolist() == [4, 4, 3, 3, 3]
    assert not of_level(check_fold_table(table), "error")
