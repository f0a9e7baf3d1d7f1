"""``prepare`` on many small pictures: seconds, pictures a second, memory, and the ratio to a plain pass of Pillow.

    python benchmarks/prepare_scale.py [--pictures 100000] [--side 72] [--workers 2]

Makes JPEG pictures of two classes in a temporary folder, runs the stage ``prepare`` on them in a process of its own, and
then the peer: each file opened, decoded and resized once by Pillow, in as many processes, into one array on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

import numpy as np
from PIL import Image

from assay.core.io import read_json
from assay.core.params import read_yaml

ROOT = Path(__file__).resolve().parent.parent
CHUNK = 500


def make_pictures(start: int, *, folder: Path, side: int, count: int) -> None:
    """A chunk of pictures from a coarse random pattern each, no two alike; every second one is of the forged class."""
    for number in range(start, min(start + CHUNK, count)):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        picture = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float64)
        noisy = np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)
        path = folder / ("real", "forged")[number % 2] / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(path, quality=90)


def pillow_pass(paths: list[str], *, side: int) -> np.ndarray:
    """Pictures uint8 [n, side, side, 3], as a plain script reads them."""
    rows = []
    for path in paths:
        with Image.open(path) as image:
            rows.append(np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)))
    return np.stack(rows)


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(used.ru_utime + used.ru_stime for used in map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN)))


def run_pillow(folder: Path, output: Path, *, side: int, workers: int) -> tuple[float, float]:
    """Seconds of the peer, by the clock and of CPUs."""
    start, cpu = time.perf_counter(), cpu_seconds()
    paths = sorted(str(path) for path in folder.rglob("*.jpg"))
    chunks = [paths[first : first + CHUNK] for first in range(0, len(paths), CHUNK)]
    pixels = np.lib.format.open_memmap(output, mode="w+", dtype=np.uint8, shape=(len(paths), side, side, 3))
    with ProcessPoolExecutor(workers) as pool:
        for number, part in enumerate(pool.map(partial(pillow_pass, side=side), chunks)):
            pixels[number * CHUNK : number * CHUNK + len(part)] = part
    pixels.flush()
    return time.perf_counter() - start, cpu_seconds() - cpu


def run_prepare(work: Path, *, workers: int) -> dict[str, float]:
    """Timings of the stage on the pictures of ``work``."""
    content = read_yaml(ROOT / "params.yaml")
    content["runtime"]["workers"] = workers
    content["prepare"]["sources"] = [{"dataset": "many", "kind": "folders", "path": "pictures"}]
    (work / "params.yaml").write_text(json.dumps(content), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "assay.stages.prepare"]
    subprocess.run(command, cwd=work, env=environment, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, float] = read_json(work / "timings" / "prepare.json")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--side", type=int, default=72, help="of a picture in pixels (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prepare-scale-") as name:
        work = Path(name)
        make = partial(make_pictures, folder=work / "pictures", side=options.side, count=options.pictures)
        with ProcessPoolExecutor(options.workers) as pool:
            list(pool.map(make, range(0, options.pictures, CHUNK)))
        side = read_yaml(ROOT / "params.yaml")["prepare"]["size"]
        took = run_prepare(work, workers=options.workers)
        peer = run_pillow(work / "pictures", work / "peer.npy", side=side, workers=options.workers)
    print(f"{options.pictures} pictures of {options.side} px to {side} px, {options.workers} processes")
    print(f"load of the last minute {os.getloadavg()[0]:.1f}, {os.cpu_count()} CPUs\n")
    print(f"{'':18} {'seconds':>9} {'pictures/s':>11} {'ratio':>7} {'CPU s':>9} {'ratio':>7}")
    for title, (clock, cpu) in (("assay, prepare", (took["wall_s"], took["cpu_s"])), ("Pillow, one pass", peer)):
        rate = options.pictures / clock
        print(f"{title:18} {clock:9.1f} {rate:11.0f} {clock / peer[0]:7.2f} {cpu:9.1f} {cpu / peer[1]:7.2f}")
    print(f"\npeak memory of the largest process of prepare {took['peak_bytes'] / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
