"""Before hours of training: what can't work with the data, whatever the later parameters are; ``prepare`` stops on it.

What single stages need depends on their parameters, on which ``prepare`` must not depend: `assay.preflight.images`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from assay.core.params import read_yaml
from assay.data.findings import Finding, need, roles_by_class
from assay.data.roles import CLASSES, ROLES
from assay.images.split import near_duplicates, role_advice
from assay.params.images import Prepare

PIPELINE = Path("dvc.yaml")


def pipeline_folds(path: Path = PIPELINE) -> int | None:
    """How many folds the pipeline names (its stages ``kfold_fold_<k>``); None where there is no such file."""
    if not path.is_file():
        return None
    return sum(name.startswith("kfold_fold_") for name in read_yaml(path).get("stages") or {})


def check_prepared(frame: pd.DataFrame, *, settings: Prepare, num_kfold_stages: int | None = None) -> list[Finding]:
    """Both classes, in enough groups for every role and every fold.

    Args:
        frame: columns split, role (as declared, or missing), label, group_id; a row per image. With those that
            `group_and_split` adds, near-duplicates that cost groups are named.
        settings: of the section ``prepare``.
        num_kfold_stages: folds that dvc.yaml names; None: not known.
    """
    found, folds = [], settings.folds
    needed, short = folds + len(ROLES) - 1, []
    for label, name in enumerate(CLASSES):
        part = frame[frame["label"] == label]
        groups = part["group_id"].nunique()
        if groups >= needed:
            continue
        short.append(label)
        if groups == 0:
            text = f"no {name} image (label {label}) is left of {len(frame)}: a classifier needs both classes"
        else:
            text = f"{groups} group(s) hold {name} images ({len(part)} of {len(frame)} images are {name}), but five "
            text += (
                f"roles with {folds} folds in train need at least {needed} groups: add {name} images from other sources"
            )
            joined = near_duplicates(frame) if "cluster" in frame else ""
            text += f". {joined}" if joined else ""
        found.append(need(f"class {name}", text, error=True))
    # What a class lacks in all it lacks in its roles too.
    advice = partial(role_advice, frame, donor=settings.borrow_from)
    found += roles_by_class(frame, ROLES, dict(enumerate(CLASSES)), advice=advice, skip=short)
    train = frame[frame["split"] == "train"]
    for label, name in enumerate(CLASSES):
        groups = train.loc[train["label"] == label, "group_id"].nunique()
        text = f"{groups} groups of {name} for {folds} folds"
        few = groups < folds and label not in short
        if few:
            text += f": at least {folds} are needed. Add groups, or raise roles.train"
        found.append(need(f"folds, {name}", text, error=few, warning=groups < 2 * folds))
    if num_kfold_stages is not None and num_kfold_stages != folds:
        text = f"prepare.folds is {folds}, but dvc.yaml has {num_kfold_stages} stages kfold_fold_<k>: set it to "
        text += f"{num_kfold_stages}, or change both lists of folds in dvc.yaml (train_expert, kfold_fold)"
        found.append(need("folds, dvc.yaml", text, error=True))
    return found


def check_fold_table(folds: pd.DataFrame) -> list[Finding]:
    """Rows and groups of each fold and class; columns fold, label, group_id."""
    found = []
    for number, part in folds.groupby("fold"):
        groups = part.groupby("label")["group_id"].nunique()
        least = int(min(groups.get(label, 0) for label in range(len(CLASSES))))
        counted = [f"{groups.get(label, 0)} groups of {name}" for label, name in enumerate(CLASSES)]
        text = f"{len(part)} rows, {', '.join(counted)}"
        if least == 0:
            text += ": one class only. Add groups, or set prepare.folds lower"
        elif least == 1:
            text += ": what is measured on it rests on one group of a class"
        found.append(need(f"fold {number}", text, error=least == 0, warning=least == 1))
    return found
