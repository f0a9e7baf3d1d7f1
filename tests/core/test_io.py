"""Writers leave whole files or nothing, the same data give the same bytes, and hostile names stay inside."""

import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assay.core.io import (
    atomic_path,
    inside,
    read_json,
    read_npy,
    sha256_bytes,
    sha256_file,
    write_csv,
    write_json,
    write_npy,
    write_parquet,
)


def test_atomic_path_replaces_on_success_and_keeps_the_suffix(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model.txt"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("a")
        assert not target.exists()
    assert target.read_text() == "a"
    assert list(target.parent.iterdir()) == [target]


def test_atomic_path_leaves_the_old_file_when_the_block_raises(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write_half(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
        write_half(temporary)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_path_replaces_a_link_and_spares_what_it_leads_to(tmp_path: Path) -> None:
    shared, target = tmp_path / "shared", tmp_path / "link"
    shared.write_text("cached")
    target.symlink_to(shared)
    with atomic_path(target) as temporary:
        temporary.write_text("new")
    assert shared.read_text() == "cached"
    assert not target.is_symlink()


@pytest.mark.skipif(os.name == "nt", reason="modes are Unix")
def test_written_files_have_ordinary_modes(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_json(tmp_path / "a.json", {})
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a.json")]
    assert modes[0] == modes[1]


def test_json_text_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "m" / "a.json"
    write_json(path, {"b": np.float64(0.1), "a": [np.int64(3), np.bool_(True), None, (1.5, "评")], "c": {"d": -0.0}})
    expected = (
        '{\n  "a": [\n    3,\n    true,\n    null,\n    [\n      1.5,\n      "评"\n    ]\n  ],\n'
        '  "b": 0.1,\n  "c": {\n    "d": -0.0\n  }\n}\n'
    )
    assert path.read_bytes() == expected.encode()
    assert read_json(path) == {"a": [3, True, None, [1.5, "评"]], "b": 0.1, "c": {"d": 0.0}}


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ({"images": {"auc": [0.5, float("nan")]}}, r"images\.auc\[1\]: got nan"),
        ({"a": np.float32("inf")}, "a: got inf"),
        (float("-inf"), "top level: got -inf"),
        ({"a": {1: 2}}, "a: key 1 is not text"),
        ({"a": np.zeros(2)}, "a: got a ndarray"),
        ({"a": Path("x")}, "a: got a"),
    ],
)
def test_json_refuses_what_it_cannot_hold(tmp_path: Path, obj: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_json(tmp_path / "a.json", obj)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"{", b'{"a": NaN}', b"[Infinity]", b"\xff"])
def test_read_json_names_the_bad_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"bad\.json"):
        read_json(tmp_path / "bad.json")


def test_sha256_of_known_bytes(tmp_path: Path) -> None:
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, "abc"
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_bytes(b"abc") == sha256_file(tmp_path / "a") == known


@pytest.fixture
def frame() -> pd.DataFrame:
    columns = {"sample_id": ["a", "b,c"], "label": np.array([0, 1], np.int8), "probs": [0.1, 1 / 3]}
    return pd.DataFrame(columns, index=[7, 9])


def test_csv_has_no_index_and_plain_line_ends(tmp_path: Path, frame: pd.DataFrame) -> None:
    write_csv(tmp_path / "a.csv", frame)
    assert (tmp_path / "a.csv").read_bytes() == b'sample_id,label,probs\na,0,0.1\n"b,c",1,0.3333333333333333\n'


def test_a_csv_keeps_every_end_of_line_in_a_field(tmp_path: Path) -> None:
    frame = pd.DataFrame({"name": ["a\rb", "a\nb", "a\r\nb", 'q"', ""], "number": [1, 2, 3, 4, 5]})
    write_csv(tmp_path / "a.csv", frame)
    back = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    assert back["name"].tolist() == frame["name"].tolist()
    assert back["number"].tolist() == frame["number"].tolist()


def test_parquet_keeps_types_and_bytes(tmp_path: Path, frame: pd.DataFrame) -> None:
    write_parquet(tmp_path / "a.parquet", frame)
    write_parquet(tmp_path / "b.parquet", frame.copy())
    assert sha256_file(tmp_path / "a.parquet") == sha256_file(tmp_path / "b.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), frame.reset_index(drop=True))


@pytest.mark.parametrize("mmap", [False, True])
def test_npy_round_trip(tmp_path: Path, mmap: bool) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_npy(tmp_path / "a.npy", array)
    write_npy(tmp_path / "b.npy", np.asfortranarray(array))
    back = read_npy(tmp_path / "a.npy", mmap=mmap)
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype
    assert isinstance(back, np.memmap) is mmap
    assert sha256_file(tmp_path / "a.npy") == sha256_file(tmp_path / "b.npy")


def test_npy_refuses_objects_both_ways(tmp_path: Path) -> None:
    objects = np.array([{}], dtype=object)
    with pytest.raises(ValueError, match=r"a\.npy: dtype object"):
        write_npy(tmp_path / "a.npy", objects)
    np.save(tmp_path / "b.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "c.npz", a=np.zeros(2))
    for name in ("b.npy", "c.npz"):
        for mmap in (False, True):
            with pytest.raises(ValueError, match=name):
                read_npy(tmp_path / name, mmap=mmap)


def test_inside_takes_plain_relative_names(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/b.jpg") == tmp_path / "a" / "b.jpg"
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert inside(tmp_path, "link/b.jpg") == tmp_path / "link" / "b.jpg"


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/etc/passwd", "../x", "a/../b", "a\0b", "C:\\x", "C:x", "\\\\host\\x", "a\\..\\b", "\\x"],
)
def test_inside_refuses_names_that_lead_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name "):
        inside(tmp_path, name)


def test_inside_refuses_links_out_and_loops(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to("loop")
    for name in ("out", "out/x", "loop/x"):
        with pytest.raises(ValueError, match="link"):
            inside(root, name)
