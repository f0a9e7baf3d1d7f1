"""SHA256SUMS: what sha256sum reads, and every way in which a folder can be another one."""

import shutil
import subprocess
from pathlib import Path

import pytest

from assay.shipped.sums import SUMS, check_sums, files_of, write_sums

PATTERNS = ["top.json", "one/*", "two/*"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "top.json",
        "one/a.bin",
        "one/b.bin",
        "two/ä name.bin",
        "two/.gitignore",
        "two/deep/c.bin",
        "other.bin",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    write_sums(tmp_path, PATTERNS)
    return tmp_path


def test_sha256sum_reads_it_and_agrees(folder):
    assert list(files_of(folder, PATTERNS)) == ["top.json", "one/a.bin", "one/b.bin", "two/ä name.bin"]
    done = subprocess.run(["sha256sum", "--check", SUMS], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.count(": OK") == 4
    (folder / "one/a.bin").write_bytes(b"other")
    assert subprocess.run(["sha256sum", "--check", SUMS], cwd=folder, capture_output=True).returncode == 1


def test_a_whole_folder_passes_and_is_written_alike_again(folder):
    check_sums(folder, PATTERNS)
    before = (folder / SUMS).read_bytes()
    write_sums(folder, PATTERNS)
    assert (folder / SUMS).read_bytes() == before
    # What is not asked for is not looked at.
    (folder / "two/ä name.bin").write_bytes(b"other")
    check_sums(folder, ["one/*"])


def test_files_that_dvc_links_into_its_cache_pass(folder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    for name in ("a", "b"):
        place = folder / "one" / f"{name}.bin"
        shutil.move(place, cache / name)
        place.hardlink_to(cache / name)
    check_sums(folder, PATTERNS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "one/a.bin").write_bytes(b"x"),
            "one/a.bin is not the file that .* damaged or was changed",
        ),
        (lambda folder: (folder / "one/a.bin").unlink(), "no .*one/a.bin, which .*SHA256SUMS lists"),
        (lambda folder: (folder / "one/new.bin").write_bytes(b"x"), "one/new.bin is not listed in .*a file was added"),
        (
            lambda folder: (folder / SUMS).unlink(),
            "no .*SHA256SUMS, so that nothing says whether these models are whole",
        ),
        (lambda folder: (folder / SUMS).write_bytes(b"\xff"), "SHA256SUMS: not UTF-8"),
        (lambda folder: (folder / SUMS).write_bytes(bytes(2**20 + 1)), "SHA256SUMS: larger than"),
        (
            lambda folder: (folder / SUMS).write_text("0" * 64 + "  " + "n" * 5000),
            "line 1 is no SHA-256 and name: .{64,90}$",
        ),
        (
            lambda folder: (folder / SUMS).write_text("0" * 64 + "  ../x\n" + "1" * 64 + "  /etc/x\n"),
            "one/a.bin is not listed",
        ),
    ],
)
def test_another_folder_is_refused_and_the_file_named(folder, change, message):
    change(folder)
    with pytest.raises(ValueError, match=message):
        check_sums(folder, PATTERNS)


def test_a_link_out_of_the_folder_and_a_pipe_are_refused(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "a.bin"
    shutil.move(folder / "one/a.bin", outside)
    (folder / "one/a.bin").symlink_to(outside)
    with pytest.raises(ValueError, match="a link leads out of"):
        check_sums(folder, PATTERNS)
    (folder / "one/a.bin").unlink()
    subprocess.run(["mkfifo", folder / "one/a.bin"], check=True)
    with pytest.raises(ValueError, match=r"no .*one/a.bin, which"):
        check_sums(folder, PATTERNS)


def test_a_pattern_without_a_file_is_not_written(folder):
    with pytest.raises(ValueError, match=r"no file matches three/.*"):
        write_sums(folder, [*PATTERNS, "three/*"])
