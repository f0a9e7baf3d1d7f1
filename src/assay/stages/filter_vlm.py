"""filter_vlm: the augmented copies that still fit their label, as a model sees them.

    python -m assay.stages.filter_vlm

Output, in data/vlm/filtered: train.jsonl (unaugmented rows, then the copies that are kept) and consistency.parquet
(sample_id, label, transform, score, kept), a row per copy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assay.core.io import read_json, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import pick_device, set_up_torch
from assay.params.vlm import Vlm
from assay.vlm.consistency import dropped_table, fit_thresholds, is_consistent, label_scores
from assay.vlm.messages import read_messages, write_messages
from assay.vlm.network import RECORD, load_adapter, load_base
from assay.vlm.processor import load_processor
from assay.vlm.prompts import Prompt, prompt_from_json
from assay.vlm.scoring import record_log_probs

ROWS = Path("data/vlm/rows")
BASE = Path("models/vlm/pretrained/base")
OUTPUT = Path("data/vlm/filtered")
Records = list[dict[str, Any]]


def score(roles: dict[str, Records], prompt: Prompt, params: Vlm) -> dict[str, np.ndarray]:
    """Log-probabilities [n, C] of the classes by the scorer: the base weights, or an adapter on them."""
    prepared, settings, scorer = params.prepare_vlm, params.filter_vlm, Path(params.filter_vlm.scorer)
    processor = load_processor(ROWS / "processor", min_pixels=prepared.min_pixels, max_pixels=prepared.max_pixels)
    model = load_base(BASE, weights_dtype=params.vlm_sft.weights_dtype, processor=processor)
    if (scorer / RECORD).is_file():
        model = load_adapter(scorer, model)
    model = model.to(pick_device(params.runtime.device))
    options: dict[str, Any] = {"max_pixels": params.render_corridors.max_pixels, "batch_size": settings.batch_size}
    return {
        role: record_log_probs(model, records, processor, prompt, name=role, **options)
        for role, records in roles.items()
    }


def judge(copies: Records, val: Records, params: Vlm) -> pd.DataFrame:
    """Which augmented copies fit their label."""
    prompt = prompt_from_json(read_json(ROWS / "prompt.json")["risk"])
    found = score({"val": val, "augmented": copies}, prompt, params)
    labels, quantile = prompt.numbers(copies), params.filter_vlm.quantile
    assert quantile is not None
    thresholds = fit_thresholds(found["val"], prompt.numbers(val), quantile=quantile)
    judged = pd.DataFrame(
        {
            "sample_id": [record["sample_id"] for record in copies],
            "label": labels,
            "transform": [record["transform"] for record in copies],
            "score": label_scores(found["augmented"], labels),
            "kept": is_consistent(found["augmented"], labels, thresholds),
        }
    )
    print(dropped_table(judged, prompt.names).round(3).to_string(index=False), flush=True)
    return judged


def main() -> None:
    params = load(Vlm)
    set_up_torch(threads=params.runtime.threads)
    with timed("filter_vlm"):
        train, val = (read_messages(ROWS / f"{role}.jsonl") for role in ("train", "val"))
        plain = [record for record in train if record["transform"] == "none"]
        copies = [record for record in train if record["transform"] != "none"]
        judged = pd.DataFrame({"sample_id": [], "label": [], "transform": [], "score": [], "kept": []})
        kept = copies
        if copies and params.filter_vlm.quantile is not None:
            judged = judge(copies, val, params)
            kept = [record for record, keep in zip(copies, judged["kept"], strict=True) if keep]
        write_messages(OUTPUT / "train.jsonl", plain + kept)
        write_parquet(OUTPUT / "consistency.parquet", judged)
    print(f"{len(kept)} of {len(copies)} augmented copies kept")


if __name__ == "__main__":
    run(main)
