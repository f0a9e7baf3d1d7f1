"""pretrain_vlm: what is fine-tuned later: the given weights, or a small network pretrained here on captions.

    python -m assay.stages.pretrain_vlm

Output, in models/vlm/pretrained: base and, where the second model has one of its own, high_risk (config, weights,
source.json), and history.csv of the pretraining.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from assay.core.io import write_csv, write_json
from assay.core.params import load
from assay.core.resume import resumable
from assay.core.stage import run, timed
from assay.core.torch_setup import pick_device, set_up_torch
from assay.data.fetch.language_models import fetch_language_model
from assay.params.vlm import Vlm
from assay.vlm.examples import Examples
from assay.vlm.messages import read_messages
from assay.vlm.network import small_network
from assay.vlm.processor import load_processor
from assay.vlm.training import HISTORY, Weighted, train, training_arguments

SOURCE = Path("data/vlm/source")
ROWS = Path("data/vlm/rows")
OUTPUT = Path("models/vlm/pretrained")
DOWNLOADS = Path(".assay/downloads")


def pretrain(params: Vlm) -> tuple[pd.DataFrame, int]:
    """Train a small Qwen2.5-VL on the captions, write it to base; returns its history and the number of captions."""
    settings, prepared = params.pretrain_vlm, params.prepare_vlm
    seed, cpu = params.runtime.seed, pick_device(params.runtime.device).type == "cpu"
    records = read_messages(ROWS / "captions.jsonl")
    if not records:
        raise ValueError("pretrain_vlm.base config: no image has a caption; add a column caption, or give weights")
    processor = load_processor(ROWS / "processor", min_pixels=prepared.min_pixels, max_pixels=prepared.max_pixels)
    examples = Examples(records, processor, root=Path(), max_pixels=params.render_corridors.max_pixels)
    model = small_network(settings.small, processor.tokenizer, seed=seed)
    values = {
        "settings": settings,
        "runtime": params.runtime,
        "pixels": [prepared.min_pixels, prepared.max_pixels, params.render_corridors.max_pixels],
    }
    inputs = [SOURCE, ROWS / "captions.jsonl", ROWS / "processor"]
    with resumable("pretrain_vlm", params=values, inputs=inputs) as checkpoints:
        options = training_arguments(
            settings,
            checkpoints,
            num_rows=len(records),
            seed=seed,
            order_seed=seed,
            cpu=cpu,
            workers=params.runtime.workers,
        )
        pad_token_id = processor.tokenizer.pad_token_id
        history = train(model, Weighted(examples), options, pad_token_id=pad_token_id, name="pretraining")
        model.cpu().save_pretrained(OUTPUT / "base")
    return pd.DataFrame(history), len(records)


def main() -> None:
    params = load(Vlm)
    settings = params.pretrain_vlm
    set_up_torch(threads=params.runtime.threads)
    with timed("pretrain_vlm") as measured:
        shutil.rmtree(OUTPUT, ignore_errors=True)
        OUTPUT.mkdir(parents=True)
        history = pd.DataFrame(columns=["network", *HISTORY])
        if settings.base == "config":
            history, count = pretrain(params)
            measured["images"] = settings.epochs * count
            write_json(OUTPUT / "base" / "source.json", {"source": "config", "revision": ""})
            print(f"caption loss {history['loss'].iloc[-1]:.3f} at the end; saved in {OUTPUT / 'base'}")
        given = {"base": settings.base, "high_risk": settings.high_risk}
        for name, spec in given.items():
            if spec not in ("base", "config"):
                field = f"pretrain_vlm.{name}"
                revision = fetch_language_model(spec, OUTPUT / name, field=field, cache_dir=DOWNLOADS)
                write_json(OUTPUT / name / "source.json", {"source": spec, "revision": revision})
                print(f"{spec} {revision} in {OUTPUT / name}")
        write_csv(OUTPUT / "history.csv", history)


if __name__ == "__main__":
    run(main)
