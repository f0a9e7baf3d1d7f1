"""score_counts: what every variant and every baseline says of val, of calib and of test.

    python -m assay.stages.score_counts

Output: data/counts/scores_val.parquet, scores_calib.parquet and scores_test.parquet: sample_id, counts, group, setting, and
each system's count, quantile bin and equal-width bin. evaluate_counts measures these and runs no network: it chooses on val,
learns intervals on calib and reports test.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from assay.core.io import read_json, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import pick_device, set_up_torch
from assay.counts.answers import answers_table
from assay.counts.bins import bins_from_json
from assay.counts.networks import embed_questions
from assay.counts.systems import baseline_answers, variant_answers
from assay.counts.table import ROLES
from assay.params.counts import VARIANTS, Counts

ROWS = Path("data/counts/rows")
ENCODER = Path("data/counts/encoder")
MODELS = Path("models/counts")
OUTPUT = Path("data/counts")
# Of val a variant's training has kept what the network says.
NEW = ("calib", "test")


def main() -> None:
    params = load(Counts)
    set_up_torch(threads=params.runtime.threads)
    with timed("score_counts"):
        rows = {role: pd.read_parquet(ROWS / f"{role}.parquet") for role in ROLES}
        bins = {kind: bins_from_json(record) for kind, record in read_json(ROWS / "bins.json").items()}
        device, texts = pick_device(params.runtime.device).type, {role: list(rows[role]["text"]) for role in NEW}
        said = {name: variant_answers(MODELS / name, texts, bins, device=device) for name in VARIANTS}
        embed = partial(embed_questions, ENCODER, device=device)
        said |= baseline_answers(rows, bins, params.evaluate_counts, embed=embed, seed=params.runtime.seed)
        for role in ("val", *NEW):
            keys = rows[role][["sample_id", "counts", "group", "setting"]].reset_index(drop=True)
            table = answers_table({name: found[role] for name, found in said.items()})
            write_parquet(OUTPUT / f"scores_{role}.parquet", pd.concat([keys, table], axis=1))
    print(f"{sum(map(len, texts.values()))} rows scored by {', '.join(said)}")


if __name__ == "__main__":
    run(main)
