"""The ten fold trainings: one after the other by ``dvc repro``, side by side by ``assay repro -j 2``; and are they the same?

    python benchmarks/parallel_repro.py [--jobs 2] [--stages train_expert@maxvit-fold_0 ...]

Works in a copy of the workspace (a clone of the working tree with data and models linked from DVC's cache) and forces every
stage in both ways. Prints both wall times, their ratio, and whether dvc.lock is byte-identical.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDS = [f"train_expert@{expert}-fold_{fold}" for expert in ("efficientnetv2_b3", "maxvit") for fold in range(5)]


def run(*words: str, cwd: Path) -> float:
    """Seconds that a command of this environment took; it must end well."""
    source = os.pathsep.join([str(cwd / "src"), str(cwd / "tools")])
    environment = {**os.environ, "PYTHONPATH": source, "DVC_NO_ANALYTICS": "1"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", *words], cwd=cwd, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def copy_of_workspace(folder: Path) -> Path:
    """What git tracks, with the cache of this workspace and what the fold trainings read checked out of it."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    copy = folder / "copy"
    for name in filter(None, names.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
    run("dvc", "config", "--local", "cache.dir", str(ROOT / ".dvc" / "cache"), cwd=copy)
    run("dvc", "checkout", "--quiet", "--with-deps", *FOLDS, cwd=copy)
    return copy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="stages at a time (%(default)s)")
    parser.add_argument("--stages", nargs="+", default=FOLDS, help="what is timed (the ten fold trainings)")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_workspace(Path(folder))
        lock = copy / "dvc.lock"
        print(f"{len(flags.stages)} stages, {len(os.sched_getaffinity(0))} cores", flush=True)
        one_by_one = run("dvc", "repro", "--quiet", "--single-item", "--force", *flags.stages, cwd=copy)
        before = lock.read_bytes()
        print(f"one after the other, dvc repro   {one_by_one:7.1f} s", flush=True)
        shutil.rmtree(copy / ".assay", ignore_errors=True)
        side_by_side = run(
            "assay.cli", "repro", "--force", "--single-item", "-j", str(flags.jobs), *flags.stages, cwd=copy
        )
        print(
            f"side by side, assay repro -j {flags.jobs}   {side_by_side:7.1f} s   ratio {one_by_one / side_by_side:.2f}"
        )
        print(f"dvc.lock byte-identical: {'yes' if lock.read_bytes() == before else 'NO'}")
        if lock.read_bytes() != before:
            sys.exit(1)


if __name__ == "__main__":
    main()
