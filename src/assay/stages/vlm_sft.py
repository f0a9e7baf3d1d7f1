"""vlm_sft: the first model, fine-tuned with LoRA to answer with the class; and the networks it is compared with.

    python -m assay.stages.vlm_sft
    accelerate launch --config_file params/accelerate/fsdp.yaml -m assay.stages.vlm_sft    (several GPUs)

Output, in models/vlm/sft: base, order_1, ... (the same rows in another order), no_augmentation and no_filter (adapter and
manifest.json each), consistency.parquet (sample_id, label, transform, score, kept) and history.csv.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from accelerate import PartialState

from assay.core.io import write_csv, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import pick_device, set_up_torch
from assay.params.vlm import Vlm
from assay.vlm.consistency import dropped_table, fit_thresholds, is_consistent, label_scores
from assay.vlm.fine_tuning import ROWS, Setup, collect, fine_tune, set_up
from assay.vlm.messages import read_messages
from assay.vlm.network import load_adapter, load_base
from assay.vlm.scoring import record_log_probs

BASE = Path("models/vlm/pretrained/base")
OUTPUT = Path("models/vlm/sft")
Records = list[dict[str, Any]]


def judge(copies: Records, val: Records, setup: Setup, params: Vlm, *, adapter: Path | None) -> pd.DataFrame:
    """Which augmented copies fit their label, as the base weights (``adapter`` None) or an adapter on them see it."""
    model = load_base(setup.base, weights_dtype=setup.settings.weights_dtype, processor=setup.processor)
    model = (model if adapter is None else load_adapter(adapter, model)).to(pick_device(setup.device))
    found = {
        what: record_log_probs(
            model,
            records,
            setup.processor,
            setup.prompt,
            max_pixels=setup.decode_pixels,
            batch_size=params.vlm_predict.batch_size,
            what=what,
        )
        for what, records in (("val", val), ("augmented", copies))
    }
    labels = setup.prompt.numbers(copies)
    quantile = params.vlm_sft.consistency.quantile
    thresholds = fit_thresholds(found["val"], setup.prompt.numbers(val), quantile=quantile)
    return pd.DataFrame(
        {
            "sample_id": [record["sample_id"] for record in copies],
            "label": labels,
            "transform": [record["transform"] for record in copies],
            "score": label_scores(found["augmented"], labels),
            "kept": is_consistent(found["augmented"], labels, thresholds),
        }
    )


def main() -> None:
    params = load(Vlm)
    settings, seed = params.vlm_sft, params.runtime.seed
    set_up_torch(threads=params.runtime.threads)
    with timed("vlm_sft") as figures:
        setup = set_up(params, "vlm_sft", settings, base=BASE, asked="risk")
        train, val = (read_messages(ROWS / f"{role}.jsonl") for role in ("train", "val"))
        plain = [record for record in train if record["transform"] == "none"]
        copies = [record for record in train if record["transform"] != "none"]
        adapters, history = {}, []

        def add(name: str, records: Records, *, order_seed: int = seed) -> None:
            adapters[name], lines = fine_tune(name, records, setup, num_rows=len(train), order_seed=order_seed)
            history.extend(lines)

        scorer = settings.consistency.scorer if copies else "none"
        if settings.ablations or scorer == "fine_tuned":
            add("no_augmentation", plain)
        judged = pd.DataFrame({"sample_id": [], "label": [], "transform": [], "score": [], "kept": []})
        kept = copies
        if scorer != "none":
            adapter = adapters["no_augmentation"] if scorer == "fine_tuned" else None
            judged = judge(copies, val, setup, params, adapter=adapter)
            kept = [record for record, keep in zip(copies, judged["kept"], strict=True) if keep]
            print(dropped_table(judged, setup.prompt.names).round(3).to_string(index=False), flush=True)
        add("base", plain + kept)
        if settings.ablations and copies:
            add("no_filter", plain + copies)
        for number in range(1, settings.order_seeds):
            add(f"order_{number}", plain + kept, order_seed=seed + number)
        if PartialState().is_main_process:
            shutil.rmtree(OUTPUT, ignore_errors=True)
            write_parquet(OUTPUT / "consistency.parquet", judged)
            write_csv(OUTPUT / "history.csv", pd.DataFrame(history))
            collect("vlm_sft", adapters, OUTPUT)
        figures["conversations"] = settings.epochs * len(train) * len(adapters)
    print(f"{', '.join(adapters)} saved in {OUTPUT}")


if __name__ == "__main__":
    run(main)
