"""``assay check --data``: what the stages need of the data, and what the whole line will take, before hours of it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from assay.core.params import PARAMS_FILE, load, read_yaml
from assay.data.findings import Finding, findings_table, need, of_level
from assay.data.roles import ROLES
from assay.images.manifest import read_manifest
from assay.images.stacking import EXPERTS
from assay.params.stacking import Stacking
from assay.preflight.estimate import Cost, cost_table, last_runs, machine, scoring_costs, shortages, training_costs
from assay.preflight.lines import LINES, NotPrepared
from assay.preflight.trainings import counts_trials, images_rows, images_trials, text_trials, vlm_trials
from assay.preflight.trials import Measured, Trial, TrialFailed, measure, missing

TRIALS: dict[str, Callable[[Any, Path], list[Trial]]] = {
    "images": images_trials,
    "counts": counts_trials,
    "text": text_trials,
    "vlm": vlm_trials,
}
# Folder -> stage that makes what a training reads of it, beside the prepared rows.
MAKERS = {"data/weights": "fetch_weights", "data/counts": "fetch_counts", "data/text/source": "fetch_text"}
MAKERS |= {"models/text": "pretrain_text", "models/vlm": "pretrain_vlm"}


def data_findings(name: str, root: Path) -> list[Finding] | None:
    """Findings of a line; None, with a line on standard error, where its data are not prepared."""
    model, check = LINES[name]
    try:
        return check(load(model, root / PARAMS_FILE), root)
    except NotPrepared as waiting:
        print(f"{name}: {waiting}", file=sys.stderr)
        return None


def made_by(names: Sequence[str]) -> str:
    """The command that makes these inputs of trainings."""
    stages = {stage for name in names for folder, stage in MAKERS.items() if name.startswith(folder)}
    return f" (dvc repro {' '.join(sorted(stages))})" if stages else ""


def try_trainings(
    trials: Sequence[Trial], content: dict[str, Any], root: Path
) -> tuple[list[tuple[Trial, Measured]], list[Finding]]:
    """Try the trainings of a line; what each took, and those that can't do a step."""
    measured, found = [], []
    with TemporaryDirectory(prefix="assay-check-") as folder:
        for trial in trials:
            if waiting := missing(trial, root, Path(folder)):
                print(f"{trial.stage} is not tried: no {', '.join(waiting)} yet{made_by(waiting)}", file=sys.stderr)
                continue
            print(f"trying {trial.stage}", end=" ... ", file=sys.stderr, flush=True)
            try:
                measured.append((trial, measure(trial, content, root, Path(folder))))
            except TrialFailed as error:
                found.append(need(trial.stage, str(error), error=True))
                print("failed", file=sys.stderr)
                continue
            one = measured[-1][1]
            print(f"{1000 * one.row_s:.1f} ms a row ({1000 * one.row_cpu_s:.1f} of CPUs)", file=sys.stderr)
    return measured, found


def images_scoring(measured: Sequence[tuple[Trial, Measured]], params: Stacking, root: Path) -> list[Cost]:
    """Forward passes of the images line, if all its networks were tried."""
    networks = {trial.stage.removeprefix("train_expert@").removesuffix("-full"): found for trial, found in measured}
    if not {"train_stage1", *EXPERTS} <= set(networks):
        return []
    sizes = {role: len(read_manifest(root / "data/processed", role)) for role in ROLES}
    held = Counter(sorted(images_rows(root)["folds"]["fold"].tolist()))
    return scoring_costs(sizes, held, params, networks)


def estimate(names: Sequence[str], root: Path, *, jobs: int) -> list[Finding]:
    """Try every training of these lines and print the table; what fails, and what the machine has too little of."""
    content, costs, found = read_yaml(root / PARAMS_FILE), [], []
    for name in names:
        if name == "images" and not (root / "data/processed/folds.csv").is_file():
            continue
        params: Any = load(LINES[name][0], root / PARAMS_FILE)
        measured, failed = try_trainings(TRIALS[name](params, root), content, root)
        found += failed
        costs += [cost for trial, one in measured for cost in training_costs(trial, one)]
        if name == "images":
            costs += images_scoring(measured, params, root)
    if not costs:
        return found
    seen, never = last_runs(root, costs)
    print(f"\n{cost_table([*costs, *seen])}")
    if never:
        print(f"no estimate, and no run on this machine yet: {', '.join(never)}")
    memory, disk = machine(root)
    return [*found, *shortages([*costs, *seen], memory=memory, disk=disk, jobs=jobs)]


def check_data(root: Path = Path(), *, quick: bool = False, jobs: int = 1) -> int:
    """Print what the data of every line lack and, unless ``quick``, what its trainings will take; 1 if there is an error."""
    prepared, errors = [], 0
    for name in LINES:
        found = data_findings(name, root)
        if found is None:
            continue
        prepared.append(name)
        print(f"{name}\n{findings_table(found)}\n", flush=True)
        errors += len(of_level(found, "error"))
    if not prepared:
        raise ValueError("no line has data yet: run dvc repro prepare (or prepare_counts, prepare_text, prepare_vlm)")
    if not quick:
        found = estimate(prepared, root, jobs=jobs)
        print(findings_table(found))
        errors += len(of_level(found, "error"))
    print(f"{errors} error(s)" if errors else "no error")
    return 1 if errors else 0
