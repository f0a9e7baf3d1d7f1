"""A disk that is full in the middle of a write: one clear message, nothing half-written, and all well after space is made.

The full disk is a small tmpfs, which only root can mount; the limit on a file's size (RLIMIT_FSIZE), under which any
writer fails half way too, needs no rights.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
# conftest.py's class, which can not be imported here.
Clone = Any
FULL = "No space left on device"
PAGE = os.sysconf("SC_PAGE_SIZE")
# Every way in which Assay writes a file, each with more than the disk holds: prints what each raised and left.
WRITERS = """
import json, resource, sys
from pathlib import Path
import numpy as np, pandas as pd, torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from assay.images.model.checkpoint import TrainingState, save_state
from assay.images.model.store import open_writer
from assay.images.model.training import TrainingState
from assay.core.io import atomic_path, write_csv, write_json, write_npy, write_parquet

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
values = np.random.default_rng(0).integers(0, 256, 1_000_000, dtype=np.uint8)
frame = pd.DataFrame({"value": np.random.default_rng(0).random(200_000)})

class Accelerator:
    scaler = None
    unwrap_model = staticmethod(lambda model: model)

def text():
    with atomic_path(folder / "text.txt") as path:
        path.write_text("a" * len(values), encoding="utf-8")

def weights():
    with atomic_path(folder / "weights.safetensors") as path:
        save_file({"a": torch.from_numpy(values)}, path)

def arrays():
    with atomic_path(folder / "arrays.safetensors") as path:
        save_arrays({"a": values}, path)

def store():
    with open_writer(folder / "store", side=32, sample_ids=[str(number) for number in range(300)]) as writer:
        for part in np.split(values[: 300 * 3072].reshape(300, 32, 32, 3), 10):
            writer.append(part)

def checkpoint():
    model = torch.nn.Linear(1000, 500)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    save_state(folder, Accelerator, model, optimizer, schedule, TrainingState())

writers = {
    "json": lambda: write_json(folder / "a.json", {"a": values.tolist()}),
    "csv": lambda: write_csv(folder / "a.csv", frame),
    "parquet": lambda: write_parquet(folder / "a.parquet", frame),
    "npy": lambda: write_npy(folder / "a.npy", values),
    "text": text, "weights": weights, "arrays": arrays, "store": store, "checkpoint": checkpoint,
}
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for name, write in writers.items():
    try:
        write()
        found = None
    except Exception as error:
        found = [[kind.__name__ for kind in type(error).__mro__], str(error)]
    left = [str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()]
    print(json.dumps({"name": name, "error": found, "left": left}), flush=True)
"""
NAMES = ("json", "csv", "parquet", "npy", "text", "weights", "arrays", "store", "checkpoint")


@contextmanager
def small_disk(place: Path, *, kib: int) -> Iterator[Callable[[int], None]]:
    """A tmpfs at the folder ``place``; yields a function that gives it another size in KiB."""
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("mount") else None
    if done is None or done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip() if done else 'there is no mount'}")

    def resize(more: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={more}k", str(place)], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", str(place)], check=True)


def write_all(folder: Path, *, limit: int = 0) -> dict[str, dict[str, Any]]:
    """What each writer did in ``folder``, in a process of its own."""
    command = [sys.executable, "-c", WRITERS, str(folder), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Nor a complaint at the end about a file that can not be closed.
    assert done.stderr == ""
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module", params=["full disk", "limit of a file's size"])
def written(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], str, dict[str, dict[str, Any]]]:
    """Errors that `assay.core.stage.run` turns into one message, what each says, and what each writer did."""
    folder = tmp_path_factory.mktemp("writers") / "disk"
    if request.param == "full disk":
        with small_disk(folder, kib=300):
            return {"OSError", "SafetensorError"}, FULL, write_all(folder)
    folder.mkdir()
    return {"OSError", "RuntimeError", "SafetensorError"}, "", write_all(folder, limit=100_000)


@pytest.mark.parametrize("name", NAMES)
def test_a_writer_that_fails_half_way_leaves_nothing(written, name):
    wanted, said, rows = written
    assert tuple(rows) == NAMES
    assert rows[name]["error"], "it was written"
    kinds, message = rows[name]["error"]
    assert wanted & set(kinds)
    assert message
    assert said in message
    assert rows[name]["left"] == []


@pytest.fixture(scope="module")
def whole(finished: dict[str, Future[Clone]]) -> Clone:
    """The images line, run with all the space there is."""
    return finished["images"].result()


def cache_is_whole(clone: Clone) -> None:
    """Every file of dvc's cache has the MD5 that is its name.

    Observed with dvc 3.67: a copy that the full disk cut short stays there under a name like ``.m3_9JzD.tmp``, which
    dvc never reads.
    """
    root = clone.path / ".dvc/cache/files/md5"
    files = [path for path in root.rglob("*") if path.is_file() and not re.fullmatch(r"\..+\.tmp", path.name)]
    assert files
    for path in files:
        name = "".join(path.relative_to(root).parts).removesuffix(".dir")
        assert hashlib.md5(path.read_bytes()).hexdigest() == name, path


BEFORE = ["code", "fetch_photos", "forge", "fetch_weights", "prepare"]


@pytest.mark.parametrize("place", ["models/filters", ".assay/resume"])
def test_a_stage_on_a_full_disk_stops_with_one_message_and_ends_when_there_is_space(whole, copy_clone, tmp_path, place):
    stage = "train_stage1"
    clone = copy_clone(whole, tmp_path / "clone", stages=BEFORE)
    before = clone.lock
    with small_disk(clone.path / place, kib=100) as resize:
        done = clone.start("repro", stage)
        assert done.returncode != 0
        (line,) = [line for line in done.stdout.splitlines() if FULL in line]
        assert line.startswith(f"{stage}: ")
        assert "Traceback" not in done.stdout
        assert f"failed to reproduce '{stage}'" in done.stdout
        assert clone.lock == before
        assert not [path for path in (clone.path / place).rglob(".*") if path.is_file()], "a temporary file is left"
        resize(50_000)
        clone.dvc("repro", stage)
        assert clone.stages()[stage] == whole.stages()[stage]
        assert "up to date" in clone.dvc("status", "--with-deps", stage)
        cache_is_whole(clone)


def test_a_full_cache(whole: Clone, copy_clone: Callable[..., Clone], tmp_path: Path) -> None:
    """The stage ends well, but dvc can not copy its outputs into the cache.

    Observed with dvc 3.67: so it is with outputs that are files. Of a folder (data/processed, say) dvc prints errors, but
    writes its entry into dvc.lock and ends with status 0.
    """
    stage = "init_expert@maxvit"
    clone = copy_clone(whole, tmp_path / "clone", stages=BEFORE)
    before, cache = clone.lock, clone.path / ".dvc/cache"
    held = tmp_path / "held"
    cache.rename(held)
    # A tmpfs gives a file whole pages, and a folder none.
    used = sum(-(-path.stat().st_size // PAGE) * PAGE for path in held.rglob("*") if path.is_file())
    with small_disk(cache, kib=used // 1024 + 60) as resize:
        shutil.copytree(held, cache, dirs_exist_ok=True)
        done = clone.start("repro", stage)
        assert done.returncode != 0, done.stdout
        assert FULL in done.stdout
        assert f"failed to reproduce '{stage}'" in done.stdout
        assert clone.lock == before
        cache_is_whole(clone)
        resize(used // 1024 + 50_000)
        clone.dvc("repro", stage)
        assert clone.stages()[stage] == whole.stages()[stage]
        assert "up to date" in clone.dvc("status", "--with-deps", stage)
        cache_is_whole(clone)
        # What the cache now holds is enough to bring the outputs back.
        shutil.rmtree(clone.path / "models/experts")
        clone.check_out()
        assert "up to date" in clone.dvc("status", "--with-deps", stage)
