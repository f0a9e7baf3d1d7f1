"""fetch_photos -> forge -> prepare, run as they are on small photographs and on a user's own data."""

import hashlib
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyjpegxl
import pytest
from PIL import Image
from ruamel.yaml import YAML

from assay.core.io import read_json
from assay.core.params import read_yaml
from assay.data.decode import decode_rgb
from assay.data.path_text import unescape_path
from assay.data.roles import ROLES
from assay.images.model.store import fit_square, open_store
from assay.stages import fetch_photos, forge, prepare

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"
OWN = {"dataset": "own", "kind": "folders", "path": "own"}


def write_params(**changes: Any) -> None:
    """The embedded parameters made small; ``changes`` are ``section__key=value``."""
    content = read_yaml(PARAMS)
    content["runtime"] |= {"workers": 1, "threads": 1}
    content["roles"] = {"train": 0.4, "val": 0.15, "calib": 0.15, "tune": 0.15, "test": 0.15}
    content["fetch_photos"]["source"] = "photographs"
    content["forge"] |= {"size": 32, "crops_per_scene": 5, "short_side": [48, 96], "unseen": ["inpaint"]}
    # Without superres, whose weights come from a registry.
    content["forge"]["families"] = ["recon", "blend", "splice", "clone", "resample", "inpaint"]
    content["forge"]["recon"] |= {"photos": 2, "side": 32, "width": 4, "latent": 2, "steps": 3, "batch_size": 4}
    content["prepare"] |= {"size": 32, "folds": 2, "min_side": 32, "max_pixels": 1_000_000}
    content["prepare"]["audit"] = {"max_auc": 1.0, "action": "warn"}
    for key, value in changes.items():
        section, name = key.split("__", 1)
        content[section][name] = value
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(content, file)


def scene(seed: int, *, height: int = 120, width: int = 150) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    coarse = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(coarse + rng.normal(0, 8, coarse.shape), 0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def photographs(folder: Path, count: int = 20) -> None:
    for i in range(count):
        save(folder / f"scene{i:02d}.jpg", scene(i), quality=92)


def own_pairs(folder: Path, count: int = 20) -> None:
    """Real and forged images of the same names, all of one size and kind."""
    for i in range(count):
        image = scene(100 + i, height=48, width=60)
        save(folder / "real" / f"p{i:02d}.png", image)
        save(folder / "forged" / f"p{i:02d}.png", 255 - image[::-1])


def manifests() -> pd.DataFrame:
    parts = [pd.read_csv(f"data/processed/{role}_manifest.csv") for role in ROLES]
    for role, part in zip(ROLES, parts, strict=True):
        assert set(part["split"]) == {role}
        assert set(part["label"]) == {0, 1}
    return pd.concat(parts, ignore_index=True)


def rejected(path: str = "data/processed/rejected.csv") -> dict[str, str]:
    table = pd.read_csv(path)
    assert table["detail"].notna().all()
    return {Path(file).name: reason for file, reason in zip(table["file"], table["reason"], strict=True)}


def digests() -> dict[str, str]:
    files = [path for folder in ("data", "metrics") for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    return {path.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def check_store(rows: pd.DataFrame, side: int = 32, more: int = 0) -> None:
    """Every manifest row has its pixels in the store, equal to decoding the file; so many others are there, too."""
    store = open_store(Path("data/processed"))
    assert len(store.pixels) == len(rows) + more
    assert hashlib.sha256(store.pixels.tobytes()).hexdigest() == store.sha256
    at = store.rows_of(list(rows["sample_id"]))
    assert len(set(at)) == len(rows)
    for row, path in zip(at, rows["image_path"], strict=True):
        expected = fit_square(decode_rgb(path, max_pixels=1_000_000), side, resize="squash")
        np.testing.assert_array_equal(store.pixels[row], expected)


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_from_photographs_to_manifests() -> None:
    folder = Path("photographs")
    photographs(folder)
    save(folder / "again" / "scene00.jpg", scene(0), quality=60)  # a recompressed copy
    save(folder / "again" / "scene.01.png", scene(50))
    save(folder / "again" / "scene_01.png", scene(51))
    save(folder / "again__scene.01.png", scene(52))
    save(folder / "tiny.png", scene(53)[:47])  # below short_side, to which nothing is enlarged
    save(folder / "grey.png", np.full((90, 90, 3), 128, np.uint8))
    (folder / "words.jpg").write_text("no image")
    whole = (folder / "scene01.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "README.txt").write_text("mine")
    write_params()

    fetch_photos.main()
    photos = pd.read_csv("data/photos/photos.csv")
    assert list(photos.columns) == fetch_photos.COLUMNS
    assert rejected("data/photos/rejected.csv") == {"words.jpg": "not_an_image"}
    assert len(photos) == photos["file"].nunique() == 20 + 4 + 3
    for row in photos.itertuples():
        data = (Path("data/photos/pictures") / row.file).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row.sha256
        assert data == (folder / row.origin.removeprefix("own: ")).read_bytes()

    forge.main()
    assert rejected("data/forged/rejected.csv") == {"tiny.png": "too_small", "cut.jpg": "truncated", "grey.png": "flat"}
    made = pd.read_csv("data/forged/manifest.csv")
    assert made["path"].is_unique
    assert all((Path("data/forged") / path).is_file() for path in made["path"])
    assert len(list(Path("data/forged").rglob("*.jpg"))) == len(made)
    names = {path.name for path in Path("data/forged").iterdir()}
    assert names == {"forged", "manifest.csv", "real", "rejected.csv"}
    # The recompressed copy joined its scene, which is the largest then: the generator learns from it alone.
    assert made["group"].nunique() == 22
    assert (made["label"] == 0).sum() == 22 * 5
    assert not made["path"].str.contains("scene00").any()
    assert made.groupby("group")[["role", "fold"]].nunique(dropna=False).max().tolist() == [1, 1]
    assert (made["fold"].notna() == (made["role"] == "train")).all()
    assert set(made.loc[made["generator"] == "inpaint", "role"]) == {"test"}
    assert pd.read_csv("data/generated/manifest.csv").empty

    prepare.main()
    rows = manifests()
    assert list(rows.columns)[:10] == [
        *("image_path", "label", "dataset", "split"),
        *("sample_id", "group_id", "generator", "width", "height", "format"),
    ]
    assert len(rows) == len(made)
    assert rows["sample_id"].is_unique
    assert rows.groupby("group_id")["split"].nunique().max() == 1
    assert set(rows["format"]) == {"JPEG"}
    assert set(rows["width"]) == set(rows["height"]) == {32}
    declared = dict(zip("data/forged/" + made["path"], made["role"], strict=True))
    assert dict(zip(rows["image_path"], rows["split"], strict=True)) == declared
    check_store(rows)
    folds = pd.read_csv("data/processed/folds.csv")
    assert set(folds["sample_id"]) == set(rows.loc[rows["split"] == "train", "sample_id"])
    # The folds that experts use are those that forge gave.
    given = made.assign(image_path="data/forged/" + made["path"]).set_index("image_path")["fold"].dropna()
    used = folds.merge(rows[["sample_id", "image_path"]]).set_index("image_path")["fold"]
    assert used.to_dict() == given.to_dict()
    metrics = read_json("metrics/data.json")
    assert sum(metrics[f"{role}.n"] for role in ROLES) == len(rows)
    assert metrics["rejected"] == 0

    before = digests()
    for stage in (fetch_photos, forge, prepare):
        stage.main()
    assert digests() == before


def test_generated_pictures_are_cut_alone_and_photographs_kept_for_test_stand_beside_them() -> None:
    photographs(Path("photographs"), 24)
    write_params(forge__generated_crops=4)
    fetch_photos.main()
    table = pd.read_csv("data/photos/photos.csv", keep_default_na=False)
    assert set(table["role"]) == set(table["generator"]) == {""}
    # A maker's pictures, two of each thing, and photographs kept for test.
    table.loc[:5, "generator"], table.loc[:5, "group_id"] = "maker", ["a", "a", "b", "b", "c", "c"]
    table.loc[6:8, "role"] = "test"
    table.to_csv("data/photos/photos.csv", index=False)
    forge.main()
    forged, cut = pd.read_csv("data/forged/manifest.csv"), pd.read_csv("data/generated/manifest.csv")
    assert list(forged.columns) == list(cut.columns)
    kept, maker = table.loc[6:8, "group_id"], table.loc[:5, "group_id"]
    assert set(forged.loc[forged["group"].isin(kept), "role"]) == {"test"}
    assert forged["group"].isin(kept).any()
    assert not forged["group"].isin(maker).any()
    roles = forged.drop_duplicates("group")["role"].value_counts()
    assert (roles.sum(), set(roles.index)) == (16, set(ROLES))
    assert roles["test"] <= 5, "their share of all, and not on top of it"
    assert cut.groupby("generator")["label"].unique().map(list).to_dict() == {"maker": [1], "real": [0]}
    assert cut.groupby("generator")["group"].agg(set).to_dict() == {"maker": set(maker), "real": set(kept)}
    assert set(cut.groupby("group").size()) == {4}
    sizes = {Image.open(Path("data/generated") / path).size for path in cut["path"]}
    assert sizes == {(32, 32)}


def test_own_images_without_photographs_are_the_same_for_one_process_and_two() -> None:
    own_pairs(Path("own"))
    found = []
    for workers in (1, 2):
        write_params(fetch_photos__source="none", prepare__sources=[OWN], runtime__workers=workers)
        for stage in (fetch_photos, forge, prepare):
            stage.main()
        found.append(digests())
    assert found[0] == found[1]
    assert pd.read_csv("data/forged/manifest.csv").empty
    rows = manifests()
    assert len(rows) == 40
    pairs = rows.assign(name=rows["image_path"].str[-7:])
    assert pairs.groupby("name")["split"].nunique().max() == 1
    check_store(rows)


def test_a_forge_source_without_photographs_says_what_to_do() -> None:
    write_params(fetch_photos__source="none")
    fetch_photos.main()
    forge.main()
    with pytest.raises(ValueError, match=r"forge made nothing: set fetch_photos\.source"):
        prepare.main()


@pytest.mark.parametrize("make", [None, Path.mkdir, Path.touch])
def test_a_photograph_folder_that_is_none_or_empty(make: Any) -> None:
    if make is not None:
        make(Path("photographs"))
    write_params()
    told = "holds no file" if make is Path.mkdir else "is no folder; give packages, none or a folder"
    with pytest.raises(ValueError, match=f"fetch_photos.source 'photographs' {told}"):
        fetch_photos.main()


ODD_FILES = {
    "a/b/notes.txt": "not_an_image",
    "a/__b.txt": "not_an_image",
    "broken.jpg": "not_a_file",
    "pipe": "not_a_file",
    "within": "not_a_file",
    "loop.jpg": "outside",
    "out.jpg": "outside",
    "outer": "outside",
    "words": "outside",
    ".hid.jpg": "hidden",
    ".ipynb_checkpoints/0-checkpoint.jpg": "hidden",
}


def odd_files(folder: Path) -> None:
    """The files of `ODD_FILES`, and some that are passed over."""
    for name in (".hid.jpg", ".ipynb_checkpoints/0-checkpoint.jpg", "../elsewhere/a.jpg"):
        save(folder / name, scene(1))
    for name in ("a/b/notes.txt", "a/__b.txt", ".DS_Store", "README.md", "a/README", "scenes.dvc", "../secret"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("words")
    links = {"loop.jpg": "loop.jpg", "broken.jpg": "gone.jpg", "within": "a", ".lock": "me@here"}
    links |= {"out.jpg": "../elsewhere/a.jpg", "outer": "../elsewhere", "words": "../secret"}
    for name, target in links.items():
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe")


@pytest.mark.parametrize("group", [None, "folder", r"(\d+)"])
def test_a_folder_of_which_nothing_can_be_used(group: str | None) -> None:
    odd_files(Path("photographs"))
    write_params(fetch_photos__group=group)
    with pytest.raises(
        ValueError, match=r"(?s)no file can be used, .*11 rejected\n.*  2 hidden: .*photos/rejected\.csv"
    ):
        fetch_photos.main()
    table = pd.read_csv("data/photos/rejected.csv")
    assert dict(zip(table["file"], table["reason"], strict=True)) == ODD_FILES
    assert list(Path("data/photos/pictures").iterdir()) == []


def test_every_file_of_a_folder_is_a_photograph_or_has_its_reason() -> None:
    odd_files(Path("photographs"))
    pictures = {"README_room.jpg", "a/README.png", "here.png", "latin\\xe9.jpg"}
    for number, name in enumerate(("README_room.jpg", "a/README.png", os.fsdecode(b"latin\xe9.jpg"))):
        save(Path("photographs") / name, scene(number))
    Path("photographs/here.png").symlink_to("a/README.png")
    write_params()
    fetch_photos.main()
    assert set(pd.read_csv("data/photos/photos.csv")["origin"]) == {f"own: {name}" for name in pictures}
    assert set(pd.read_csv("data/photos/rejected.csv")["file"]) == set(ODD_FILES)


def test_no_byte_is_copied_of_what_is_no_photograph_whatever_its_name() -> None:
    for name in (b"a.jpg", b"d\xff/\xe9.jpg"):
        save(Path("photographs") / os.fsdecode(name), scene(name[0]))
    Path(os.fsdecode(b"photographs/d\xff/notes\xe9\n.txt")).write_text("words")
    Path(os.fsdecode(b"photographs/d\xff/\xe9")).symlink_to("../../gone")
    save(Path("photographs/large.jpg"), scene(3))
    os.truncate("photographs/large.jpg", 3 * 2**30)  # sparse
    write_params()
    fetch_photos.main()
    photos = pd.read_csv("data/photos/photos.csv")
    assert set(photos["origin"]) == {"own: a.jpg", "own: d\\xff/\\xe9.jpg"}
    assert {path.name for path in Path("data/photos/pictures").iterdir()} == set(photos["file"])
    table = pd.read_csv("data/photos/rejected.csv")
    assert dict(zip(table["file"], table["reason"], strict=True)) == {
        "large.jpg": "too_many_bytes",
        "d\\xff/notes\\xe9\n.txt": "not_an_image",
        "d\\xff/\\xe9": "outside",
    }


def test_photographs_of_which_none_can_be_decoded() -> None:
    for name in ("a__b.png", "c.png"):
        save(Path("photographs") / name, scene(1)[:20, :20])
    write_params()
    fetch_photos.main()
    told = r"none of 2 photograph\(s\) can be used, e\.g\. a__b\.png; 2 rejected\n  2 too_small: .*\n.*forged/rejected\.csv"
    with pytest.raises(ValueError, match=told):
        forge.main()
    assert rejected("data/forged/rejected.csv") == {"a__b.png": "too_small", "c.png": "too_small"}


def test_every_image_is_accepted_or_has_its_reason() -> None:
    own_pairs(Path("own"))
    real = Path("own/real")
    Image.fromarray(scene(200)).convert("CMYK").save(real / "cmyk.jpg")
    grey = scene(201)[..., 0].astype(np.uint16)
    Image.fromarray(grey * 257).save(real / "deep.png")
    Image.fromarray(scene(206)).save(real / "misnamed.heic", "AVIF")
    (real / "phone.jpg").write_bytes(pyjpegxl.encode_from_numpy(scene(207)))
    (real / "camera.cr2").write_bytes(b"II*\0\x10\0\0\0CR\x02\0")
    (real / "words.jpg").write_text("no image")
    whole = save(real / "cut.jpg", scene(202)).read_bytes()
    (real / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("1", (1001, 1000)).save(real / "large.png")
    save(real / "small.png", scene(203)[:20])
    save(real / "both.png", scene(208))
    save(Path("own/forged/copy.bmp"), scene(208))
    Image.new("RGB", (40, 40)).save(real / "black1.png")
    Image.new("RGB", (50, 50)).save("own/forged/black2.png")
    Image.new("RGB", (50, 50)).save("own/forged/black3.png")
    save(Path("listed/a.jpg"), scene(204))
    save(Path("listed/b.jpg"), scene(205))
    lines = ["a.jpg,0", "b.jpg,forged", "gone.jpg,1", "../own/real/p00.png,0", "c.jpg,maybe", "b.jpg,1"]
    Path("listed/all.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    write_params(prepare__sources=[OWN, {"dataset": "listed", "kind": "manifest", "path": "listed/all.csv"}])
    prepare.main()
    assert rejected() == {
        "words.jpg": "not_an_image",
        "camera.cr2": "unsupported_format",
        "cut.jpg": "truncated",
        "large.png": "too_many_pixels",
        "small.png": "too_small",
        "gone.jpg": "not_a_file",
        "p00.png": "outside",
        "c.jpg": "bad_label",
        "b.jpg": "repeated",
        **dict.fromkeys(("both.png", "copy.bmp", "black1.png", "black2.png", "black3.png"), "two_labels"),
    }
    details = pd.read_csv("data/processed/rejected.csv").set_index("file")["detail"]
    assert "the same picture as own/forged/copy.bmp, which has the other" in details["own/real/both.png"]
    rows = manifests()
    names = set(rows["image_path"])
    assert {"own/real/cmyk.jpg", "own/real/deep.png", "listed/a.jpg", "listed/b.jpg"} <= names
    formats = rows.set_index("image_path")["format"]
    assert (formats["own/real/misnamed.heic"], formats["own/real/phone.jpg"]) == ("AVIF", "JXL")
    assert len(rows) == 40 + 6
    assert read_json("metrics/data.json")["rejected"] == 9 + 5
    check_store(rows, more=5)


def test_nothing_but_bad_files_is_an_error_with_its_rows() -> None:
    for name in ("own/real/a.jpg", "own/forged/b.jpg"):
        Path(name).parent.mkdir(parents=True)
        Path(name).write_text("no image")
    write_params(prepare__sources=[OWN])
    with pytest.raises(ValueError, match=r"no real image .* is left of 0") as caught:
        prepare.main()
    assert "2 rejected\n  2 not_an_image: " in str(caught.value)
    assert "All of them: data/processed/rejected.csv" in str(caught.value)
    assert rejected() == {"a.jpg": "not_an_image", "b.jpg": "not_an_image"}


def test_a_class_folder_of_another_name_is_told_and_its_files_are_listed() -> None:
    own_pairs(Path("own"), count=3)
    Path("own/forged").rename("own/faces_x")
    write_params(prepare__sources=[OWN])
    with pytest.raises(
        ValueError, match=r"no forged image in own.*faces_x \(3\).*prepare\.sources, dataset own: classes"
    ):
        prepare.main()
    assert set(rejected().values()) == {"no_class"}
    write_params(prepare__sources=[OWN | {"classes": {"forged": ["Faces_X"]}}])
    with pytest.raises(ValueError, match=r"3 group\(s\) hold real images \(3 of 6 images are real\)"):
        prepare.main()


def listed_images(count: int, columns: str, line: Any) -> None:
    """A manifest of unlike images, every second one forged; ``line`` gives what stands behind path and label."""
    lines = [f"img/{i:03d}.png,{i % 2},{line(i)}" for i in range(count)]
    for i in range(count):
        save(Path(f"own/img/{i:03d}.png"), scene(300 + i, height=40, width=40))
    Path("own/list.csv").write_text(f"path,label,{columns}\n" + "\n".join(lines) + "\n")


@pytest.mark.parametrize("donor", ["val", "train"])
def test_a_split_of_three_roles_lends_the_others_theirs(donor: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["Training"] * 40 + ["validation"] * 10 + ["test"] * 10
    listed_images(60, "split", names.__getitem__)
    source = {"dataset": "own", "kind": "manifest", "path": "own/list.csv"}
    write_params(prepare__sources=[source], prepare__borrow_from=donor, prepare__folds=5)
    prepare.main()
    counts = manifests()["split"].value_counts()
    assert counts["test"] == 10
    lent = {"val": 10, "train": 40}[donor] - counts[donor]
    assert counts["calib"] + counts["tune"] == lent
    assert f"role calib had no rows and takes {counts['calib']} images" in capsys.readouterr().out
    write_params(prepare__sources=[source | {"roles": "drawn"}])
    prepare.main()
    assert manifests()["split"].value_counts()["test"] != 10


def test_a_group_named_na_is_one_group() -> None:
    listed_images(60, "group", lambda i: "NA" if i < 20 else f"g{i // 2}")
    write_params(prepare__sources=[{"dataset": "own", "kind": "manifest", "path": "own/list.csv"}])
    prepare.main()
    rows = manifests()
    groups = rows.assign(number=rows["image_path"].str[-7:-4].astype(int)).set_index("number")
    assert set(groups.loc[:19, "group_id"]) == {"own/NA"}
    assert len(set(groups.loc[:19, "split"])) == 1
    assert rows["group_id"].nunique() == 21


def test_frames_of_videos_stay_together_where_a_group_is_declared() -> None:
    for i in range(40):
        kind = "original_sequences/youtube" if i < 20 else "manipulated_sequences/Deepfakes"
        video = f"{i:03d}" if i < 20 else f"{i - 20:03d}_{(i - 19) % 20:03d}"
        for n in range(3):
            save(Path(f"own/{kind}/c23/videos/{video}/{n:04d}.png"), scene(1000 + 3 * i + n, height=40, width=40))
    write_params(prepare__sources=[OWN])
    with pytest.warns(UserWarning, match="120 of 120 files share 40 folders"):
        prepare.main()
    assert manifests()["group_id"].nunique() == 120
    write_params(prepare__sources=[OWN | {"group": r"/(\d{3})(?:_\d{3})?/"}])
    prepare.main()
    rows = manifests()
    assert rows["group_id"].nunique() == 20
    assert set(rows["generator"]) == {"real", "Deepfakes"}


def test_names_that_are_not_utf_8_go_through_every_stage() -> None:
    names = [os.fsdecode(f"照片{i:02d}".encode("gbk")) + end for i in range(4) for end in ("\n.jpg", "\r.jpg", ".jpg")]
    for i, name in enumerate(names):
        save(Path("photographs") / name, scene(i), quality=92)
    photographs(Path("photographs/more"))
    own_pairs(Path("own"))
    for i, name in enumerate(names):
        save(Path("own/real") / name, scene(700 + i, height=48, width=60))
    (Path("own/real") / os.fsdecode(b"\xb9\xfa.jpg")).write_text("no image")
    write_params(prepare__sources=[{"dataset": "photos", "kind": "forge"}, OWN])
    fetch_photos.main()
    photos = pd.read_csv("data/photos/photos.csv")
    assert len(photos) == 32
    origins = [unescape_path(origin.removeprefix("own: ")) for origin in photos["origin"]]
    assert set(origins) >= set(names)
    assert all((Path("data/photos/pictures") / name).is_file() for name in photos["file"])
    forge.main()
    prepare.main()
    rows = manifests()
    paths = [unescape_path(path) for path in rows["image_path"]]
    assert set(paths) >= {f"own/real/{name}" for name in names}
    assert all(Path(path).is_file() for path in paths)
    assert rejected() == {"\\xb9\\xfa.jpg": "not_an_image"}


@pytest.mark.parametrize(
    ("group", "groups"),
    [("folder", {"a", "b/c", "alone"}), (r"([^/]+)/\d", {"a", "c", "alone"}), ("file", None), (None, None)],
)
@pytest.mark.filterwarnings("ignore:fetch_photos.group")
def test_photographs_of_one_scene(group: str | None, groups: set[str] | None) -> None:
    names = ["alone.jpg", *(f"{folder}/{i}.jpg" for folder in ("a", "b/c") for i in range(3))]
    for i, name in enumerate(names):
        save(Path("photographs") / name, scene(i))
    write_params(fetch_photos__group=group)
    fetch_photos.main()
    photos = pd.read_csv("data/photos/photos.csv")
    found = set(photos["group_id"])
    assert found == (groups or set(photos["file"]))


def test_bundles_of_photographs_are_warned_of() -> None:
    for i in range(12):
        save(Path(f"photographs/room{i // 4}/{i}.jpg"), scene(i))
    write_params()
    with pytest.warns(UserWarning, match=r"12 of 12 files share 3 folders.*Set fetch_photos\.group to folder"):
        fetch_photos.main()


def test_a_shortcut_warns_or_fails_as_the_user_asked() -> None:
    for i in range(40):
        save(Path(f"own/real/r{i:02d}.png"), scene(i, height=40, width=40))
        save(Path(f"own/forged/f{i:02d}.jpg"), scene(500 + i, height=40, width=40))
    write_params(prepare__sources=[OWN], prepare__audit={"max_auc": 0.6, "action": "fail"})
    with pytest.raises(ValueError, match=r"metadata alone .* with AUC 1\.000, above prepare\.audit\.max_auc 0\.6"):
        prepare.main()
    write_params(prepare__sources=[OWN], prepare__audit={"max_auc": 0.6, "action": "warn"})
    with pytest.warns(UserWarning, match="metadata alone"):
        prepare.main()
    audit = read_json("data/processed/audit.json")
    assert (audit["shortcuts"], audit["metadata_auc"]) == (["metadata", "names"], 1.0)
    assert audit["files"]["real"]["formats"].keys() == {"PNG"}
