"""prepare_counts: rows checked and split by question, bins fitted on train.

    python -m assay.stages.prepare_counts

Output: data/counts/rows/{train,val,calib,test}.parquet (sample_id, text, setting, counts, group), rejected.csv
(row, text, reason, detail) and bins.json; metrics/counts_data.json; plots/prepare_counts/distribution.png.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import AutoTokenizer

from assay.core.io import write_csv, write_json, write_parquet
from assay.core.params import load
from assay.core.pretrained import load_pretrained
from assay.core.stage import run, timed
from assay.counts.bins import Bins, equal_width_bins, quantile_bins
from assay.counts.table import ROLES, check_rows, limit_rows, split_groups
from assay.data.tables import problems_of, read_frame, told
from assay.params.counts import Counts
from assay.report.counts_plots import save_distribution_png

SOURCE = Path("data/counts/table.parquet")
ENCODER = Path("data/counts/encoder")
OUTPUT = Path("data/counts/rows")
METRICS = Path("metrics/counts_data.json")
PLOT = Path("plots/prepare_counts/distribution.png")
PERCENTILES = (5, 50, 90, 99)


def token_lengths(texts: pd.Series) -> dict[str, float]:
    """Percentiles and maximum of the texts' lengths in tokens of the encoder, special tokens included."""
    tokenizer = load_pretrained(AutoTokenizer, ENCODER)
    lengths = [len(ids) for ids in tokenizer(list(texts), verbose=False)["input_ids"]]
    metrics = {f"tokens.p{p}": float(np.percentile(lengths, p)) for p in PERCENTILES}
    return metrics | {"tokens.max": float(max(lengths))}


def role_metrics(role: str, rows: pd.DataFrame, bins: dict[str, Bins]) -> dict[str, float]:
    """What is worth knowing of one role's counts."""
    counts = rows["counts"].to_numpy()
    metrics = {"n": len(rows), "n_groups": rows["group"].nunique(), "mean": counts.mean(), "variance": counts.var()}
    metrics |= {f"p{p}": np.percentile(counts, p) for p in PERCENTILES} | {"max": counts.max(), "min": counts.min()}
    metrics["clipped"] = bins["quantile"].num_outside(counts)
    return {f"{role}.{name}": float(value) for name, value in metrics.items()}


def main() -> None:
    params = load(Counts)
    settings, seed = params.prepare_counts, params.runtime.data_seed
    with timed("prepare_counts"):
        table = read_frame(SOURCE, max_bytes=sys.maxsize)
        rows, rejected = check_rows(table, problems=problems_of(table), max_count=settings.max_count)
        # Before anything can stop the stage: who has to mend the table needs it most then.
        write_csv(OUTPUT / "rejected.csv", rejected)
        reasons = f"rejected: {told(rejected)}; all are in {OUTPUT / 'rejected.csv'}"
        if rows.empty:
            raise ValueError(f"none of {len(table)} rows can be used; {reasons}")
        limits = settings.max_rows_per_group.model_dump()
        try:
            roles = split_groups(rows["group"], settings.roles.model_dump(), seed=seed)
            parts = {role: limit_rows(rows[roles == role], limits[role], seed=seed) for role in ROLES}
            train = parts["train"]["counts"]
            bins = {
                "equal_width": equal_width_bins(train, num_bins=settings.equal_width_bins),
                "quantile": quantile_bins(train, num_bins=settings.quantile_bins, ties=settings.ties),
            }
        except ValueError as error:
            raise ValueError(f"{error}; {reasons}") from None
        metrics = {"rejected": float(len(rejected))} | token_lengths(rows["text"])
        for role, part in parts.items():
            metrics |= role_metrics(role, part, bins)
            write_parquet(OUTPUT / f"{role}.parquet", part)
        write_json(OUTPUT / "bins.json", {kind: item.to_json() for kind, item in bins.items()})
        write_json(METRICS, metrics)
        save_distribution_png(
            PLOT,
            {role: part["counts"].to_numpy() for role, part in parts.items()},
            {kind.replace("_", " "): item.edges for kind, item in bins.items()},
            title="Counts by role",
        )
    sizes = ", ".join(f"{role} {len(part)} rows of {part['group'].nunique()} questions" for role, part in parts.items())
    print(f"{sizes}; {len(rejected)} rejected: {told(rejected)}")
    for kind, item in bins.items():
        shares = " ".join(f"{share:.3f}" for share in item.shares)
        print(f"{kind}: edges {' '.join(f'{edge:g}' for edge in item.edges)}; share of train {shares}")
        if item.note:
            print(f"{kind}: NOTE {item.note}")
    print(f"{metrics['test.clipped']:.0f} counts of test lie outside the range of train and fall into the outer bins")


if __name__ == "__main__":
    run(main)
