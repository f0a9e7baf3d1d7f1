"""What every stage of the images line behind ``prepare`` needs of the data, with its parameters, and whether it is there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from assay.data.findings import FEW_GROUPS, Finding, need
from assay.data.roles import CLASSES
from assay.images.preflight import check_fold_table
from assay.images.sources import GENERATED
from assay.metrics.bounds import SceneLeaks, scenes_to_certify
from assay.params.stacking import Stacking

# LightGBM's own min_data_in_leaf, which no parameter changes, and that of the bake-off's model on logits.
LEAF_ROWS, LOGITS_LEAF_ROWS = 20, 40
# Fewer updates than this hardly move a network from its start.
FEW_STEPS = 50


def rows_outside_folds(folds: pd.DataFrame) -> int:
    """Rows of the smallest training set that leaves a fold out."""
    return int(len(folds) - folds["fold"].value_counts().max())


def check_networks(train: pd.DataFrame, val: pd.DataFrame, folds: pd.DataFrame, params: Stacking) -> list[Finding]:
    """Batches, updates and input of stage 1 and the experts, and whether val can choose an epoch."""
    networks = {"train_stage1": (params.train_stage1, len(train))}
    for name in type(params.train_expert).model_fields:
        networks[f"train_expert.{name}"] = (params.expert(name), rows_outside_folds(folds))
    found = []
    for name, (settings, rows) in networks.items():
        steps = math.ceil(rows / settings.batch_size) * settings.epochs
        text = f"{rows} rows in batches of {settings.batch_size}, {steps} updates in {settings.epochs} epoch(s)"
        if settings.batch_size > rows:
            text += f": a batch is all rows. Set {name}.batch_size to {max(2, rows // 8)} or less"
        elif steps < FEW_STEPS:
            text += f": few. Lower {name}.batch_size, or raise {name}.epochs"
        found.append(need(f"{name}, batches", text, warning=settings.batch_size > rows or steps < FEW_STEPS))
        if settings.input == "srm":
            text = f"noise residuals at {settings.image_size} pixels of {params.prepare.size} stored"
            resized = settings.image_size != params.prepare.size
            text += f": a resize takes them away. Set {name}.image_size to prepare.size" if resized else ""
            found.append(need(f"{name}, input", text, warning=resized))
    if params.train_stage1.selection == "best":
        least = int(min(val.loc[val["label"] == label, "group_id"].nunique() for label in range(len(CLASSES))))
        text = f"the best of {params.train_stage1.epochs} epochs is chosen on {least} groups of a class"
        if least < FEW_GROUPS:
            text += ": by chance, mostly. train_stage1.selection: last chooses nothing"
        found.append(need("train_stage1, epoch", text, warning=least < FEW_GROUPS))
    return found


def check_anchors(calib: pd.DataFrame, params: Stacking) -> Finding:
    """Groups of calib, on whose rows the folds' embeddings are aligned, against the dimensions of an embedding."""
    dim, groups = params.expert("maxvit").embedding_dim, int(calib["group_id"].nunique())
    text = f"{len(calib)} rows in {groups} groups of calib for {dim} dimensions"
    aligned = params.build_meta.alignment == "procrustes"
    if aligned and groups <= dim:
        text += ": aligned in as many directions as carry over to held-out groups"
    few = aligned and groups < FEW_GROUPS
    if few:
        text += ", which so few can hardly tell. Raise roles.calib, or set build_meta.alignment to none"
    return need("build_meta, anchors", text, warning=few)


def check_meta(folds: pd.DataFrame, params: Stacking) -> list[Finding]:
    """Rows of X_meta against LightGBM's leaves, the search's largest tree and the number of columns."""
    search, rows = params.train_meta.search, rows_outside_folds(folds)
    settings = search.grid if search.method == "grid" else search.ranges.model_dump()
    drawn = int(rows * min(settings.get("subsample", [1.0])))
    text = f"{drawn} of {rows} rows at the smallest subsample; a split takes {2 * LEAF_ROWS}"
    if drawn < 2 * LEAF_ROWS:
        text += ": LightGBM gives one value to all. train_meta.ship: mean_logit needs no rows, or raise roles.train"
    found = [need("train_meta, rows", text, warning=drawn < 2 * LEAF_ROWS)]
    text = f"LightGBM on logits has leaves of {LOGITS_LEAF_ROWS} rows, {rows} rows fit it"
    found.append(need("train_meta, logits", text, warning=rows < 2 * LOGITS_LEAF_ROWS))
    leaves = int(max(settings.get("num_leaves", [31])))
    text = f"up to {leaves} leaves of {LEAF_ROWS} rows"
    if leaves * LEAF_ROWS > rows:
        text += f": {rows} rows fill {rows // LEAF_ROWS}; larger values in train_meta.search change nothing"
    found.append(need("train_meta, num_leaves", text, warning=leaves * LEAF_ROWS > rows))
    columns = 2 * (params.expert("maxvit").embedding_dim + 1)
    text = f"{columns} columns for {rows} rows"
    if columns > rows:
        text += (
            ": more than rows. Lower embedding_dim of both experts, or ship without embeddings (mean_logit, logistic)"
        )
    found.append(need("train_meta, columns", text, warning=columns > rows))
    return found


def check_budgets(tune: pd.DataFrame, params: Stacking) -> list[Finding]:
    """What the tune role can certify of both budgets of leakage."""
    settings, found = params.evaluate_cascade, []
    for label, name in enumerate(CLASSES):
        budget = settings.budget_forged if label else settings.budget_real
        sizes = tune.loc[tune["label"] == label, "group_id"].value_counts()
        assumed = settings.assumed_correlation
        bound = (
            SceneLeaks(np.zeros(len(sizes), dtype=np.int64), np.asarray(sizes)).upper(correlation=assumed)
            if len(sizes)
            else 1.0
        )
        rows = int(np.median(sizes)) if len(sizes) else 1
        wanted = scenes_to_certify(budget, rows=rows, correlation=assumed)
        text = f"no leak in {len(sizes)} {name} scenes of tune certifies <= {bound:.1%}; {budget:.1%} takes {wanted}"
        if assumed is not None:
            text += f", if their images correlate by at most {assumed:g}"
        if bound > budget:
            text += ": 'certified' is out of reach"
            text += (
                f". Raise roles.tune or evaluate_cascade.budget_{name}"
                if settings.certify
                else ", it will be 'observed'"
            )
        found.append(need(f"cascade, {name}", text, warning=settings.certify and bound > budget))
    return found


def check_evaluation(test: pd.DataFrame, params: Stacking, *, root: Path = Path()) -> list[Finding]:
    """The robustness grid's images, and whether the external sets are there."""
    wanted = params.evaluate.robustness.max_samples
    text = f"{min(wanted, len(test))} of {len(test)} test rows"
    few = len(test) < min(wanted, 100)
    found = [need("evaluate.robustness", text + (": few for a grid of degradations" if few else ""), warning=few)]
    for number, external in enumerate(params.evaluate.external):
        # What the stage forge cuts is there when it is needed.
        there = Path(external.path) == GENERATED or (root / external.path).exists()
        text = (
            external.path
            if there
            else f"nothing at {external.path}: mend evaluate.external[{number}].path, or remove it"
        )
        found.append(need(f"external {external.name}", text, error=not there))
    return found


def check_later(
    parts: Mapping[str, pd.DataFrame], folds: pd.DataFrame, params: Stacking, *, root: Path = Path()
) -> list[Finding]:
    """What every stage behind ``prepare`` needs, with its parameters.

    Args:
        parts: role -> rows with label and group_id.
        folds: columns fold, label, group_id, of the train role.
        root: the project.
    """
    found = check_fold_table(folds)
    found += check_networks(parts["train"], parts["val"], folds, params)
    found.append(check_anchors(parts["calib"], params))
    found += check_meta(folds, params)
    found += check_budgets(parts["tune"], params)
    return found + check_evaluation(parts["test"], params, root=root)


def assumed_folds(train: pd.DataFrame, *, folds: int) -> pd.DataFrame:
    """A fold table for rows that have none yet: groups dealt out in turn, as many as there are of each class."""
    numbers = train.groupby("label")["group_id"].transform(lambda groups: pd.factorize(groups)[0])
    return train.assign(fold=np.asarray(numbers, dtype=np.int64) % folds)
