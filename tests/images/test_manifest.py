"""Listing labelled images: what can't be used becomes a row with a reason."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assay.images.manifest import COLUMNS, REJECTED, combine, list_folders, list_manifest, list_path, sample_id


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def save(folder: Path, suffix: str, **columns: object) -> Path:
    frame, path = pd.DataFrame(columns), folder / f"m{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    return path


def reasons(rejected: pd.DataFrame) -> list[tuple[str, str]]:
    assert list(rejected.columns) == REJECTED
    assert rejected["detail"].str.len().gt(0).all()
    return sorted(zip(rejected["file"], rejected["reason"], strict=True))


def test_folders_of_two_classes(tmp_path: Path) -> None:
    make(tmp_path, "real/a.jpg", "real/sub/b.png", "forged/a.webp", "forged/.hidden.jpg", "real/.trash/c.jpg")
    listing = list_folders(tmp_path, dataset="own")
    rows = listing.rows
    assert list(rows.columns) == COLUMNS
    assert listing.rejected.empty
    assert list(rows["image_path"]) == [
        (tmp_path / name).as_posix() for name in ("real/a.jpg", "real/sub/b.png", "forged/a.webp")
    ]
    assert list(rows["label"]) == [0, 0, 1]
    # A forged image named like its original stays with it.
    assert list(rows["group"]) == ["own/a", "own/sub/b", "own/a"]
    assert list(rows["generator"]) == ["real", "real", "own"]
    assert rows["role"].isna().all()


def test_links_in_folders_are_rows_with_a_reason(tmp_path: Path) -> None:
    root, outside = tmp_path / "own", tmp_path / "outside"
    make(root, "real/a.jpg", "forged/b.jpg")
    make(outside, "x.jpg")
    (root / "real" / "leads_out.jpg").symlink_to(outside / "x.jpg")
    (root / "real" / "folder").symlink_to(outside)
    (root / "forged" / "both.jpg").symlink_to(root / "real" / "a.jpg")
    listing = list_folders(root, dataset="own")
    assert list(listing.rows["image_path"]) == [(root / "forged/b.jpg").as_posix()]
    assert reasons(listing.rejected) == [
        ((root / "forged/both.jpg").as_posix(), "two_labels"),
        ((root / "real/a.jpg").as_posix(), "two_labels"),
        ((root / "real/folder").as_posix(), "outside"),
        ((root / "real/leads_out.jpg").as_posix(), "outside"),
    ]


@pytest.mark.parametrize("present", ["real", "forged"])
def test_both_class_folders_are_needed(tmp_path: Path, present: str) -> None:
    make(tmp_path, f"{present}/a.jpg")
    missing = {"real": "forged", "forged": "real"}[present]
    with pytest.raises(ValueError, match=f"source own: no folder .*{missing}.*one folder per class"):
        list_folders(tmp_path, dataset="own")
    (tmp_path / missing).mkdir()
    with pytest.raises(ValueError, match=f"{missing} is empty; both classes need images"):
        list_folders(tmp_path, dataset="own")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("as_prepare", [False, True])
def test_a_manifest_with_every_column(tmp_path: Path, suffix: str, as_prepare: bool) -> None:
    names = ["x/a.jpg", "x/b.jpg", "x/c.jpg", "x/d.jpg"]
    columns = {
        "label": ["0", "1", "real", "forged"],
        "group": ["v1", "v1", None, "v2"],
        "generator": [None, "gan", None, None],
        "role": ["train", "train", None, "test"],
    }
    if as_prepare:
        columns = {{"group": "group_id", "role": "split"}.get(name, name): values for name, values in columns.items()}
    path = save(tmp_path, suffix, **{"image_path" if as_prepare else "path": names}, **columns)
    listing = list_path(path, dataset="ds")
    rows = listing.rows
    assert listing.rejected.empty
    assert list(rows["image_path"]) == [(tmp_path / name).as_posix() for name in names]
    assert list(rows["label"]) == [0, 1, 0, 1]
    assert list(rows["group"]) == ["ds/v1", "ds/v1", (tmp_path / "x/c.jpg").as_posix(), "ds/v2"]
    assert list(rows["generator"]) == ["real", "gan", "real", "ds"]
    assert list(rows["role"].fillna("-")) == ["train", "train", "-", "test"]


@pytest.mark.parametrize("labels", [[0, 1], [0.0, 1.0], np.array([0, 1], dtype=np.int8)])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_numbers_as_labels(tmp_path: Path, labels: object, suffix: str) -> None:
    rows = list_manifest(save(tmp_path, suffix, path=["a.jpg", "b.jpg"], label=labels), dataset="ds").rows
    assert rows["label"].dtype == np.int64
    assert list(rows["label"]) == [0, 1]


def test_every_bad_row_has_its_reason(tmp_path: Path) -> None:
    root = tmp_path / "set"
    make(root, "good.jpg", "two.jpg", "again.jpg")
    make(tmp_path, "secret.jpg")
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    lines = [
        "good.jpg,0,,",
        ",1,,",
        "nolabel.jpg,,,",
        "nolabel2.jpg,,,",
        "seven.jpg,7,,",
        "word.jpg,fake,,",
        "half.jpg,0.5,,",
        "../secret.jpg,0,,",
        "sub/../good.jpg,0,,",
        f"{tmp_path}/secret.jpg,0,,",
        "link.jpg,1,,",
        "role.jpg,1,,holdout",
        "two.jpg,0,,",
        "two.jpg,1,,",
        "./two.jpg,1,,",
        "again.jpg,1,g1,",
        "again.jpg,1,g2,",
        "good2.jpg,1,,",
    ]
    listing = list_manifest(write(root / "m.csv", "path,label,group,role\n" + "\n".join(lines)), dataset="ds")
    at = root.as_posix()
    assert list(listing.rows["image_path"]) == [f"{at}/good.jpg", f"{at}/again.jpg", f"{at}/good2.jpg"]
    assert list(listing.rows["group"]) == [f"{at}/good.jpg", "ds/g1", f"{at}/good2.jpg"]
    wanted = {
        "missing_value": ["None", "nolabel.jpg", "nolabel2.jpg"],
        "bad_label": ["seven.jpg", "word.jpg", "half.jpg"],
        "outside": ["../secret.jpg", "sub/../good.jpg", f"{tmp_path}/secret.jpg", "link.jpg"],
        "bad_role": ["role.jpg"],
        "two_labels": [f"{at}/two.jpg"] * 3,
        "repeated": [f"{at}/again.jpg"],
    }
    assert reasons(listing.rejected) == sorted((file, reason) for reason, files in wanted.items() for file in files)
    assert len(listing.rows) + len(listing.rejected) == len(lines)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("m.csv", "label\n0\n", r"lacks column\(s\) \['path'\]; it has \['label'\]"),
        ("m.csv", "path,group\na,b\n", r"lacks column\(s\) \['label'\]"),
        ("m.csv", "", "can't be read"),
        ("m.csv", 'path,label\n"a,0\n', "can't be read"),
        ("m.csv", "path,image_path,label\na,a,0\n", "gives .* twice"),
        ("m.csv", "path,label,role,split\na,0,val,val\n", "gives .* twice"),
        ("m.parquet", "not parquet at all", "can't be read"),
        ("m.txt", "path,label\na,0\n", r"suffix '.txt' is not known; use .csv or .parquet"),
        ("gone.csv", None, r"no manifest at .*gone\.csv"),
    ],
)
def test_manifests_that_cannot_be_used_at_all(tmp_path: Path, name: str, text: str | None, told: str) -> None:
    if text is not None:
        write(tmp_path / name, text)
    with pytest.raises(ValueError, match=told):
        list_path(tmp_path / name, dataset="ds")


def test_one_file_in_two_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "own/real/a.jpg", "own/real/b.jpg", "own/forged/c.jpg")
    folders = list_folders(Path("own"), dataset="first")
    # The same files by another name: a full path.
    manifest = write(tmp_path / "own" / "m.csv", "path,label\nreal/a.jpg,0\nreal/b.jpg,1\nd.jpg,1\n")
    both = combine([folders, list_manifest(manifest, dataset="second")])
    assert list(zip(both.rows["image_path"], both.rows["dataset"], strict=True)) == [
        ("own/real/a.jpg", "first"),
        ("own/forged/c.jpg", "first"),
        ((tmp_path / "own/d.jpg").as_posix(), "second"),
    ]
    assert reasons(both.rejected) == [
        ((tmp_path / "own/real/a.jpg").as_posix(), "repeated"),
        ((tmp_path / "own/real/b.jpg").as_posix(), "two_labels"),
        ("own/real/b.jpg", "two_labels"),
    ]
    # A source of which nothing is left keeps labels numbers.
    empty = list_manifest(write(tmp_path / "bad.csv", "path,label\na.jpg,9\n"), dataset="bad")
    both = combine([empty, folders])
    assert (both.rows["label"].dtype, len(both.rows)) == (np.int64, 3)
    assert list(both.rejected["reason"]) == ["bad_label"]


def test_sample_ids_name_paths() -> None:
    assert len({sample_id(f"a/{i}.jpg") for i in range(2000)}) == 2000
    assert sample_id("ä") == sample_id("ä")
    assert len(sample_id("")) == 16
