"""train_text@<network>: one network of the text line, fine-tuned.

    python -m assay.stages.train_text --network pretrained

Networks: own (the encoder of pretrain_text), pretrained (that of fetch_text, its lowest layers frozen) and distilled (the
own encoder again, taught by the pretrained network). Output: models/text/networks/<network>: weights, tokenizer, history.csv
(loss and metrics on val, a row per evaluation), and of the pretrained one taught.parquet: what it says of train
and of unlabelled texts.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from assay.core.io import read_json, write_csv, write_parquet
from assay.core.params import load
from assay.core.resume import resumable
from assay.core.stage import run, timed
from assay.core.torch_setup import pick_device, set_up_torch
from assay.params.text import PretrainedNetwork, Text, TextNetwork
from assay.text.classifier import TextClassifier, load_tokenizer, save_classifier
from assay.text.encoder import load_encoder
from assay.text.frozen import UpperLayers, frozen_outputs
from assay.text.teachers import TAUGHT, said_probs, taught_probs, teacher_probs
from assay.text.training import balanced_weights, encode, fine_tune, predicted_logits, soft_targets

OWN, GIVEN = Path("models/text/encoder"), Path("data/text/pretrained")
ROWS = Path("data/text/rows")
OUTPUT = Path("models/text/networks")
MEASURED = ("loss", "accuracy", "f1", "precision", "recall")
HISTORY = ("network", "step", "epoch", "loss", "learning_rate", *(f"eval_{name}" for name in MEASURED))
# Rows that the frozen layers take at once.
BATCH = 32
ROLES = ("train", "augmented", "val", "unlabelled")
Rows = list[dict[str, Any]]


def new_classifier(settings: TextNetwork, tokenizer: Any, base: Path, *, num_classes: int, seed: int) -> TextClassifier:
    """The encoder in ``base`` under a new head."""
    torch.manual_seed(seed)
    num_layers, options = None, {}
    if isinstance(settings, PretrainedNetwork):
        num_layers = settings.num_layers
        options = {"merge_above": settings.frozen_layers, "merged_tokens": settings.merged_tokens}
    return TextClassifier(
        load_encoder(base, dropout=settings.dropout, num_layers=num_layers),
        tokenizer,
        num_classes=num_classes,
        max_tokens=settings.max_tokens,
        pooling=settings.pooling,
        dropout=settings.dropout,
        token_dropout=settings.token_dropout,
        **options,
    )


def encoded(tokenizer: Any, frame: pd.DataFrame, teacher: Any, settings: TextNetwork, num_classes: int) -> Rows:
    """Token ids and targets of the rows; ``teacher``: probabilities [n, num_classes] to mix in, or None."""
    labels, weight = frame["label"].to_numpy(), settings.distillation.weight
    targets = soft_targets(labels, num_classes=num_classes, teacher=teacher, weight=weight)
    return encode(tokenizer, list(frame["text"]), targets, max_tokens=settings.max_tokens)


def unlabelled_encoded(tokenizer: Any, frame: pd.DataFrame, settings: TextNetwork, classes: list[str]) -> Rows:
    """Token ids of unlabelled texts; their targets are what the pretrained network says of them, if that teaches, else 0."""
    if frame.empty:
        return []
    taught = settings.distillation.teacher == "pretrained"
    targets = taught_probs(OUTPUT / "pretrained", frame, classes) if taught else np.zeros((len(frame), len(classes)))
    return encode(tokenizer, list(frame["text"]), targets, max_tokens=settings.max_tokens)


def over_frozen(model: TextClassifier, tokenizer: Any, roles: dict[str, Rows], settings: TextNetwork) -> Any:
    """What is trained: the layers above the frozen ones, their outputs put beside each row; or the whole model."""
    if not isinstance(settings, PretrainedNetwork) or settings.frozen_layers == 0:
        return model
    for name, rows in roles.items():
        hidden = frozen_outputs(
            model,
            tokenizer,
            [row["input_ids"] for row in rows],
            frozen=settings.frozen_layers,
            dtype=getattr(torch, settings.frozen_dtype),
            batch_size=BATCH,
            name=name,
        )
        for row, values in zip(rows, hidden, strict=True):
            row["hidden"] = values
    return UpperLayers(model, frozen=settings.frozen_layers)


def put_network(folder: Path, model: TextClassifier, tokenizer: Any, history: list[dict[str, Any]]) -> None:
    """The network and its history."""
    save_classifier(folder, model.cpu(), tokenizer)
    lines = pd.DataFrame(history).assign(network=folder.name)
    write_csv(folder / "history.csv", lines[[column for column in HISTORY if column in lines]])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m assay.stages.train_text")
    parser.add_argument("--network", required=True, help="own, pretrained or distilled")
    name = parser.parse_args(arguments).network
    params = load(Text)
    settings, stage, seed = params.network(name), f"train_text@{name}", params.runtime.seed
    device, base = pick_device(params.runtime.device), GIVEN if name == "pretrained" else OWN
    set_up_torch(threads=params.runtime.threads)
    with timed(stage) as measured:
        classes = read_json(ROWS / "classes.json")
        train, copies, val, unlabelled = (pd.read_parquet(ROWS / f"{role}.parquet") for role in ROLES)
        used = pd.concat([train, copies], ignore_index=True) if settings.augmented else train
        teaching = {"classes": classes, "network": OUTPUT / "pretrained", "seed": seed}
        teacher = teacher_probs(settings, params.pool_text.linear, used, **teaching)
        tokenizer, count = load_tokenizer(base), len(classes)
        model = new_classifier(settings, tokenizer, base, num_classes=count, seed=seed).to(device)
        roles = {
            "train": encoded(tokenizer, used, teacher, settings, count),
            "val": encoded(tokenizer, val, None, settings, count),
        }
        further = unlabelled_encoded(tokenizer, unlabelled, settings, classes)
        if name == "pretrained":
            roles["unlabelled"] = further
        elif settings.distillation.teacher == "pretrained":
            roles["train"] += further
        trained = over_frozen(model, tokenizer, roles, settings)
        balanced = settings.class_weights == "balanced"
        weights = balanced_weights(used["label"].to_numpy(), num_classes=count) if balanced else None
        print(f"{name}: {len(roles['train'])} texts, seed {seed}", flush=True)
        values: dict[str, Any] = {"settings": settings, "runtime": params.runtime}
        values["teacher"] = None if teacher is None else teacher.tolist()
        inputs = (base, ROWS / "classes.json", *(ROWS / f"{role}.parquet" for role in ROLES))
        with resumable(stage, params=values, inputs=inputs) as checkpoints:
            options: dict[str, Any] = {"class_weights": weights, "seed": seed, "cpu": device.type == "cpu"}
            history = fine_tune(trained, tokenizer, roles["train"], roles["val"], settings, checkpoints, **options)
            shutil.rmtree(OUTPUT / name, ignore_errors=True)
            if name == "pretrained":
                known = [*roles["train"][: len(train)], *further]
                said = said_probs(predicted_logits(trained, tokenizer, known), [train, unlabelled], classes)
                write_parquet(OUTPUT / name / TAUGHT, said)
            put_network(OUTPUT / name, model, tokenizer, history)
        measured["texts"] = settings.epochs * len(roles["train"])
    print(f"{name} saved in {OUTPUT / name}")


if __name__ == "__main__":
    run(main)
