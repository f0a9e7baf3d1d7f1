"""train_text@<network>: one network of the text classifier, fine-tuned from the encoder.

    python -m assay.stages.train_text --network network_0

Networks: network_0, network_1, ... (members of the ensemble, each with a seed of its own) and no_pretraining (the first one
from random weights, for comparison). Output: models/text/networks/<network> (weights, tokenizer and history.csv: loss and
metrics on val, a row per evaluation).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from assay.core.io import read_json, write_csv
from assay.core.params import load
from assay.core.resume import resumable
from assay.core.stage import run, timed
from assay.core.torch_setup import pick_device, set_up_torch
from assay.params.text import Text, TrainText
from assay.text.classifier import TextClassifier, load_tokenizer, save_classifier
from assay.text.encoder import load_encoder
from assay.text.teachers import teacher_probs
from assay.text.training import balanced_weights, encode, fine_tune, soft_targets

ENCODER = Path("models/text/encoder")
ROWS = Path("data/text/rows")
INPUTS = (ENCODER, ROWS / "train.parquet", ROWS / "val.parquet", ROWS / "classes.json")
OUTPUT = Path("models/text/networks")
ABLATION = "no_pretraining"
MEASURED = ("loss", "accuracy", "f1", "precision", "recall")
HISTORY = ("network", "step", "epoch", "loss", "learning_rate", *(f"eval_{name}" for name in MEASURED))


def new_classifier(
    settings: TrainText, tokenizer: Any, *, num_classes: int, seed: int, pretrained: bool
) -> TextClassifier:
    """The pretrained encoder, or the same network with random weights, under a new head."""
    torch.manual_seed(seed)
    return TextClassifier(
        load_encoder(ENCODER, dropout=settings.dropout, weights=pretrained),
        tokenizer,
        num_classes=num_classes,
        pooling=settings.pooling,
        dropout=settings.dropout,
        token_dropout=settings.token_dropout,
    )


def encoded(tokenizer: Any, frame: pd.DataFrame, teacher: Any, settings: TrainText, num_classes: int) -> Any:
    """Token ids and targets of the rows; ``teacher``: probabilities [n, num_classes] to mix in, or None."""
    labels, weight = frame["label"].to_numpy(), settings.distillation.weight
    targets = soft_targets(labels, num_classes=num_classes, teacher=teacher, weight=weight)
    return encode(tokenizer, list(frame["text"]), targets, max_tokens=settings.max_tokens)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m assay.stages.train_text")
    parser.add_argument("--network", required=True, help="one of text_networks in params.yaml")
    name = parser.parse_args(arguments).network
    params = load(Text)
    settings, stage = params.train_text, f"train_text@{name}"
    seed = params.runtime.seed + params.network_number(name)
    cpu = pick_device(params.runtime.device).type == "cpu"
    set_up_torch(threads=params.runtime.threads)
    with timed(stage) as measured:
        classes = read_json(ROWS / "classes.json")
        train, val = (pd.read_parquet(ROWS / f"{role}.parquet") for role in ("train", "val"))
        teacher = teacher_probs(settings, params.pool_text.linear, train, classes=classes, seed=params.runtime.seed)
        tokenizer, count = load_tokenizer(ENCODER), len(classes)
        model = new_classifier(settings, tokenizer, num_classes=count, seed=seed, pretrained=name != ABLATION)
        data = encoded(tokenizer, train, teacher, settings, count), encoded(tokenizer, val, None, settings, count)
        balanced = settings.class_weights == "balanced"
        weights = balanced_weights(train["label"].to_numpy(), num_classes=count) if balanced else None
        print(f"{name}: {len(train)} texts, seed {seed}", flush=True)
        values = {
            "settings": settings,
            "runtime": params.runtime,
            "teacher": None if teacher is None else teacher.tolist(),
        }
        with resumable(stage, params=values, inputs=INPUTS) as checkpoints:
            rows = fine_tune(model, tokenizer, *data, settings, checkpoints, class_weights=weights, seed=seed, cpu=cpu)
            shutil.rmtree(OUTPUT / name, ignore_errors=True)
            save_classifier(OUTPUT / name, model.cpu(), tokenizer)
            history = pd.DataFrame(rows).assign(network=name)
            write_csv(OUTPUT / name / "history.csv", history[[column for column in HISTORY if column in history]])
        measured["texts"] = settings.epochs * len(train)
    print(f"{name} saved in {OUTPUT / name}")


if __name__ == "__main__":
    run(main)
