"""Archives made to do harm, of both kinds: zip (wheels) and .tar.gz (sdists)."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from assay.data.fetch import archives
from assay.data.fetch.archives import unpack

Member = tuple[str | zipfile.ZipInfo | tarfile.TarInfo, bytes]
WHEEL, SDIST = "a.whl", "a.tar.gz"
BOTH = pytest.mark.parametrize("kind", [WHEEL, SDIST])


def make_zip(path: Path, members: list[Member]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members:
            assert not isinstance(member, tarfile.TarInfo)
            archive.writestr(member, data)
    return path


def tar_bytes(members: list[Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, data in members:
            assert not isinstance(member, zipfile.ZipInfo)
            if isinstance(member, str):
                info = tarfile.TarInfo(member)
                info.type = tarfile.DIRTYPE if member.endswith("/") else tarfile.REGTYPE
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            else:
                archive.addfile(member, io.BytesIO(data) if data else None)
    return buffer.getvalue()


def make(path: Path, members: list[Member]) -> Path:
    if path.name == WHEEL:
        return make_zip(path, members)
    path.write_bytes(gzip.compress(tar_bytes(members)))
    return path


def with_mode(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def tar_info(
    name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, link: str = "", pax: dict[str, str] | None = None
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.pax_headers = kind, size, link, pax or {}
    return info


def unpack_all(archive: Path, destination: Path, **options: object) -> list[Path]:
    return unpack(archive, destination, **({"members": None, "max_bytes": 1 << 30, "max_files": 99} | options))


@BOTH
def test_unpack_takes_only_what_is_wanted(tmp_path: Path, kind: str) -> None:
    archive = make(tmp_path / kind, [("d/", b""), ("d/a.txt", b"a"), ("b.txt", b"b"), ("c.txt", b"c")])
    out = tmp_path / "out"
    assert unpack_all(archive, out, members=["c.txt", "d/a.txt", "c.txt"]) == [out / "c.txt", out / "d" / "a.txt"]
    assert not (out / "b.txt").exists()
    assert [path.read_bytes() for path in unpack_all(archive, out)] == [b"a", b"b", b"c"]


@BOTH
def test_unpack_names_near_members(tmp_path: Path, kind: str) -> None:
    archive = make(tmp_path / kind, [("data/photo_01.jpg", b"a")])
    with pytest.raises(ValueError, match=r"'data/photo_1\.jpg': not in the archive.*data/photo_01\.jpg"):
        unpack_all(archive, tmp_path / "out", members=["data/photo_1.jpg"])


HOSTILE: dict[str, list[Member]] = {
    "leads out": [("../evil.txt", b"")],
    "leads out of": [("a/../../evil.txt", b"")],
    "name leads out": [("/evil.txt", b"")],
    "the name leads": [("C:/evil.txt", b"")],
    "the name leads out": [("a\\..\\..\\evil.txt", b"")],
    "name leads out of": [("a//evil.txt", b"")],
    "name leads out of the": [("./evil.txt", b"")],
    "stands in the archive twice": [("a.txt", b"1"), ("A.txt", b"2")],
    "folder is also a file": [("a", b"1"), ("a/b", b"2")],
    "its folder is also a file": [("A/b", b"1"), ("a", b"2")],
    "a bomb": [("zeros", bytes(64 << 20))],
}


@BOTH
@pytest.mark.parametrize("message", HOSTILE)
def test_unpack_writes_nothing_of_a_hostile_archive(tmp_path: Path, kind: str, message: str) -> None:
    archive = make(tmp_path / kind, [("good.txt", b"good"), *HOSTILE[message]])
    with pytest.raises(ValueError, match=message):
        unpack_all(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFDIR])
def test_unpack_refuses_what_is_no_plain_file_in_a_zip(tmp_path: Path, kind: int) -> None:
    archive = make_zip(tmp_path / WHEEL, [("good.txt", b"good"), (with_mode("odd", kind | 0o777), b"/etc/passwd")])
    with pytest.raises(ValueError, match="'odd': is a link or special file"):
        unpack_all(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


SPECIAL = {
    "symbolic link": tar_info("odd", tarfile.SYMTYPE, link="/etc/passwd"),
    "link inside": tar_info("odd", tarfile.SYMTYPE, link="good.txt"),
    "hard link": tar_info("odd", tarfile.LNKTYPE, link="good.txt"),
    "character device": tar_info("odd", tarfile.CHRTYPE),
    "block device": tar_info("odd", tarfile.BLKTYPE),
    "pipe": tar_info("odd", tarfile.FIFOTYPE),
    "contiguous": tar_info("odd", tarfile.CONTTYPE),
    "unknown type": tar_info("odd", b"Z"),
    "sparse": tar_info("odd", pax={"GNU.sparse.map": "0,0", "GNU.sparse.size": "1000000000000"}),
    "negative size": tar_info("odd", pax={"size": "-512"}),
}


@pytest.mark.parametrize("case", SPECIAL)
def test_unpack_refuses_what_is_no_plain_file_in_a_tar(tmp_path: Path, case: str) -> None:
    """Also where the member is not wanted."""
    archive = make(tmp_path / SDIST, [("good.txt", b"good"), (SPECIAL[case], b"")])
    with pytest.raises(ValueError, match="'odd': is a link or special file"):
        unpack_all(archive, tmp_path / "out", members=["good.txt"])
    assert list(tmp_path.iterdir()) == [archive]


@BOTH
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_unpack_refuses_exact_duplicates(tmp_path: Path, kind: str) -> None:
    archive = make(tmp_path / kind, [("a.txt", b"1"), ("a.txt", b"2")])
    with pytest.raises(ValueError, match=r"'a\.txt': stands in the archive twice"):
        unpack_all(archive, tmp_path / "out")


@BOTH
def test_unpack_refuses_a_nul_in_a_name(tmp_path: Path, kind: str) -> None:
    """Where the libraries cut the name, it would pass for another one."""
    archive = make(
        tmp_path / kind, [("a.txt", b"1") if kind == WHEEL else (tar_info("b", pax={"path": "a.tx\0"}), b"")]
    )
    if kind == WHEEL:
        archive.write_bytes(archive.read_bytes().replace(b"a.txt", b"a.tx\0"))
    with pytest.raises(ValueError, match=r"'a\.tx\\x00': the name leads out"):
        unpack_all(archive, tmp_path / "out")


@BOTH
def test_unpack_keeps_its_limits(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make(tmp_path / kind, [("a.txt", b"12345"), ("b.txt", b"12345"), ("d/", b"")])
    with pytest.raises(ValueError, match=r"'b\.txt': makes 10 bytes; max_bytes is 9"):
        unpack_all(archive, tmp_path / "out", max_bytes=9)
    with pytest.raises(ValueError, match="max_files 1: 2 members"):
        unpack_all(archive, tmp_path / "out", max_files=1)
    assert len(unpack_all(archive, tmp_path / "out", max_bytes=10, max_files=2)) == 2
    monkeypatch.setattr(archives, "MAX_ENTRIES", 2)
    with pytest.raises(ValueError, match=r"'d/?': is one more than 2"):
        unpack_all(archive, tmp_path / "out")


@pytest.mark.parametrize("declared", [10, 5000])
def test_unpack_refuses_sizes_that_lie(tmp_path: Path, declared: int) -> None:
    """The true size is 1000: first less is declared than comes, then more."""
    archive = make_zip(tmp_path / WHEEL, [("a.txt", bytes(1000))])
    true, lie = (1000).to_bytes(4, "little"), declared.to_bytes(4, "little")
    assert archive.read_bytes().count(true) == 2  # local header and central directory
    archive.write_bytes(archive.read_bytes().replace(true, lie))
    with pytest.raises(ValueError, match=r"member 'a\.txt'"):
        unpack_all(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_unpack_refuses_damaged_bytes(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.txt", b"hello hello")
    (tmp_path / WHEEL).write_bytes(buffer.getvalue().replace(b"hello hello", b"hello jello"))
    with pytest.raises(ValueError, match=r"member 'a\.txt': damaged"):
        unpack_all(tmp_path / WHEEL, tmp_path / "out")
    (tmp_path / "b.whl").write_bytes(b"no archive at all")
    with pytest.raises(ValueError, match=r"b\.whl: not a zip archive"):
        unpack_all(tmp_path / "b.whl", tmp_path / "out")


GOOD = tar_bytes([("good.txt", b"good" * 1000), ("more.txt", b"more")])
PACKED = gzip.compress(GOOD)
DAMAGED = {
    "not a gzip": b"no archive at all",
    "nothing": b"",
    "nothing inside": gzip.compress(b""),
    "no tar inside": gzip.compress(b"no tar" * 1000),
    "gzip cut off": PACKED[:-20],
    "gzip cut off in its checksum": PACKED[:-4],
    "wrong checksum": PACKED[:-8] + bytes(4) + PACKED[-4:],
    "a member cut off": gzip.compress(GOOD[:2000]),
    "the second header broken": gzip.compress(GOOD.replace(b"more.txt", b"m0re.txt")),
    "the second header cut off": gzip.compress(GOOD[: GOOD.index(b"more.txt") + 100]),
    "something behind the end": gzip.compress(GOOD + b"x"),
    "a number that is none": gzip.compress(tar_bytes([(tar_info("odd", pax={"GNU.sparse.map": "0,x"}), b"")])),
    # Each announces a next one, which is read inside the reading of the one before.
    "a chain of headers": gzip.compress(tar_info("x", tarfile.XHDTYPE).tobuf(tarfile.USTAR_FORMAT) * 3000 + GOOD),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_unpack_writes_nothing_of_a_damaged_sdist(tmp_path: Path, case: str) -> None:
    """Not even a member that came before the damage."""
    (tmp_path / SDIST).write_bytes(DAMAGED[case])
    with pytest.raises(ValueError, match=r"a\.tar\.gz: not a whole \.tar\.gz archive.*fetch the archive again"):
        unpack_all(tmp_path / SDIST, tmp_path / "out", members=["good.txt"])
    assert [path.name for path in tmp_path.iterdir()] == [SDIST]


BOMBS = {
    "a member that is not wanted": tar_bytes([("good.txt", b"good"), ("zeros", bytes(64 << 20))]),
    "zeros behind the end": GOOD + bytes(64 << 20),
    "a size beyond the end": tar_bytes([("good.txt", b"good"), (tar_info("huge", pax={"size": str(10**30)}), b"")]),
    "a header": tar_info("x", tarfile.XHDTYPE, size=64 << 20).tobuf() + bytes(64 << 20) + GOOD,
    "a header of negative size": tar_info("x", tarfile.XHDTYPE, size=-512).tobuf(tarfile.GNU_FORMAT) + GOOD,
}


@pytest.mark.parametrize("case", BOMBS)
def test_unpack_stops_at_a_gzip_bomb(tmp_path: Path, case: str) -> None:
    (tmp_path / SDIST).write_bytes(gzip.compress(BOMBS[case]))
    with pytest.raises(ValueError, match=r"a\.tar\.gz: (unpacks to more|has a header of).*do not use"):
        unpack_all(tmp_path / SDIST, tmp_path / "out", members=["good.txt"])
    assert [path.name for path in tmp_path.iterdir()] == [SDIST]


def test_unpack_takes_neither_modes_nor_owners(tmp_path: Path) -> None:
    info = tar_info("tool", size=1)
    info.mode, info.uid, info.gid = 0o6777, 12345, 12345
    (path,) = unpack_all(make(tmp_path / SDIST, [(info, b"x")]), tmp_path / "out")
    (tmp_path / "plain").write_bytes(b"")
    plain, came = (tmp_path / "plain").stat(), path.stat()
    assert (came.st_mode, came.st_uid, came.st_gid) == (plain.st_mode, plain.st_uid, plain.st_gid)


@BOTH
def test_unpack_does_not_follow_links_that_wait_in_the_destination(tmp_path: Path, kind: str) -> None:
    archive = make(tmp_path / kind, [("d/a.txt", b"a")])
    (tmp_path / "out").mkdir()
    (tmp_path / "away").mkdir()
    (tmp_path / "out" / "d").symlink_to(tmp_path / "away")
    with pytest.raises(ValueError, match="a link leads out"):
        unpack_all(archive, tmp_path / "out")
    assert list((tmp_path / "away").iterdir()) == []
