"""What the prepared data of each line lack for the stages behind them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from assay.core.io import read_json
from assay.data.findings import Finding, need, roles_by_class, shares_advice
from assay.data.roles import CLASSES, ROLES
from assay.images.listing import Listing, rejected_in_words
from assay.images.manifest import read_manifest
from assay.images.preflight import check_prepared, pipeline_folds
from assay.images.sources import FORGED, list_sources
from assay.images.split import group_and_split
from assay.params.counts import Counts, Staged
from assay.params.stacking import Stacking
from assay.params.text import Text, TrainText
from assay.params.vlm import Vlm
from assay.preflight.images import assumed_folds, check_later

PROCESSED = Path("data/processed")
COUNTS, TEXT, VLM = Path("data/counts/rows"), Path("data/text/rows"), Path("data/vlm/rows")
# Rows of train that a class or a bin needs before a network can learn more of it than its name.
FEW_ROWS = 20


class NotPrepared(ValueError):
    """The data of a line are not there yet; the message names the stage that makes them."""


def counted_images(params: Stacking, root: Path) -> tuple[Listing, pd.DataFrame]:
    """The sources as they are listed, and their rows with the roles that they would get.

    No image is decoded, no near-duplicate looked for.

    Raises:
        NotPrepared: forge has not run.
        ValueError: what ``prepare`` would stop on: a source that is not there, can't be read or lacks a class.
    """
    if any(source.kind == "forge" for source in params.prepare.sources) and not (root / FORGED).exists():
        raise NotPrepared(f"no {root / FORGED}: run dvc repro forge")
    listing = list_sources(params.prepare, root=root, max_bytes=params.limits.table_bytes)
    if listing.problem is not None:
        raise ValueError(f"{listing.problem}\n{rejected_in_words(listing.rejected)}")
    prints = [None] * len(listing.rows)
    settings = params.prepare
    return listing, group_and_split(
        listing.rows, prints, settings=settings, roles=params.roles, seed=params.runtime.data_seed
    )


def check_images(params: Stacking, root: Path) -> list[Finding]:
    """The images line: of data/processed, or of the sources as they are listed.

    Raises:
        NotPrepared: neither is there, since forge has not run.
    """
    found, table = [], root / PROCESSED / "folds.csv"
    if table.is_file():
        frame = pd.concat([read_manifest(root / PROCESSED, role) for role in ROLES], ignore_index=True)
        frame["role"], folds = None, pd.read_csv(table, dtype={"sample_id": str, "group_id": str})
    else:
        try:
            listing, frame = counted_images(params, root)
        except NotPrepared:
            raise
        except ValueError as error:
            return [need("prepare", str(error), error=True)]
        folds = assumed_folds(frame[frame["split"] == "train"], folds=params.prepare.folds)
        text = "counted from names: nothing is decoded, near-duplicates are not joined. dvc repro prepare says more"
        found.append(need("prepare", text, warning=True))
        found.append(need("prepare, files", rejected_in_words(listing.rejected), warning=len(listing.rejected) > 0))
    found += check_prepared(frame, settings=params.prepare, num_kfold_stages=pipeline_folds(root / "dvc.yaml"))
    # Where a class is missing there is nothing to count.
    if frame["label"].nunique() == len(CLASSES) and len(folds):
        parts = {role: frame[frame["split"] == role] for role in ROLES}
        found += check_later(parts, folds, params, root=root)
    return found


def check_text(params: Text, root: Path) -> list[Finding]:
    """The text line, of data/text/rows.

    Raises:
        NotPrepared: prepare_text has not run.
    """
    frame = read_roles(root / TEXT, list(params.prepare_text.roles.model_dump()), stage="prepare_text")
    classes = dict(enumerate(read_json(root / TEXT / "classes.json")))
    found = roles_by_class(
        frame,
        list(params.prepare_text.roles.model_dump()),
        classes,
        advice=partial(shares_advice, field="prepare_text.roles"),
    )
    train = frame[frame["split"] == "train"]
    least, name = min((int((train["label"] == label).sum()), name) for label, name in classes.items())
    few = least < FEW_ROWS
    text = f"{least} rows of {name} in train"
    text += f": few. Add rows, or leave {name} out of prepare_text.classes" if few else ""
    found.append(need("rows of a class", text, warning=few))
    return [
        *found,
        *(updates(f"train_text.{name}", len(train), params.network(name)) for name in TrainText.model_fields),
    ]


def check_counts(params: Counts, root: Path) -> list[Finding]:
    """The counts line, of data/counts/rows: groups by role, and bins against the counts that differ.

    Raises:
        NotPrepared: prepare_counts has not run.
    """
    roles, settings = list(params.prepare_counts.roles.model_dump()), params.prepare_counts
    frame = read_roles(root / COUNTS, roles, stage="prepare_counts")
    found = roles_by_class(
        frame.assign(label=0), roles, {0: "question"}, advice=partial(shares_advice, field="prepare_counts.roles")
    )
    counts = frame.loc[frame["split"] == "train", "counts"]
    for name in ("equal_width_bins", "quantile_bins"):
        bins, distinct = getattr(settings, name), counts.nunique()
        smallest = len(counts) / bins
        text = f"{bins} bins for {distinct} different counts in {len(counts)} rows of train"
        few = bins > distinct or smallest < FEW_ROWS
        if few:
            text += f": lower prepare_counts.{name} to {max(2, min(distinct, len(counts) // FEW_ROWS))}"
        found.append(need(f"counts, {name}", text, error=distinct < 2, warning=few))
    for name in type(params.train_counts).model_fields:
        found.append(updates(f"train_counts.{name}", len(counts), params.variant(name)))
    return found


def check_vlm(params: Vlm, root: Path) -> list[Finding]:
    """The vlm line, of data/vlm/rows: images and scenes of every class in every role.

    Raises:
        NotPrepared: prepare_vlm has not run.
    """
    from assay.vlm.messages import read_messages
    from assay.vlm.prompts import risk_prompt

    roles, parts = list(params.prepare_vlm.roles.model_dump()), []
    for role in roles:
        path = root / VLM / f"{role}.jsonl"
        if not path.is_file():
            raise NotPrepared(f"no {path}: run dvc repro prepare_vlm")
        records = [record for record in read_messages(path) if record["transform"] == "none"]
        parts += [(role, record["label"], record["group"]) for record in records]
    frame = pd.DataFrame(parts, columns=["split", "label", "group_id"])
    prompt = risk_prompt(params.prepare_vlm)
    classes = dict(zip(prompt.labels, prompt.names, strict=True))
    found = roles_by_class(frame, roles, classes, advice=partial(shares_advice, field="prepare_vlm.roles"))
    count = int((frame["split"] == "train").sum()) * (1 + params.prepare_vlm.augment.copies)
    return [
        *found,
        updates("vlm_sft", count, params.vlm_sft),
        updates("vlm_sft_high_risk", count, params.vlm_sft_high_risk),
    ]


def read_roles(folder: Path, roles: list[str], *, stage: str) -> pd.DataFrame:
    """The tables of all roles as one, with the columns split and, where there is one, group_id.

    Raises:
        NotPrepared: a table is missing.
    """
    parts = []
    for role in roles:
        path = folder / f"{role}.parquet"
        if not path.is_file():
            raise NotPrepared(f"no {path}: run dvc repro {stage}")
        parts.append(pd.read_parquet(path).assign(split=role))
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(group_id=frame["group"])


def updates(name: str, rows: int, settings: object) -> Finding:
    """How often a training moves its weights."""
    size = settings.batch_size * getattr(settings, "gradient_accumulation", 1)  # type: ignore[attr-defined]
    epochs = settings.epochs + (settings.head_epochs if isinstance(settings, Staged) else 0)  # type: ignore[attr-defined]
    steps = math.ceil(rows * epochs / size)
    text = f"{rows} rows, {steps} updates of {size} rows"
    few = steps < 10
    return need(f"{name}, batches", text + (f": few. Raise {name}.epochs" if few else ""), warning=few)


LINES: dict[str, tuple[type[BaseModel], Callable[[Any, Path], list[Finding]]]] = {
    "images": (Stacking, check_images),
    "counts": (Counts, check_counts),
    "text": (Text, check_text),
    "vlm": (Vlm, check_vlm),
}
