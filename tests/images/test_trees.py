"""Trees and lists in the shapes in which well-known data sets come: labels, groups, generators and roles of their files."""

import json
import os
from pathlib import Path

import pytest

from assay.data.path_text import unescape_path
from assay.images.listing import Listing
from assay.images.sources import list_path
from assay.params.images import External, Labelled, Source

REAL, FORGED = 0, 1
FACES = "original_sequences/youtube/c23/videos"
SWAPS = "manipulated_sequences/Deepfakes/c23/videos"


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(os.fsencode(name))


def listed(path: Path, **how: object) -> Listing:
    return list_path(path, dataset="own", how=Labelled.model_validate(how), field="prepare.sources")


def as_told(listing: Listing, root: Path) -> dict[str, tuple[object, ...]]:
    rows = listing.rows.assign(role=listing.rows["role"].astype(object).where(listing.rows["role"].notna(), None))
    columns = (rows[name] for name in ("image_path", "label", "group", "generator", "role"))
    return {
        Path(path).relative_to(root).as_posix(): (label, group.removeprefix("own/"), *rest)
        for path, label, group, *rest in zip(*columns, strict=True)
    }


TREES = {
    # name of a file -> label, group, generator, role
    "two folders": {
        "Original/a.png": (REAL, "a", "real", None),
        "FAKE/a.png": (FORGED, "a", "own", None),
        "FAKE/sub/b.png": (FORGED, "sub/b", "own", None),
    },
    "CNNDetection": {
        "progan/0_real/1.png": (REAL, "progan/1", "real", None),
        "progan/1_fake/1.png": (FORGED, "progan/1", "progan", None),
        "stylegan/car/0_real/2.png": (REAL, "stylegan/car/2", "real", None),
        "stylegan/car/1_fake/3.png": (FORGED, "stylegan/car/3", "stylegan", None),
        "val/biggan/cat/1_fake/4.png": (FORGED, "val/biggan/cat/4", "biggan", "val"),
        "real/x/0_real/5.png": (REAL, "x/5", "real", None),
    },
    "GenImage": {
        "ADM/imagenet_ai_0508_adm/train/ai/1.PNG": (FORGED, "ADM/imagenet_ai_0508_adm/train/1", "ADM", "train"),
        "ADM/imagenet_ai_0508_adm/train/nature/n.JPEG": (REAL, "ADM/imagenet_ai_0508_adm/train/n", "real", "train"),
        "BigGAN/val/ai/1.PNG": (FORGED, "BigGAN/val/1", "BigGAN", "val"),
        "BigGAN/val/nature/n.JPEG": (REAL, "BigGAN/val/n", "real", "val"),
    },
    "splits of other names": {
        "real/Training/a.png": (REAL, "Training/a", "real", "train"),
        "fake/validation/b.png": (FORGED, "validation/b", "own", "val"),
        "valid/real/c.png": (REAL, "valid/c", "real", "val"),
        "dev/real/d.png": (REAL, "dev/d", "real", "val"),
        "testing/fake/e.png": (FORGED, "testing/e", "own", "test"),
        "eval/fake/f.png": (FORGED, "eval/f", "eval", None),
    },
    "FaceForensics": {
        f"{FACES}/000/0001.png": (REAL, "youtube/c23/videos/000/0001", "real", None),
        f"{SWAPS}/000_003/0001.png": (FORGED, "Deepfakes/c23/videos/000_003/0001", "Deepfakes", None),
    },
    "Celeb-DF": {
        "Celeb-real/frames/id0_0000/000.png": (REAL, "frames/id0_0000/000", "real", None),
        "YouTube-real/frames/00001/000.png": (REAL, "frames/00001/000", "real", None),
        "Celeb-synthesis/frames/id0_id1_0000/000.png": (FORGED, "frames/id0_id1_0000/000", "own", None),
    },
    "scenes of both classes, numbered": {
        "real/1/x/a.png": (REAL, "1/x/a", "real", None),
        "forged/1/x/a.png": (FORGED, "1/x/a", "own", None),
        "0/b.png": (REAL, "b", "real", None),
    },
}


@pytest.mark.parametrize("tree", TREES.values(), ids=list(TREES))
def test_trees_as_they_come(tmp_path: Path, tree: dict[str, tuple[object, ...]]) -> None:
    make(tmp_path, *tree)
    listing = listed(tmp_path)
    assert (as_told(listing, tmp_path), listing.problem) == (tree, None)
    assert listing.rejected.empty


def test_files_in_no_class_or_in_both_have_a_reason(tmp_path: Path) -> None:
    make(tmp_path, "real/a.png", "fake/b.png", "real/x/fake/c.png", "other/d.png", "notes.txt")
    make(tmp_path, "train/real/test/e.png", "train/fake/training/f.png")
    rejected = listed(tmp_path).rejected
    found = {
        Path(file).relative_to(tmp_path).as_posix(): (reason, detail)
        for file, reason, detail in zip(rejected["file"], rejected["reason"], rejected["detail"], strict=True)
    }
    assert found == {
        "real/x/fake/c.png": ("two_classes", "folder 'real/x/fake' names both classes"),
        "other/d.png": ("no_class", "folder 'other' names no class"),
        "notes.txt": ("no_class", "folder '.' names no class"),
        "train/real/test/e.png": ("two_roles", "folder 'train/real/test' names the roles test and train"),
    }
    (tmp_path / "m.csv").write_text("path,label,role\na.png,0,holdout\nb.png,1,val\n")
    drawn = Source(dataset="own", kind="folders", path="own", roles="drawn")
    for how in (drawn, External(name="own", path="own")):
        # Roles that nobody asks for are no reason.
        for path, reasons in ((tmp_path, {"no_class", "two_classes"}), (tmp_path / "m.csv", set())):
            listing = list_path(path, dataset="own", how=how, field="prepare.sources")
            assert (set(listing.rejected["reason"]), listing.rows["role"].notna().sum()) == (reasons, 0)


VIDEOS = [f"{FACES}/{name}/{n}.png" for name in ("000", "003", "007") for n in range(3)]
VIDEOS += [f"{SWAPS}/{name}/{n}.png" for name in ("000_003", "007_009") for n in range(3)]


@pytest.mark.parametrize(
    ("rule", "groups"),
    [
        ("folder", [f"youtube/c23/videos/{name}" for name in ("000", "003", "007")]),
        # The first video names the group.
        (r"/(\d{3})(?:_\d{3})?/", ["000", "003", "007"]),
        # Both do: what shares either is one group.
        (r"/(\d{3})(?:_(\d{3}))?/", ["000", "000", "007"]),
        (r"\d{3}(?=/|_)", ["000", "003", "007"]),
    ],
)
def test_frames_of_a_video_are_one_group(tmp_path: Path, rule: str, groups: list[str]) -> None:
    make(tmp_path, *VIDEOS)
    rows = listed(tmp_path, group=rule).rows
    swaps = ["000", "007"] if rule != "folder" else [f"Deepfakes/c23/videos/{name}" for name in ("000_003", "007_009")]
    assert list(rows["group"]) == [f"own/{name}" for name in [*groups, *swaps] for _ in range(3)]
    # The same of a manifest without groups.
    table = tmp_path / "m.csv"
    table.write_text("path,label\n" + "".join(f"{name},{int('manipulated' in name)}\n" for name in VIDEOS))
    assert list(listed(table, group=rule).rows["group"]) == list(rows["group"])


def test_a_path_without_a_group_stands_alone_and_is_counted(tmp_path: Path) -> None:
    make(tmp_path, "real/v1_0.png", "real/v1_1.png", "real/odd.png", "fake/v1_0.png")
    with pytest.warns(
        UserWarning, match=r"group \(dataset own\) '\(v\.\)_': 1 of 4 files don't match \(e\.g\. 'real/odd\.png'\)"
    ):
        rows = listed(tmp_path, group="(v.)_").rows
    assert list(rows["group"]) == ["own/odd", "own/v1", "own/v1", "own/v1"]
    with pytest.warns(UserWarning, match="4 of 4 files lie in no folder of their own"):
        listed(tmp_path, group="folder")


@pytest.mark.parametrize(
    "names", [VIDEOS, [f"{kind}/clip{v}_{n:04d}.png" for kind in ("real", "ai") for v in "abc" for n in range(4)]]
)
def test_frames_without_a_group_are_warned_of(tmp_path: Path, names: list[str]) -> None:
    make(tmp_path, *names)
    told = r"files share 3 beginnings of names|files share 5 folders \('youtube/c23/videos/000' 3"
    with pytest.warns(UserWarning, match=f"({told}).*Set prepare.sources.*dataset own.* to folder"):
        listed(tmp_path)
    listed(tmp_path, group="file")
    table = tmp_path / "m.csv"
    table.write_text("path,label,group\n" + "".join(f"{name},{n % 2},g{n}\n" for n, name in enumerate(names)))
    listed(table)


def test_single_images_are_not_warned_of(tmp_path: Path) -> None:
    make(tmp_path, *(f"{kind}/{kind}{n:04d}.png" for kind in ("real", "fake") for n in range(20)))
    make(tmp_path, *(f"{name}/0_real/{n}.png" for name in ("a", "b", "c", "d") for n in range(5)))
    make(tmp_path, *(f"real/{name}/{n}.png" for name in ("train", "val", "test") for n in range(5)))
    listed(tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
def test_lists_of_frames(tmp_path: Path, compressed: bool) -> None:
    def part(label: str, video: str, split: str) -> dict[str, object]:
        frames = [f"FaceForensics++\\{label}\\frames\\{video}\\{n:03d}.png" for n in range(2)]
        videos = {video: {"label": label, "frames": frames}}
        return {split: {"c23": videos} if compressed else videos}

    content = {
        "FaceForensics++": {
            "FF-real": part("FF-real", "000", "train") | part("FF-real", "500", "val"),
            "FF-DF": part("FF-DF", "000_003", "train") | part("FF-DF", "600_601", "test"),
            "FF-F2F": part("FF-F2F", "000_003", "train"),
            "FF-new": part("FF-new", "700_701", "test"),
        }
    }
    content["FaceForensics++"]["FF-DF"]["train"].setdefault("c40", {})["empty"] = {"label": "FF-DF", "frames": []}
    path = tmp_path / "FF.json"
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    make(tmp_path, *(f"FaceForensics++/FF-real/frames/000/{n:03d}.png" for n in range(2)))
    listing = listed(path, classes={"forged": ["FF-new"]})
    found = as_told(listing, tmp_path)
    assert len(found) == 12
    video = "FaceForensics++/"
    assert found["FaceForensics++/FF-real/frames/000/001.png"] == (REAL, f"{video}000", "FF-real", "train")
    by_row = listing.rows[["label", "group", "generator", "role"]].drop_duplicates().itertuples(index=False)
    assert [tuple(row) for row in by_row] == [
        (REAL, f"own/{video}000", "FF-real", "train"),
        (REAL, f"own/{video}500", "FF-real", "val"),
        (FORGED, f"own/{video}000_003", "FF-DF", "train"),
        (FORGED, f"own/{video}600_601", "FF-DF", "test"),
        (FORGED, f"own/{video}000_003", "FF-F2F", "train"),
        (FORGED, f"own/{video}700_701", "FF-new", "test"),
    ]
    (rejected,) = listing.rejected.to_dict("records")
    told = "FaceForensics++ > FF-DF > train > c40 > empty holds no frames"
    assert (rejected["reason"], rejected["detail"]) == ("unreadable", told)
    joined = listed(path, group=r"[\\/](\d{3})(?:_(\d{3}))?[\\/]").rows["group"]
    assert joined.nunique() == 4 - 1


def test_names_that_are_not_utf_8_and_odd_ones(tmp_path: Path) -> None:
    odd = [
        os.fsdecode("中文".encode("gbk")) + ".png",
        "a\nb.png",
        "a\rb.png",
        "e\u0301.png",
        "\u00e9.png",
        "back\\x41.png",
    ]
    make(tmp_path, *(f"real/{name}" for name in odd), "fake/\u00e9.png")
    rows = listed(tmp_path).rows
    assert {unescape_path(path) for path in rows["image_path"]} == {
        *((tmp_path / "real" / name).as_posix() for name in odd),
        (tmp_path / "fake/\u00e9.png").as_posix(),
    }
    assert (tmp_path / r"real/\xd6\xd0\xce\xc4.png").as_posix() in set(rows["image_path"])
    # Composed or not, a name is the same one.
    assert (rows["group"] == "own/\u00e9").sum() == 3
    for path in (*rows["image_path"], *rows["group"]):
        path.encode("utf-8")


def test_manifests_find_files_by_other_ways_of_writing_their_names(tmp_path: Path) -> None:
    make(tmp_path, "img/" + os.fsdecode("图".encode("gbk")) + ".png", "img/e\u0301.png", "img/c.png", "img/d\\x.png")
    written = ["img/\\xcd\\xbc.png", "img/\u00e9.png", "img\\c.png", "img/d\\x.png"]
    (tmp_path / "m.csv").write_text("path,label\n" + "".join(f"{name},0\n" for name in written), encoding="utf-8")
    paths = [unescape_path(path) for path in listed(tmp_path / "m.csv").rows["image_path"]]
    assert len(paths) == 4
    assert all(Path(path).is_file() for path in paths)
