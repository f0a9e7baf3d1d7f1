"""What the cascade saves in milliseconds a picture, beside what it saves in counted operations.

    python benchmarks/cascade_speed.py
    python benchmarks/cascade_speed.py --pictures 512 --repeats 9 --threads 4

Measured on pictures of the test role and the seen families (drawn at random, the same for all), in one process, at
batch 1 and 32, one system after the other in turn; medians over the turns:

- stage 1 alone;
- the ensemble on every picture, in both test-time modes: refit (one network per expert) and fold_average (those of
  every fold), whichever of them was shipped;
- the cascade of stage 1 and either, at the exits in models/cascade/cascade.json, where that ships a cascade which begins
  with stage 1; where one network won (the benchmark says so), so that a quarter of the pictures is deferred.

Pictures come from the pixel store, so decoding is not measured. Beside the ratio of ensemble to cascade stands the same
ratio in multiply-accumulates, of the shipped mode, at the share of these pictures that is deferred (``speedup`` in
metrics/cascade.json is another one: against one refit network). A network is seldom as fast as its
operations promise, and a batch of which a third is deferred becomes a small batch: hence the two batch sizes. Not
measured: accuracy, decoding, a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from assay.core.io import read_json
from assay.core.torch_setup import set_up_torch
from assay.images.cascade.ensemble import load_ensemble
from assay.images.cascade.model import Cascade, Level, load
from assay.images.cascade.networks import load_network
from assay.images.cascade.pairs import exits_by_share
from assay.images.manifest import read_manifest
from assay.images.model.store import open_store
from assay.images.slices import family_slices
from assay.images.stacking import FOLD_AVERAGE, REFIT

SEED = 7
NEEDED = {
    "models/cascade/cascade.json": "dvc repro evaluate_cascade",
    "data/cascade/costs.json": "dvc repro score_cascade",
    "data/processed/pixels/pixels.npy": "dvc repro prepare",
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=96, help="of the test role (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="turns that count (%(default)s)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32], help="batch sizes (1 32)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (%(default)s)")
    return parser.parse_args()


def role_pictures(count: int) -> np.ndarray:
    """uint8 [n, S, S, 3]: pictures of the test role and the seen families, those of metrics/cascade.json, shuffled."""
    data = Path("data/processed")
    store, manifest = open_store(data), read_manifest(data, "test")
    seen = set(read_manifest(data, "train")["generator"])
    mask = family_slices(manifest["label"].to_numpy(), manifest["generator"].to_numpy(), seen=seen)["test"]
    rows = store.rows_of(list(manifest.loc[mask, "sample_id"]))
    return store.pixels[np.random.default_rng(SEED).permutation(rows)[:count]]


def cascades_of(pixels: np.ndarray) -> dict[str, Cascade]:
    """Test-time mode -> the cascade of stage 1 and the ensemble in this mode."""
    shipped, models = load("models"), Path("models")
    first = Level("stage1", load_network(models, "stage1", device="cpu"), 1.0)
    low, high = shipped.exit_real, shipped.exit_forged
    if low is None or high is None or shipped.levels[0].name != "stage1":
        print("no cascade ships that begins with stage 1: exits that defer a quarter of the pictures")
        found = exits_by_share(alone(first)(pixels), 0.25)
        low, high = found["exit_real"], found["exit_forged"]
    else:
        first = shipped.levels[0]
    return {
        mode: replace(
            shipped,
            levels=(first, Level("ensemble", load_ensemble(models, device="cpu", mode=mode), 1.0)),
            exit_real=low,
            exit_forged=high,
        )
        for mode in (REFIT, FOLD_AVERAGE)
    }


def alone(level: Level) -> Callable[[np.ndarray], np.ndarray]:
    """Probabilities of a level that judges every image."""
    return lambda pixels: level.probs(level.logits(torch.from_numpy(pixels).permute(0, 3, 1, 2)))


def systems(cascades: dict[str, Cascade]) -> dict[str, Callable[[np.ndarray], object]]:
    """Name -> what judges a batch uint8 [n, S, S, 3]."""

    def always(cascade: Cascade) -> Callable[[np.ndarray], object]:
        # What stage 1 says changes the answer and not the time that the experts take.
        return lambda pixels: cascade.levels[1].logits(
            torch.from_numpy(pixels).permute(0, 3, 1, 2), np.zeros(len(pixels))
        )

    found: dict[str, Callable[[np.ndarray], object]] = {"stage 1": alone(next(iter(cascades.values())).levels[0])}
    for mode, cascade in cascades.items():
        found |= {f"ensemble, {mode}": always(cascade), f"cascade, {mode}": cascade.decide}
    return found


def milliseconds(
    judges: dict[str, Callable[[np.ndarray], object]], pixels: np.ndarray, *, batch: int, repeats: int
) -> dict[str, list[float]]:
    """Milliseconds a picture of every system, ``repeats`` times in turn, after one turn that does not count."""
    parts = [np.ascontiguousarray(pixels[start : start + batch]) for start in range(0, len(pixels), batch)]
    found: dict[str, list[float]] = {name: [] for name in judges}
    for turn in range(repeats + 1):
        for name, judge in judges.items():
            begin = time.perf_counter()
            for part in parts:
                judge(part)
            if turn > 0:
                found[name].append(1000 * (time.perf_counter() - begin) / len(pixels))
    return found


def print_table(batch: int, found: dict[str, list[float]], modes: list[str]) -> None:
    """Median and range of each system, and the ratio of ensemble to cascade in each mode."""
    print(f"\nBatch {batch}\n{'':26}{'ms/picture':>12}{'lowest':>10}{'highest':>10}{'ensemble/cascade':>18}")
    middle = {name: statistics.median(values) for name, values in found.items()}
    for name, values in found.items():
        mode = next((mode for mode in modes if name == f"cascade, {mode}"), None)
        ratio = f"{middle[f'ensemble, {mode}'] / middle[name]:18.2f}" if mode else ""
        print(f"{name:26}{middle[name]:12.2f}{min(values):10.2f}{max(values):10.2f}{ratio}")


def main() -> int:
    options = parse_arguments()
    for path, command in NEEDED.items():
        if not Path(path).is_file():
            print(f"cascade_speed: no {path}: run {command} first", file=sys.stderr)
            return 2
    set_up_torch(threads=options.threads)
    macs = read_json("data/cascade/costs.json")["macs"]
    pixels = role_pictures(options.pictures)
    cascades = cascades_of(pixels)
    shipped_mode = read_json("models/meta/meta.json")["test_time_mode"]
    deferred = float(cascades[shipped_mode].decide(pixels).deferred.mean())
    counted = macs["ensemble"] / (macs["stage1"] + deferred * macs["ensemble"])
    print(
        f"{len(pixels)} test pictures of {pixels.shape[1]} px, {deferred:.1%} deferred, {options.threads} threads, torch "
        f"{torch.__version__}\ncounted operations: ensemble/cascade {counted:.2f} in the shipped mode, {shipped_mode}"
    )
    for batch in options.batch:
        print_table(
            batch, milliseconds(systems(cascades), pixels, batch=batch, repeats=options.repeats), list(cascades)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
