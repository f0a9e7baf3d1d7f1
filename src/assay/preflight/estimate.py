"""Time, memory and disk of the whole pipeline on this machine, from trials of its trainings."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil

from assay.core.params import read_yaml
from assay.core.timings import read_timing
from assay.data.findings import Finding, need
from assay.images.stacking import EXPERTS, REFIT
from assay.params.stacking import Stacking
from assay.preflight.trials import Measured, Trial

MIB, GIB = 2**20, 2**30
# Seconds of a row in a forward pass, of those in training: measured on the embedded networks.
FORWARD = 1 / 6
# Python and its packages; what a scoring stage takes beside its forward passes.
START_S = 5.0
# Of what a training's checkpoint holds, in sizes of its weights: them, the best so far, and AdamW's two averages.
CHECKPOINT = 4
# DVC keeps a copy of each output unless cache.type links.
COPIES = 2


@dataclass(frozen=True)
class Cost:
    """What a stage will take; ``kind``: how it is known (trial, forward, last run). 0 bytes: not known, or little."""

    stage: str
    seconds: float
    cpu_seconds: float
    kind: str
    peak_bytes: int = 0
    disk_bytes: int = 0


def training_costs(trial: Trial, found: Measured) -> list[Cost]:
    """Every training that a trial stands for."""
    return [
        Cost(
            stage, found.seconds(rows), found.cpu_seconds(rows), "trial", found.peak_bytes, COPIES * found.output_bytes
        )
        for stage, rows in trial.stages.items()
    ]


def scoring_costs(
    sizes: Mapping[str, int], held: Mapping[int, int], params: Stacking, networks: Mapping[str, Measured]
) -> list[Cost]:
    """Forward passes of the images line, and the tables of embeddings that they leave.

    Args:
        sizes: role -> rows.
        held: fold -> rows.
        params: of the images line.
        networks: ``train_stage1`` and experts -> what their trials took.
    """
    grid, calib = params.evaluate.robustness, sizes["calib"]
    judged = sum(sizes[role] for role in ("calib", "tune", "test"))
    degraded = min(grid.max_samples, sizes["test"]) * len(grid.jpeg_quality) * len(grid.resize) * len(grid.blur_sigma)
    row_bytes = 4 * len(EXPERTS) * (params.expert(EXPERTS[0]).embedding_dim + 1)
    # The refit alone, at its own size and at others (about as dear); and in the ensemble one network of each expert for
    # every fold or, if forced, for all.
    passes = 1 + len(params.score_cascade.sizes)
    passes += 1 if params.train_meta.test_time_mode == REFIT else len(held)
    # Stage -> networks, rows of each, and rows of the table that it leaves.
    work: dict[str, tuple[Sequence[str], int, int]] = {
        # Both filters on test.
        "score_stage1": (("train_stage1",), judged + sizes["val"] + degraded + sizes["test"], 0)
    }
    work |= {f"kfold_fold_{fold}": (EXPERTS, rows + calib, rows + calib) for fold, rows in held.items()}
    work |= {"build_meta": (EXPERTS, calib, sizes["train"]), "score_cascade": (EXPERTS, passes * judged, 0)}
    found = []
    for stage, (names, rows, kept) in work.items():
        seconds = START_S + FORWARD * rows * sum(networks[name].row_s for name in names)
        cpu_seconds = START_S + FORWARD * rows * sum(networks[name].row_cpu_s for name in names)
        peak = max(networks[name].peak_bytes for name in names)
        found.append(Cost(stage, seconds, cpu_seconds, "forward", peak, COPIES * kept * row_bytes))
    return found


def last_runs(root: Path, known: Sequence[Cost]) -> tuple[list[Cost], list[str]]:
    """Stages without an estimate, as they last ran on this machine; and those that never did."""
    names = [cost.stage for cost in known]
    seen, never = [], []
    for name in stage_names(root):
        path = root / "timings" / f"{name}.json"
        if name in names or name == "code":
            continue
        if path.is_file():
            record = read_timing(path)
            seen.append(Cost(name, record["wall_s"], record["cpu_s"], "last run", int(record["peak_bytes"])))
        else:
            never.append(name)
    return seen, never


def stage_names(root: Path) -> list[str]:
    """Names of the stages of dvc.yaml, those of foreach and matrix by their first word."""
    path = root / "dvc.yaml"
    stages = (read_yaml(path).get("stages") or {}) if path.is_file() else {}
    return [name for name, body in stages.items() if not {"foreach", "matrix"} & set(body)]


def free_memory() -> int:
    """Bytes that a new process can have, without those that a container may not use."""
    available = int(psutil.virtual_memory().available)
    limit = Path("/sys/fs/cgroup/memory.max")
    used = Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (text := limit.read_text().strip()).isdigit():
        return min(available, int(text) - int(used.read_text()))
    return available


def shortages(costs: Sequence[Cost], *, memory: int, disk: int, jobs: int = 1) -> list[Finding]:
    """What the machine has too little of: bytes of memory and of disk that are free, against what is needed."""
    if not costs:
        return []
    peaks = sorted((cost.peak_bytes for cost in costs), reverse=True)
    largest = max(costs, key=lambda cost: cost.peak_bytes)
    text = f"{largest.peak_bytes / GIB:.1f} GiB for {largest.stage}, {memory / GIB:.1f} GiB are free"
    short = largest.peak_bytes > memory
    found = [need("memory", text + (f": lower the batch_size of {largest.stage}" if short else ""), error=short)]
    if jobs > 1:
        together = sum(peaks[:jobs])
        text = f"{together / GIB:.1f} GiB for {jobs} stages at a time"
        found.append(need("memory, side by side", text, warning=together > memory))
    trained = [cost.disk_bytes for cost in costs if cost.kind == "trial"]
    # A checkpoint is removed when its training ends.
    wanted = sum(cost.disk_bytes for cost in costs) + CHECKPOINT * max(trained, default=0) // COPIES
    text = f"{wanted / GIB:.2f} GiB for outputs, DVC's copies of them and a checkpoint, {disk / GIB:.1f} GiB are free"
    short = wanted > disk
    text += ": make room, or dvc config cache.type reflink,hardlink,symlink (no copies)" if short else ""
    return [*found, need("disk", text, error=short)]


def cost_table(costs: Sequence[Cost]) -> str:
    """A line for each stage, groups of equal first words (train_expert@...) together, and the sum."""
    frame = pd.DataFrame([vars(cost) for cost in costs])
    frame["group"] = frame["stage"].str.replace(r"-(full|fold_\d+)$", "", regex=True)
    frame["group"] = frame["group"].str.replace(r"^(kfold_fold)_\d+$", r"\1", regex=True)
    columns = ("minutes", "CPU min", "peak MiB", "disk MiB")
    lines = [f"{'stage':36} {'times':>5} " + " ".join(f"{name:>9}" for name in columns) + "  from"]
    for name, part in [*frame.groupby("group", sort=False), ("all, one after the other", frame)]:
        times = " ".join(f"{part[column].sum() / 60:9.1f}" for column in ("seconds", "cpu_seconds"))
        sizes = f"{part['peak_bytes'].max() / MIB:9.0f} {part['disk_bytes'].sum() / MIB:9.0f}"
        kinds = "" if part is frame else part["kind"].iloc[0]
        lines.append(f"{name:36} {len(part):5} {times} {sizes}  {kinds}".rstrip())
    return "\n".join(lines)


def machine(root: Path) -> tuple[int, int]:
    """Free bytes of memory, and of the disk under ``root``."""
    return free_memory(), shutil.disk_usage(root.resolve()).free
