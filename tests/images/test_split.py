"""Groups and roles of decoded images: what a source declared is kept, and nothing leaks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assay.core.params import load
from assay.data.findings import raise_errors
from assay.data.roles import ROLES, borrowed
from assay.images.duplicates import Fingerprint
from assay.images.preflight import check_prepared
from assay.images.split import MANIFEST, fold_table, group_and_split
from assay.params.images import Images

PARAMS = load(Images, Path(__file__).resolve().parents[2] / "params.yaml")
SETTINGS = PARAMS.prepare.model_copy(update={"folds": 2})


def images(count: int, *, role: str | None = None, start: int = 0) -> tuple[pd.DataFrame, list[Fingerprint | None]]:
    """Pairs of a real and a forged image, every pair a group of its own, no two alike."""
    names = [(f"{start + i:03d}", label) for i in range(count) for label in (0, 1)]
    rows = [(f"p{name}_{label}.jpg", label, "ds", f"g{name}", role) for name, label in names]
    frame = pd.DataFrame(rows, columns=["image_path", "label", "dataset", "group", "role"]).astype({"role": object})
    rng = np.random.default_rng(start)
    shapes = ((8,), (16, 16, 3))
    return frame, [Fingerprint(*(rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes)) for _ in names]


def split(frame: pd.DataFrame, prints: list[Fingerprint | None]) -> pd.DataFrame:
    done = group_and_split(frame, prints, settings=SETTINGS, roles=PARAMS.roles, seed=3)
    raise_errors(check_prepared(done, settings=SETTINGS), what="the images line")
    return done


def declared(*, each: int = 2) -> tuple[pd.DataFrame, list[Fingerprint | None]]:
    parts = [images(each, role=role, start=100 * number) for number, role in enumerate(ROLES)]
    return pd.concat([part[0] for part in parts], ignore_index=True), [found for part in parts for found in part[1]]


def test_undeclared_images_get_roles_by_group() -> None:
    frame, prints = images(40)
    done = split(frame, prints)
    assert MANIFEST[:4] == ["image_path", "label", "dataset", "split"]
    assert set(done["split"]) == set(ROLES)
    assert done.groupby("group_id")["split"].nunique().max() == 1
    pd.testing.assert_frame_equal(done[frame.columns], frame)


def test_a_large_group_leaves_enough_groups_for_the_folds() -> None:
    frame, prints = images(26)
    frame = frame.assign(group=frame["group"].where(frame.index >= 24, "large"))
    settings = SETTINGS.model_copy(update={"folds": 5})
    done = group_and_split(frame, prints, settings=settings, roles=PARAMS.roles, seed=3)
    assert done.loc[done["split"] == "train", "group_id"].nunique() >= 5
    assert set(done["split"]) == set(ROLES)


def test_declared_roles_are_kept() -> None:
    frame, prints = declared()
    done = split(frame, prints)
    assert list(done["split"]) == list(frame["role"])
    assert list(done["group_id"]) == list(frame["group"])


def test_a_group_with_a_role_for_some_rows_keeps_it_for_all() -> None:
    frame, prints = declared()
    free, more = images(4, start=900)
    frame = pd.concat([frame, free], ignore_index=True)
    frame.loc[frame["image_path"] == "p900_0.jpg", "role"] = "tune"
    done = split(frame, prints + more).set_index("image_path")
    assert done.loc["p900_1.jpg", "split"] == "tune"
    assert done["split"].notna().all()


def test_near_duplicates_are_one_group() -> None:
    frame, prints = images(40)
    prints[70] = prints[4]  # an image of group g035 is one of group g002
    done = split(frame, prints).loc[[4, 5, 70, 71]]
    assert (set(done["group_id"]), done["split"].nunique()) == ({"g002"}, 1)
    frame, prints = declared(each=4)
    prints[2] = prints[0]  # both in train: their folds must not part them
    done = split(frame, prints)
    assert set(done.loc[[0, 1, 2, 3], "group_id"]) == {"g000"}
    assert list(done["split"]) == list(frame["role"])


def test_near_duplicates_across_declared_roles_are_an_error() -> None:
    frame, prints = declared(each=4)
    test_row = int(frame.index[frame["role"] == "test"][1])
    prints[0:6] = [prints[0]] * 6  # many of one role must not hide the other
    prints[test_row] = prints[0]
    with pytest.raises(ValueError, match=r"7 near-duplicate images stand in more than one role") as caught:
        split(frame, prints)
    assert f"('p000_0.jpg', 'train'), ('{frame.loc[test_row, 'image_path']}', 'test')" in str(caught.value)


def test_a_group_in_two_declared_roles_is_an_error_also_through_an_undeclared_one() -> None:
    frame, prints = declared()
    free, _ = images(1, start=900)  # one group of two images, alike to train and to test
    chain = pd.concat([frame, free], ignore_index=True), [*prints, prints[0], prints[-1]]
    one_group = frame.assign(group=frame["group"].mask(frame["role"] == "test", "g000")), prints
    for rows, found in (chain, one_group):
        with pytest.raises(ValueError, match="images of one group stand in more than one role"):
            split(rows, found)


@pytest.mark.parametrize(
    ("declares", "dropped", "kept", "told"),
    [
        (ROLES, "calib", 0, r"role calib: 4 rows .* or for none at all, so that it gets a part of val"),
        (ROLES, "val", 0, r"role val: .*declare it for some of the forged images.* a part of train"),
        (
            ("train", "val", "test"),
            "val",
            1,
            r"shares the declared val with .*: 1 forged group\(s\) are too few.* to train",
        ),
        (
            ("train", "val", "test"),
            "val",
            0,
            r"role val: .*0 forged group\(s\) are too few.*or set roles: drawn for the source",
        ),
        (
            ("train", "test"),
            "train",
            3,
            r"the declared train with .* 3 forged .*declare more of them, or set roles: drawn",
        ),
        (("train", "test"), "test", 0, r"role test: .*so that it gets a part of train"),
        (
            ("test",),
            "test",
            20,
            r"role train: .*declare some real images as train, or set roles: drawn.*role val: .* val or train, or",
        ),
    ],
)
def test_a_role_without_both_labels_is_named(declares: tuple[str, ...], dropped: str, kept: int, told: str) -> None:
    frame, prints = declared(each=4)
    frame = frame.assign(role=frame["role"].where(frame["role"].isin(declares), declares[0]))
    lost = frame.index[(frame["role"] == dropped) & (frame["label"] == 1)][kept:]
    with pytest.raises(ValueError, match=f"(?s){told}"):
        split(frame.drop(lost).reset_index(drop=True), [p for at, p in enumerate(prints) if at not in lost])


def test_a_split_of_three_roles_is_filled_and_said() -> None:
    frame, prints = declared(each=12)
    frame = frame.assign(role=frame["role"].replace({"calib": "val", "tune": "val"}))
    done = split(frame, prints)
    assert set(done["split"]) == set(ROLES)
    unmoved = done["role"] == done["split"]
    assert set(done.loc[~unmoved, "role"]) == {"val"}
    said = borrowed(done)
    for role in ("calib", "tune"):
        part = done[done["split"] == role]
        assert (
            f"role {role} had no rows and takes {len(part)} images ({part['group_id'].nunique()} groups) from val"
            in said
        )
    assert f"which keeps {(done['split'] == 'val').sum()}" in said
    assert borrowed(split(*declared())) == ""


def test_too_few_groups_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"5 group\(s\) hold real images.*at least 6"):
        split(*images(5))
    frame, prints = images(8)
    prints[4:16:2] = [prints[0]] * 6
    told = r"e\.g\. p000_0\.jpg and p002_0\.jpg, join 7 groups into 1 \(prepare\.near_duplicates"
    with pytest.raises(ValueError, match=rf"2 group\(s\) hold real.*from other sources\. 7 near-duplicates, {told}"):
        split(frame, prints)


def test_the_fold_table_names_every_training_row_once() -> None:
    frame, prints = images(40)
    done = split(frame, prints)
    train = done[done["split"] == "train"].assign(sample_id=lambda part: part["image_path"])
    names = sorted(set(train["group"]))
    few = dict.fromkeys(names[2:6], 1) | dict.fromkeys(names[6:10], 2) | dict.fromkeys(names[10:], 0)
    for declared in ({}, dict.fromkeys(names[:4], 2), few):
        table = fold_table(train, declared=declared, folds=3, seed=0)
        assert list(table.columns) == ["sample_id", "group_id", "label", "fold"]
        assert list(table["sample_id"]) == list(train["image_path"])
        assert set(table["fold"]) == {0, 1, 2}
        assert table.groupby("group_id")["fold"].nunique().max() == 1
        assert declared.items() <= dict(zip(table["group_id"], table["fold"], strict=True)).items()
    # Near-duplicates with two folds: the lowest holds for all of them.
    joined = train.assign(group_id=train["group_id"].replace({names[2]: names[10]}))
    table = fold_table(joined, declared=few, folds=3, seed=0)
    assert set(table.loc[table["group_id"] == names[10], "fold"]) == {0}
    with pytest.raises(ValueError, match="fold 1 of 3 holds 0 of two labels"):
        fold_table(train, declared=dict.fromkeys(names, 0), folds=3, seed=0)
