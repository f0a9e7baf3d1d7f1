"""Listing labelled images: what can't be used becomes a row with a reason."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from assay.images.listing import COLUMNS, REJECTED, Listing, combine, rejected_in_words
from assay.images.sources import list_path
from assay.params.images import Labelled


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


def listed(path: Path, dataset: str = "own", **how: object) -> Listing:
    return list_path(path, dataset=dataset, how=Labelled.model_validate(how), field="prepare.sources")


def reasons(rejected: pd.DataFrame) -> list[tuple[str, str]]:
    assert list(rejected.columns) == REJECTED
    assert rejected["detail"].str.len().gt(0).all()
    return sorted(zip(rejected["file"], rejected["reason"], strict=True))


def test_folders_of_two_classes(tmp_path: Path) -> None:
    make(tmp_path, "real/a.jpg", "real/sub/b.png", "forged/a.webp")
    listing = listed(tmp_path, "own")
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


def test_hidden_pictures_are_rows_with_a_reason_and_other_hidden_files_are_none(tmp_path: Path) -> None:
    make(tmp_path, "real/a.jpg", "fake/a.jpg", ".fake2/fake/b.png", "fake/.thumbs/c.png", "real/._a.jpg", ".DS_Store")
    (tmp_path / "real/.d").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "real/.lock").symlink_to("gone")
    listing = listed(tmp_path)
    assert len(listing.rows) == 2
    hidden = (".fake2/fake/b.png", "fake/.thumbs/c.png", "real/.d")
    assert reasons(listing.rejected) == [((tmp_path / name).as_posix(), "hidden") for name in hidden]


def test_links_in_folders_are_rows_with_a_reason(tmp_path: Path) -> None:
    root, outside = tmp_path / "own", tmp_path / "outside"
    make(root, "real/a.jpg", "forged/b.jpg")
    make(outside, "x.jpg")
    (root / "real" / "leads_out.jpg").symlink_to(outside / "x.jpg")
    (root / "real" / "folder").symlink_to(outside)
    (root / "forged" / "both.jpg").symlink_to(root / "real" / "a.jpg")
    listing = listed(root, "own")
    assert list(listing.rows["image_path"]) == [(root / "forged/b.jpg").as_posix()]
    assert reasons(listing.rejected) == [
        ((root / "forged/both.jpg").as_posix(), "two_labels"),
        ((root / "real/a.jpg").as_posix(), "two_labels"),
        ((root / "real/folder").as_posix(), "linked_folder"),
        ((root / "real/leads_out.jpg").as_posix(), "outside"),
    ]


def test_a_tree_that_lacks_a_class_names_its_folders_and_the_parameter(tmp_path: Path) -> None:
    make(tmp_path, "real/a.jpg", "dalle/b.jpg", "dalle/c.jpg")
    listing = listed(tmp_path)
    assert reasons(listing.rejected) == [((tmp_path / f"dalle/{name}.jpg").as_posix(), "no_class") for name in "bc"]
    assert listing.problem is not None
    for told in ("source own: no forged image", "forged, fake, 1_fake", "dalle (2), real (1)", "classes: {real: [...]"):
        assert told in listing.problem
    assert "2 no_class: folder 'dalle' names no class (2)" in rejected_in_words(listing.rejected)
    assert listed(tmp_path, classes={"forged": ["DALLE "]}).problem is None
    (tmp_path / "fake").symlink_to(tmp_path / "dalle")
    assert "'fake' is a link to a folder; links are not followed: put the folder there" in str(listed(tmp_path).problem)
    empty = listed(tmp_path / "dalle").problem
    assert empty is not None
    assert "no real and no forged image" in empty


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
    listing = listed(path, "ds")
    rows = listing.rows
    assert listing.rejected.empty
    assert list(rows["image_path"]) == [(tmp_path / name).as_posix() for name in names]
    assert list(rows["label"]) == [0, 1, 0, 1]
    assert list(rows["group"]) == ["ds/v1", "ds/v1", (tmp_path / "x/c.jpg").as_posix(), "ds/v2"]
    assert list(rows["generator"]) == ["real", "gan", "real", "ds"]
    assert list(rows["role"].fillna("-")) == ["train", "train", "-", "test"]


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1],
        [0.0, 1.0],
        np.array([0, 1], dtype=np.int8),
        [False, True],
        ["Original", " FAKE"],
        ["nature", "ai"],
        ["0_real", "1_fake"],
        ["genuine", "synthetic"],
        ["real", "manipulated"],
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_labels_of_every_kind(tmp_path: Path, labels: object, suffix: str) -> None:
    rows = listed(save(tmp_path, suffix, path=["a.jpg", "b.jpg"], label=labels), "ds").rows
    assert rows["label"].dtype == np.int64
    assert list(rows["label"]) == [0, 1]


def test_classes_that_the_user_names(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.csv", "path,label\na.jpg,genuine\nb.jpg,1\nc.jpg,AIGC\nd.jpg,aigc\ne.jpg,fake\nf.jpg,aigc\n"
    )
    listing = listed(path, classes={"real": [1, "genuine"], "forged": ["aigc"]})
    assert list(listing.rows["label"]) == [0, 0, 1, 1, 1]
    assert reasons(listing.rejected) == [("e.jpg", "bad_label")]
    assert "label 'fake' names no class; real: 1, genuine; forged: aigc (1)" in rejected_in_words(listing.rejected)
    with pytest.raises(ValidationError, match=r"\['ai'\] stand in both classes"):
        Labelled.model_validate({"classes": {"real": ["ai"], "forged": ["AI "]}})
    for name in ("a/camera", "camera\\", "", " "):
        with pytest.raises(ValidationError, match="the name of a folder, or a value of the column label; no path"):
            Labelled.model_validate({"classes": {"real": [name]}})


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ((3, 3.0, "3", "3.0", " 3"), "3"),
        (("g0", "g0 "), "g0"),
        (("e\u0301", "\u00e9"), "\u00e9"),
        ((2**63 + 1,), 2**63 + 1),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_group_is_one_however_it_is_written(
    tmp_path: Path, written: tuple[object, ...], name: object, suffix: str
) -> None:
    rows = [{"path": f"{n}.png", "label": n % 2, "group": group} for n, group in enumerate((*written, " ", None))]
    frame, path = pd.DataFrame(rows, dtype=object), tmp_path / f"m{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        write(path, "".join(json.dumps(row) + "\n" for row in rows))
    alone = [(tmp_path / f"{n}.png").as_posix() for n in (len(rows) - 2, len(rows) - 1)]
    assert list(listed(path).rows["group"]) == [*(f"own/{name}" for _ in written), *alone]


def test_cells_that_hold_no_text_are_rows_with_a_reason(tmp_path: Path) -> None:
    cells = {"label": [1], "group": ["g"], "generator": {"a": 1}, "path": ["i.png"], "boxes": None}
    rows = [{"path": "a.png", "label": 0, "boxes": [1]}, *({"path": "i.png", "label": 0, n: cells[n]} for n in cells)]
    listing = listed(write(tmp_path / "m.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert len(listing.rows) + (listing.rejected["reason"] == "repeated").sum() == 2
    unreadable = listing.rejected[listing.rejected["reason"] == "unreadable"]
    told = [("label", "list"), ("group", "list"), ("generator", "dict"), ("path", "list")]
    wanted = [f"column {name} holds no text but {kind}" for name, kind in told]
    assert [detail.split(":")[0] for detail in unreadable["detail"]] == wanted
    assert list(unreadable["file"]) == ["i.png", "i.png", "i.png", "['i.png']"]
    listing = listed(save(tmp_path, ".parquet", path=[b"i.png"], label=[0]))
    assert "column path holds no text but bytes" in listing.rejected["detail"].item()


def test_every_bad_row_has_its_reason(tmp_path: Path) -> None:
    root = tmp_path / "set"
    make(root, "good.jpg", "good3.jpg", "two.jpg", "again.jpg")
    make(tmp_path, "secret.jpg")
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    lines = [
        "good.jpg,0,,",
        ",1,,",
        "nolabel.jpg,,,",
        "nolabel2.jpg,,,",
        "seven.jpg,7,,",
        "word.jpg,deepfake,,",
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
        " good3.jpg ,1,,",
        "https://example.org/a.jpg,1,,",
        "data:image/png;base64_AA,1,,",
    ]
    listing = listed(write(root / "m.csv", "path,label,group,role\n" + "\n".join(lines)), "ds")
    at = root.as_posix()
    assert list(listing.rows["image_path"]) == [f"{at}/{name}.jpg" for name in ("good", "again", "good2", "good3")]
    assert list(listing.rows["group"]) == [f"{at}/good.jpg", "ds/g1", f"{at}/good2.jpg", f"{at}/good3.jpg"]
    wanted = {
        "missing_value": ["None", "nolabel.jpg", "nolabel2.jpg"],
        "bad_label": ["seven.jpg", "word.jpg", "half.jpg"],
        "outside": ["../secret.jpg", "sub/../good.jpg", f"{tmp_path}/secret.jpg", "link.jpg"],
        "bad_role": ["role.jpg"],
        "url": ["https://example.org/a.jpg", "data:image/png;base64_AA"],
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
        ("m.txt", "path,label\na,0\n", r"suffix '.txt' is not known; use .csv"),
        ("m.json", '{"d": {"real": {"train": [1]}}}', "d > real > train holds a list, no videos; a list of frames is"),
        ("m.json", '{"d": {"real": {"frames": []}}}', "frames stand at d > real; a list of frames is"),
        ("m.json", '{"path": {"0": "a.png"}, "label": {"0": 1}}', r"array of objects .*: to_json\(orient='records'\)"),
        ("m.json", '{"a.mp4": {"label": "FAKE"}}', r"a.mp4 > label holds a str.*to_json\(orient='records'\)"),
        ("gone", None, "source ds: no folder"),
        ("gone.csv", None, r"no manifest at .*gone\.csv"),
    ],
)
def test_manifests_that_cannot_be_used_at_all(tmp_path: Path, name: str, text: str | None, told: str) -> None:
    if text is not None:
        write(tmp_path / name, text)
    with pytest.raises(ValueError, match=told):
        listed(tmp_path / name, "ds")


def test_one_file_in_two_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "own/real/a.jpg", "own/real/b.jpg", "own/forged/c.jpg")
    folders = listed(Path("own"), "first")
    # The same files by another name: a full path.
    manifest = write(tmp_path / "own" / "m.csv", "path,label\nreal/a.jpg,0\nreal/b.jpg,1\nd.jpg,1\n")
    both = combine([folders, listed(manifest, "second")])
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
    empty = listed(write(tmp_path / "bad.csv", "path,label\na.jpg,9\n"), "bad")
    both = combine([empty, folders])
    assert (both.rows["label"].dtype, len(both.rows)) == (np.int64, 3)
    assert list(both.rejected["reason"]) == ["bad_label"]
