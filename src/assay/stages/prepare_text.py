"""prepare_text: texts cleaned and checked, near-duplicates grouped, roles given by group.

    python -m assay.stages.prepare_text

Output: data/text/rows/{train,val,calib,test}.parquet (sample_id, text, label int64, group), augmented.parquet (the same
columns: changed copies of train's texts, where they are asked for), unlabelled.parquet (sample_id, text), classes.json and
rejected.csv (row, text, reason, detail); metrics/text_data.json.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from assay.core.io import write_csv, write_json, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.data.roles import assign_roles, check_disjoint
from assay.data.tables import problems_of, read_frame, read_source, text_cells, told
from assay.params.text import Text
from assay.text.augmentation import augmented_rows
from assay.text.cleaning import check_rows, unlabelled_rows
from assay.text.near_duplicates import near_duplicate_groups

SOURCE = Path("data/text/source/table.parquet")
OUTPUT = Path("data/text/rows")
METRICS = Path("metrics/text_data.json")
PERCENTILES = (5, 50, 90, 99)


def check_classes(labels: pd.Series, declared: list[str] | None, *, rejected: str) -> list[str]:
    """The classes in order: as declared, or by name.

    Raises:
        ValueError: fewer than two, or a declared one that no row has; with what is ``rejected``.
    """
    sizes = {str(name): size for name, size in labels.value_counts().sort_index().items()}
    if missing := sorted(set(declared or []) - set(sizes)):
        raise ValueError(f"prepare_text.classes: no row has the label(s) {missing}; rows by label: {sizes}; {rejected}")
    if len(sizes) < 2:
        raise ValueError(f"a classifier needs two classes; rows by label: {sizes}; {rejected}")
    return declared or list(sizes)


def check_sizes(rows: pd.DataFrame, classes: list[str], *, roles: list[str], rejected: str) -> None:
    """Raise a ValueError that names the classes, with their sizes, of which some role would get no text."""
    named = rows["label"].map(dict(enumerate(classes)))
    table = rows.groupby(named)["group"].agg(["size", "nunique"])
    small = [
        f"{name!r} has {size} text(s) in {groups} group(s) of near-duplicates"
        for name, size, groups in table.itertuples()
        if groups < len(roles)
    ]
    if small:
        raise ValueError(
            f"class {', '.join(small)}; it needs {len(roles)} groups, one for each of the roles {', '.join(roles)}: add "
            f"texts, or leave the class out by naming the others in prepare_text.classes; {rejected}"
        )


def role_metrics(role: str, rows: pd.DataFrame, num_classes: int) -> dict[str, float]:
    """Size, class shares and lengths in characters of one role."""
    lengths = rows["text"].str.len()
    shares = np.bincount(rows["label"], minlength=num_classes) / len(rows)
    metrics = {"n": len(rows), "n_groups": rows["group"].nunique(), "chars.max": lengths.max()}
    metrics |= {f"chars.p{p}": np.percentile(lengths, p) for p in PERCENTILES}
    metrics |= {f"share_{number}": share for number, share in enumerate(shares)}
    return {f"{role}.{name}": float(value) for name, value in metrics.items()}


def write_further(train: pd.DataFrame, params: Text, *, taken: list[str]) -> None:
    """Changed copies of train's texts, and unlabelled texts that are none of the ``taken`` ones, where asked for."""
    settings, limits = params.prepare_text, params.limits
    copies = augmented_rows(train, settings.augment, seed=params.runtime.data_seed)
    write_parquet(OUTPUT / "augmented.parquet", copies)
    found, left_out = pd.DataFrame({"sample_id": [], "text": []}, dtype=object), 0
    if settings.unlabelled is not None:
        field = "prepare_text.unlabelled"
        given = read_source(Path(settings.unlabelled), field=field, columns=("text",), max_bytes=limits.table_bytes)
        table = text_cells(given, max_characters=limits.text_characters)
        form, problems = settings.unicode_form, problems_of(table)
        found, left_out = unlabelled_rows(table, unicode_form=form, problems=problems, taken=taken)
    write_parquet(OUTPUT / "unlabelled.parquet", found)
    print(f"{len(copies)} changed copies of train's texts; {len(found)} unlabelled texts, {left_out} left out")


def main() -> None:
    params = load(Text)
    settings, seed = params.prepare_text, params.runtime.data_seed
    shares = settings.roles.model_dump()
    with timed("prepare_text"):
        table = read_frame(SOURCE, max_bytes=sys.maxsize)
        rows, rejected = check_rows(
            table, problems=problems_of(table), unicode_form=settings.unicode_form, classes=settings.classes
        )
        # Before anything can stop the stage: who has to mend the table needs it most then.
        write_csv(OUTPUT / "rejected.csv", rejected)
        reasons = f"rejected: {told(rejected)}; all are in {OUTPUT / 'rejected.csv'}"
        if rows.empty:
            raise ValueError(f"none of {len(table)} rows can be used; {reasons}")
        classes = check_classes(rows["label"], settings.classes, rejected=reasons)
        rows["label"] = rows["label"].map({name: number for number, name in enumerate(classes)}).astype("int64")
        rows["group"] = near_duplicate_groups(list(rows["text"]), **settings.near_duplicates.model_dump())
        check_sizes(rows, classes, roles=list(shares), rejected=reasons)
        table = pd.DataFrame({"group_id": rows["group"], "label": rows["label"], "dataset": "text"})
        roles = rows["group"].map(assign_roles(table, shares=shares, seed=seed))
        check_disjoint(roles, rows["group"])
        metrics = {"rejected": float(len(rejected)), "near_duplicates": float(len(rows) - rows["group"].nunique())}
        for role in shares:
            part = rows[roles == role]
            if part["label"].nunique() < len(classes):
                raise ValueError(
                    f"role {role} lacks a class: {len(rows)} texts are too few for these shares; {reasons}"
                )
            metrics |= role_metrics(role, part, len(classes))
            write_parquet(OUTPUT / f"{role}.parquet", part)
        write_further(rows[roles == "train"], params, taken=list(rows["text"]))
        write_json(OUTPUT / "classes.json", classes)
        write_json(METRICS, metrics)
    print(", ".join(f"{role} {metrics[f'{role}.n']:.0f}" for role in shares), "texts of", classes)
    print(f"{len(rejected)} rejected: {told(rejected)}")
    alike = pd.Series(classes).groupby(pd.Series(classes).str.casefold()).agg(list)
    for names in alike[alike.map(len) > 1]:
        print(f"WARNING the classes {names} differ only in case; if they are one, write them alike")
    print(f"{metrics['near_duplicates']:.0f} texts are near-duplicates of another and share its role")


if __name__ == "__main__":
    run(main)
