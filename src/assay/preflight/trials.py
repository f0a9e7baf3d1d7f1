"""A few steps of each training, run as the stages themselves run it, in a folder of their own.

A trial runs its stage twice on the prepared data, over few rows and over more, and fast rows in larger numbers yet. The
difference gives seconds a row; what is left is start-up, and all that does not grow with the epochs. Nothing of the
project is written.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.core.io import read_json
from assay.core.params import PARAMS_FILE

# Batches of the two runs of a trial.
FEW, MANY = 4, 12
# CPU seconds between the two runs from which on their difference is more than noise.
CLEAR_S = 4.0
Content = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One training that is tried.

    Attributes:
        stage: as DVC names it.
        command: arguments of ``python -m``.
        rows: row visits of a whole training (rows times epochs).
        batch: rows of one update.
        links: what the stage reads, relative to the project; a trial waits for it to be there.
        cut: (values of params.yaml, scratch folder, row visits) -> changes the values and writes shorter inputs.
        stands_for: stages that cost the same a row, with their row visits; the trial's own among them.
        first: arguments of ``python -m`` of a stage that runs before, once.
        output: folder that the stage writes, relative to the project.
    """

    stage: str
    command: tuple[str, ...]
    rows: float
    batch: int
    links: tuple[str, ...]
    cut: Callable[[Content, Path, int], None]
    output: str
    stands_for: Mapping[str, float] = field(default_factory=dict)
    first: tuple[str, ...] = ()

    @property
    def stages(self) -> Mapping[str, float]:
        """Stage -> row visits of all that this trial tells about."""
        return self.stands_for or {self.stage: self.rows}


@dataclass(frozen=True)
class Measured:
    """What a trial took: seconds a row and besides, by the clock and of CPUs; peak memory, and bytes of the output.

    Beside other programs the clock runs on while a stage waits; CPU seconds hardly change.
    """

    row_s: float
    fixed_s: float
    row_cpu_s: float
    fixed_cpu_s: float
    peak_bytes: int
    output_bytes: int

    def seconds(self, rows: float) -> float:
        """Of a training over so many row visits, by the clock."""
        return self.fixed_s + self.row_s * rows

    def cpu_seconds(self, rows: float) -> float:
        """CPU seconds of a training over so many row visits."""
        return self.fixed_cpu_s + self.row_cpu_s * rows


class TrialFailed(ValueError):
    """A training that can't do its first steps; the message holds its last words."""


def link(root: Path, scratch: Path, names: tuple[str, ...]) -> None:
    """Give the scratch folder what the stage reads, by links."""
    for name in names:
        target = scratch / name
        if not target.is_symlink() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to((root / name).resolve())


def missing(trial: Trial, root: Path, scratch: Path) -> list[str]:
    """Inputs that are neither in the project nor made by an earlier trial."""
    return [name for name in trial.links if not (root / name).exists() and not (scratch / name).exists()]


def run_stage(command: tuple[str, ...], scratch: Path, stage: str) -> dict[str, float]:
    """Run a stage in the scratch folder; its timings.

    Raises:
        TrialFailed: it ended with an error.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "ASSAY_"))}
    call = [sys.executable, "-m", f"assay.stages.{command[0]}", *command[1:]]
    done = subprocess.run(call, cwd=scratch, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TrialFailed(last_words(done, name=command[0]))
    record: dict[str, float] = read_json(scratch / "timings" / f"{stage}.json")
    return record


def last_words(done: subprocess.CompletedProcess[str], *, name: str) -> str:
    """Why a stage ended: its own message in one line, or the signal that ended it."""
    if done.returncode < 0:
        return f"ended by signal {-done.returncode} (9 is the system's, where memory runs out)"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip() and "ASSAY_TRACEBACK" not in line]
    starts = [number for number, line in enumerate(lines) if line.startswith(f"{name}: ")]
    return " ".join(lines[starts[-1] :] if starts else lines[-1:]) or f"ended with status {done.returncode}"


def folder_bytes(folder: Path) -> int:
    """Size of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_params(content: Content, trial: Trial, scratch: Path, rows: int) -> None:
    """Parameters and inputs of a run over so many row visits."""
    values = json.loads(json.dumps(content))
    trial.cut(values, scratch, rows)
    # JSON is YAML 1.2.
    (scratch / PARAMS_FILE).write_text(json.dumps(values), encoding="utf-8")


def measure(trial: Trial, content: Content, root: Path, scratch: Path) -> Measured:
    """Try a training.

    Args:
        content: values of params.yaml.
        root: the project.
        scratch: folder of the trials of this line.

    Raises:
        TrialFailed: the stage ended with an error.
    """
    link(root, scratch, tuple(name for name in trial.links if (root / name).exists()))
    most = max(1, int(trial.rows))
    many = min(MANY * trial.batch, most)
    few = max(1, many * FEW // MANY)

    def run(rows: int) -> dict[str, float]:
        write_params(content, trial, scratch, rows)
        return run_stage(trial.command, scratch, trial.stage)

    write_params(content, trial, scratch, few)
    if trial.first:
        run_stage(trial.first, scratch, "@".join([trial.first[0], *trial.first[2:3]]))
    records = [run(few), run(many)]
    # Start-up differs by a second from run to run: fast rows take more of them to be told from it.
    while records[1]["cpu_s"] - records[0]["cpu_s"] < CLEAR_S and many < most:
        many = min(4 * many, most)
        records[1] = run(many)
    lines = [straight_line([record[key] for record in records], rows=(few, many)) for key in ("wall_s", "cpu_s")]
    peak = int(max(record["peak_bytes"] for record in records))
    return Measured(*lines[0], *lines[1], peak, folder_bytes(scratch / trial.output))


def straight_line(seconds: list[float], *, rows: tuple[int, int]) -> tuple[float, float]:
    """(seconds a row, seconds besides) of two runs over so many rows."""
    slope = max(0.0, seconds[1] - seconds[0]) / max(1, rows[1] - rows[0])
    return slope, max(0.0, seconds[0] - slope * rows[0])
