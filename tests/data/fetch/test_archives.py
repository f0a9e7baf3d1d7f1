"""Archives made to do harm, of both kinds: zip (wheels) and packed tar (sdists, and npm's)."""

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from assay.data.fetch.archives import unpack

Member = tuple[str | zipfile.ZipInfo | tarfile.TarInfo, bytes]
WHEEL, SDIST = "a.whl", "a.tar.gz"
BOTH = pytest.mark.parametrize("kind", [WHEEL, SDIST, "a.tgz"])


def tar_bytes(members: list[Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, data in members:
            info = tar_info(member, size=len(data)) if isinstance(member, str) else member
            archive.addfile(info, io.BytesIO(data) if data else None)
    return buffer.getvalue()


def make(path: Path, members: list[Member]) -> Path:
    if path.name == WHEEL:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members:
                archive.writestr(member, data)
    else:
        path.write_bytes(gzip.compress(tar_bytes(members)))
    return path


def zip_info(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def tar_info(name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, link: str = "", **pax: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    info.pax_headers = {key.replace("_", "."): value for key, value in pax.items()}
    return info


def take(archive: Path, *members: str, max_bytes: int = 1 << 20) -> list[Path]:
    return unpack(archive, archive.parent / "out", members=members, max_bytes=max_bytes)


def check_nothing_is_written(archive: Path, *members: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        take(archive, *members)
    assert not [path for path in (archive.parent / "out").rglob("*") if path.is_file()]
    assert {path.name for path in archive.parent.iterdir()} <= {archive.name, "out"}


@BOTH
def test_unpack_takes_only_what_is_wanted(tmp_path: Path, kind: str) -> None:
    archive = make(tmp_path / kind, [("d/a.txt", b"a"), ("b.txt", b"b"), ("c.txt", b"c"), ("../evil", b"")])
    out = tmp_path / "out"
    assert take(archive, "c.txt", "d/a.txt", "c.txt") == [out / "c.txt", out / "d" / "a.txt"]
    assert {path.name: path.read_bytes() for path in out.rglob("*.txt")} == {"a.txt": b"a", "c.txt": b"c"}
    assert {path.name for path in tmp_path.iterdir()} == {kind, "out"}
    with pytest.raises(ValueError, match=r"'d/b\.txt': no plain file of the archive; near names: .*d/a\.txt"):
        take(archive, "d/b.txt")


@BOTH
@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "C:/evil.txt", "a\\..\\..\\evil.txt"])
def test_a_name_that_leads_out_of_the_folder_is_rejected(tmp_path: Path, kind: str, name: str) -> None:
    archive = make(tmp_path / kind, [("good.txt", b"good"), (name, b"evil")])
    check_nothing_is_written(archive, "good.txt", name, match="must be relative and without")


@BOTH
def test_more_bytes_than_the_limit_are_rejected(tmp_path: Path, kind: str) -> None:
    """A bomb too: 64 MiB of zeros are a few KiB here."""
    archive = make(tmp_path / kind, [("good.txt", b"good"), ("zeros", bytes(64 << 20))])
    check_nothing_is_written(archive, "good.txt", "zeros", match=r"max_bytes is 1048576|more than 1048576 bytes")
    if kind == SDIST:  # all of it is read, wanted or not
        check_nothing_is_written(archive, "good.txt", match="unpacks to more than 1048576 bytes")
    archive = make(tmp_path / kind, [("a.txt", b"12345"), ("b.txt", b"12345")])
    assert len(take(archive, "a.txt", "b.txt", max_bytes=10 if kind == WHEEL else 10240)) == 2


SPECIAL: dict[str, tuple[str, zipfile.ZipInfo | tarfile.TarInfo]] = {
    "zip: folder": (WHEEL, zipfile.ZipInfo("odd/")),
    "zip: symbolic link": (WHEEL, zip_info("odd", stat.S_IFLNK | 0o777)),
    "zip: pipe": (WHEEL, zip_info("odd", stat.S_IFIFO | 0o777)),
    "tar: folder": (SDIST, tar_info("odd", tarfile.DIRTYPE)),
    "tar: symbolic link": (SDIST, tar_info("odd", tarfile.SYMTYPE, link="/etc/passwd")),
    "tar: symbolic link inside": (SDIST, tar_info("odd", tarfile.SYMTYPE, link="good.txt")),
    "tar: hard link": (SDIST, tar_info("odd", tarfile.LNKTYPE, link="good.txt")),
    "tar: device": (SDIST, tar_info("odd", tarfile.CHRTYPE)),
    "tar: pipe": (SDIST, tar_info("odd", tarfile.FIFOTYPE)),
    "tar: sparse": (SDIST, tar_info("odd", GNU_sparse_map="0,0", GNU_sparse_size="1000000000000")),
}


@pytest.mark.parametrize("case", SPECIAL)
def test_only_plain_files_are_unpacked(tmp_path: Path, case: str) -> None:
    kind, info = SPECIAL[case]
    archive = make(tmp_path / kind, [("good.txt", b"good"), (info, b"/etc/passwd" if kind == WHEEL else b"")])
    check_nothing_is_written(archive, "good.txt", "odd", match="'odd': no plain file of the archive")


@pytest.mark.parametrize("declared", [10, 5000])
def test_sizes_that_lie_are_rejected(tmp_path: Path, declared: int) -> None:
    """The true size is 1000: first less is declared than comes, then more."""
    archive = make(tmp_path / WHEEL, [("a.txt", bytes(1000))])
    true, lie = (1000).to_bytes(4, "little"), declared.to_bytes(4, "little")
    assert archive.read_bytes().count(true) == 2  # local header and central directory
    archive.write_bytes(archive.read_bytes().replace(true, lie))
    check_nothing_is_written(archive, "a.txt", match="damaged|5000 bytes declared")


GOOD = tar_bytes([("good.txt", b"good" * 1000), ("more.txt", b"more")])
PACKED = gzip.compress(GOOD)
STORED = io.BytesIO()
with zipfile.ZipFile(STORED, "w", zipfile.ZIP_STORED) as stored:
    stored.writestr("more.txt", b"hello hello")
ENCRYPTED = (
    STORED.getvalue().replace(b"PK\3\4\x14\0\0", b"PK\3\4\x14\0\1").replace(b"\x14\0\0\0\0\0", b"\x14\0\1\0\0\0")
)
DAMAGED = {
    "zip: no archive": (WHEEL, b"no archive at all"),
    "zip: other bytes": (WHEEL, STORED.getvalue().replace(b"hello hello", b"hello jello")),
    "zip: encrypted": (WHEEL, ENCRYPTED),
    "tar: no archive": (SDIST, b"no archive at all"),
    "tar: nothing": (SDIST, b""),
    "tar: no tar inside": (SDIST, gzip.compress(b"no tar" * 1000)),
    "tar: gzip cut off": (SDIST, PACKED[:-20]),
    "tar: gzip cut off in its checksum": (SDIST, PACKED[:-4]),
    "tar: wrong checksum": (SDIST, PACKED[:-8] + bytes(4) + PACKED[-4:]),
    "tar: a member cut off": (SDIST, gzip.compress(GOOD[: GOOD.index(b"more.txt") + 514])),
    # Each announces a next one, which is read inside the reading of the one before.
    "tar: a chain of headers": (SDIST, gzip.compress(tar_info("x", tarfile.XHDTYPE).tobuf() * 1000 + GOOD)),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_archives_are_rejected(tmp_path: Path, case: str) -> None:
    kind, content = DAMAGED[case]
    (tmp_path / kind).write_bytes(content)
    check_nothing_is_written(tmp_path / kind, "more.txt", match=rf"{kind}: damaged or encrypted.*fetch it again")


def test_unpack_takes_neither_modes_nor_owners(tmp_path: Path) -> None:
    info = tar_info("tool", size=1)
    info.mode, info.uid, info.gid = 0o6777, 12345, 12345
    (path,) = take(make(tmp_path / SDIST, [(info, b"x")]), "tool")
    (tmp_path / "plain").write_bytes(b"")
    plain, came = (tmp_path / "plain").stat(), path.stat()
    assert (came.st_mode, came.st_uid, came.st_gid) == (plain.st_mode, plain.st_uid, plain.st_gid)


@BOTH
def test_links_that_wait_in_the_destination_are_not_followed(tmp_path: Path, kind: str) -> None:
    archive = make(tmp_path / kind, [("d/a.txt", b"a")])
    (tmp_path / "out").mkdir()
    (tmp_path / "away").mkdir()
    (tmp_path / "out" / "d").symlink_to(tmp_path / "away")
    with pytest.raises(ValueError, match="a link leads out"):
        take(archive, "d/a.txt")
    assert list((tmp_path / "away").iterdir()) == []
