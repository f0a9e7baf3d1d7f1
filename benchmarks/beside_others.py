"""What other programs cost prepare, train_stage1 and predict, with and without the setting of OpenMP's threads.

    python benchmarks/beside_others.py
    python benchmarks/beside_others.py --threads 1 --repeats 5 --only predict

Each program runs as a user starts it, in a scratch folder, on a part of the embedded data: ``prepare`` on the crops of some
photographs, ``train_stage1`` for an epoch, ``assay predict`` on crops of the test role. Beside it run two processes that
hash (``--busy``), each in two threads (``--threads``), which take what the scheduler gives them. The setting is the
one in ``assay/__init__.py``; without it GNU OpenMP has its own default (GOMP_SPINCOUNT=300000, some 3 ms).

Printed for each: seconds alone and beside the others (medians of runs in turn), their ratio, and processor seconds: what
spinning threads burn. ``fair`` is the ratio that the scheduler's even shares give a program whose threads are always
at work: (its threads + theirs) / cores. No setting of a waiting thread can go below it for such a program; one that has
a single thread most of the time (prepare) comes out lower. ``others`` is what processes outside of this benchmark took,
in cores: near 0 on a quiet machine, where alone the figures mean something.

It needs a finished ``dvc repro evaluate_cascade`` (exit status 2 otherwise). A run is ended after ``--limit`` seconds; its
ratio is then a lower bound, marked >; where the program did not end alone either, the ratio says nothing, marked ?.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil

ROOT = Path(__file__).parent.parent
NEEDED = [Path("data/forged/manifest.csv"), Path("data/processed/pixels"), Path("models/cascade/cascade.json")]
WITHOUT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "300000"}
OWN_THREADS = 2  # runtime.threads of params.yaml
BUSY = """
import hashlib, sys, threading
def work():
    block = bytes(2**20)
    while True:
        hashlib.sha256(block).digest()  # lets go of the interpreter's lock
for _ in range(int(sys.argv[1])):
    threading.Thread(target=work, daemon=True).start()
sys.stdin.read()
"""


@dataclass(frozen=True)
class Measured:
    """One run: wall and processor seconds, cores that strangers took meanwhile, and whether it came to its end."""

    wall_s: float
    cpu_s: float
    others: float
    ended: bool


def scratch(folder: Path, *, pictures: int) -> dict[str, list[str]]:
    """A workspace with a part of the data; the commands to time in it."""
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (folder / "data").mkdir()
    for name in ("data/weights", "models"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "data/own/sources").mkdir(parents=True)
    (folder / "data/forged").mkdir()
    manifest = pd.read_csv(ROOT / "data/forged/manifest.csv", dtype=str)
    # Whole photographs, a few crops of each: every role and fold gets some.
    few = manifest.groupby("group", sort=True).head(max(1, pictures // manifest["group"].nunique()))
    few.to_csv(folder / "data/forged/manifest.csv", index=False)
    for path in few["path"]:
        (folder / "data/forged" / path).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / "data/forged" / path, folder / "data/forged" / path)
    small = folder / "small"
    small.mkdir()
    (small / "pixels").symlink_to(ROOT / "data/processed/pixels")
    for role, count in (("train", pictures), ("val", pictures // 8)):
        frame = pd.read_csv(ROOT / f"data/processed/{role}_manifest.csv", dtype=str)
        frame.sample(min(count, len(frame)), random_state=0).to_csv(small / f"{role}_manifest.csv", index=False)
    crops = folder / "crops"
    crops.mkdir()
    test = pd.read_csv(ROOT / "data/processed/test_manifest.csv", dtype=str)
    for path in test["image_path"].head(pictures):
        (crops / Path(path).name).symlink_to(ROOT / path)
    python = [sys.executable, "-m"]
    stage = ["assay.stages.train_stage1", "--data_dir", "small", "--output_dir", "trained", "--epochs", "1"]
    return {
        "prepare": [*python, "assay.stages.prepare"],
        "train_stage1": [*python, *stage],
        "predict": [*python, "assay.cli", "predict", "crops", "--output", "predicted.csv"],
    }


@contextmanager
def busy_processes(count: int, *, threads: int) -> Iterator[list[psutil.Process]]:
    """Processes that keep ``threads`` cores busy each, as far as they get them."""
    command = [sys.executable, "-c", BUSY, str(threads)]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(count)]
    try:
        yield [psutil.Process(process.pid) for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def machine_seconds() -> float:
    """Seconds that all cores together were at work."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


def run_once(
    command: list[str], *, cwd: Path, setting: dict[str, str], busy: int, threads: int, limit: float
) -> Measured:
    """Run a program to its end, or to the limit, beside busy processes."""
    environment = {name: value for name, value in os.environ.items() if name not in WITHOUT} | setting
    environment |= {"PYTHONPATH": str(ROOT / "src"), "TQDM_DISABLE": "1"}
    with busy_processes(busy, threads=threads) as rivals:
        time.sleep(0.5 if busy else 0.0)
        theirs, all_of_it, own = cpu_seconds(rivals), machine_seconds(), sum(os.times()[2:4])
        start = time.perf_counter()
        with (cwd / "log").open("w") as log:
            process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=log, stderr=log)
            try:
                status, ended = process.wait(limit), True
            except subprocess.TimeoutExpired:
                process.terminate()
                status, ended = process.wait(), False
        wall_s, cpu_s = time.perf_counter() - start, sum(os.times()[2:4]) - own
        strangers = machine_seconds() - all_of_it - (cpu_seconds(rivals) - theirs) - cpu_s
    if ended and status:
        raise RuntimeError(f"{' '.join(command)} failed:\n{(cwd / 'log').read_text()[-2000:]}")
    return Measured(wall_s, cpu_s, max(0.0, strangers / wall_s), ended)


def report(name: str, setting: str, alone: list[Measured], beside: list[Measured]) -> float:
    """One line of the table; the ratio."""
    first, second = (statistics.median(run.wall_s for run in runs) for runs in (alone, beside))
    cpu = [statistics.median(run.cpu_s for run in runs) for runs in (alone, beside)]
    others = statistics.fmean(run.others for run in alone + beside)
    mark = "" if all(run.ended for run in beside) else ">"
    mark = mark if all(run.ended for run in alone) else "?"
    print(
        f"{name:14}{setting:9}{first:8.1f}{second:9.1f}{mark + format(second / first, '.2f'):>9}"
        f"{cpu[0]:11.1f}{cpu[1]:9.1f}{others:9.2f}",
        flush=True,
    )
    return second / first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=2, help="processes beside the program (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each of them (%(default)s)")
    parser.add_argument("--pictures", type=int, default=320, help="that each program works on (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind, in turn (%(default)s)")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds after which a run is ended (%(default)s)")
    parser.add_argument("--only", nargs="+", help="of prepare, train_stage1, predict")
    flags = parser.parse_args()
    if missing := [str(path) for path in NEEDED if not (ROOT / path).exists()]:
        print(f"not there: {', '.join(missing)}; run dvc repro evaluate_cascade", file=sys.stderr)
        sys.exit(2)
    cores = len(os.sched_getaffinity(0))
    fair = max(1.0, (OWN_THREADS + flags.busy * flags.threads) / cores)
    with tempfile.TemporaryDirectory() as folder:
        commands = scratch(Path(folder), pictures=flags.pictures)
        print(f"{cores} cores; beside {flags.busy} processes of {flags.threads} thread(s); fair {fair:.2f}")
        print(
            f"{'':23}{'alone s':>8}{'beside s':>9}{'ratio':>9}{'cpu alone':>11}{'beside':>9}{'others':>9}", flush=True
        )
        for name in flags.only or commands:
            found: dict[tuple[str, int], list[Measured]] = {}
            for _ in range(flags.repeats):
                for busy in (0, flags.busy):
                    for label, setting in (("with", {}), ("without", WITHOUT)):
                        run = run_once(
                            commands[name],
                            cwd=Path(folder),
                            setting=setting,
                            busy=busy,
                            threads=flags.threads,
                            limit=flags.limit,
                        )
                        found.setdefault((label, busy), []).append(run)
            for label in ("with", "without"):
                report(name, label, found[label, 0], found[label, flags.busy])


if __name__ == "__main__":
    main()
