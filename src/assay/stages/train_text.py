"""train_text: the classifier, fine-tuned from the encoder; an ensemble and a linear member where asked for.

    python -m assay.stages.train_text

Output, in models/text/classifier: network_0, network_1, ... and no_pretraining (weights, tokenizer), linear, ensemble.json
(classes, weights of the pool, temperature) and history.csv (loss and figures on val, a row per evaluation).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from assay.calibration.pooling import fit_pool_temperature, fit_weights, pool
from assay.core.io import read_json, sha256_file, write_csv, write_json
from assay.core.params import load
from assay.core.resume import ROOT, resume_key, state_hash
from assay.core.stage import run, timed
from assay.core.torch_setup import pick_device, set_up_torch
from assay.params.text import Text, TrainText
from assay.text.classifier import TextClassifier, build_classifier, load_tokenizer, save_classifier
from assay.text.encoder import load_encoder
from assay.text.linear import fit_linear, save_linear
from assay.text.prediction import ENSEMBLE, load_predictor
from assay.text.teachers import teacher_probs
from assay.text.training import balanced_weights, encode, fine_tune, soft_targets

ENCODER = Path("models/text/encoder")
ROWS = Path("data/text/rows")
OUTPUT = Path("models/text/classifier")
ABLATION = "no_pretraining"
FIGURES = ("loss", "accuracy", "f1", "precision", "recall")
HISTORY = ("network", "step", "epoch", "loss", "learning_rate", *(f"eval_{name}" for name in FIGURES))
LIBRARIES = ("accelerate", "numpy", "scikit-learn", "torch", "transformers")


def new_classifier(
    settings: TrainText, tokenizer: Any, *, num_classes: int, seed: int, pretrained: bool
) -> TextClassifier:
    """The pretrained encoder, or the same network with random weights, under a new head."""
    torch.manual_seed(seed)
    return build_classifier(
        load_encoder(ENCODER, dropout=settings.dropout, weights=pretrained),
        tokenizer,
        num_classes=num_classes,
        pooling=settings.pooling,
        dropout=settings.dropout,
        token_dropout=settings.token_dropout,
    )


def train_network(name: str, roles: dict[str, pd.DataFrame], params: Text, teacher: np.ndarray | None) -> pd.DataFrame:
    """Train and save the network ``name`` (network_<number> or no_pretraining); returns its history."""
    settings, num_classes = params.train_text, len(read_json(ROWS / "classes.json"))
    number = 0 if name == ABLATION else int(name.removeprefix("network_"))
    seed, cpu = params.runtime.seed + number, pick_device(params.runtime.device).type == "cpu"
    tokenizer = load_tokenizer(ENCODER)
    model = new_classifier(settings, tokenizer, num_classes=num_classes, seed=seed, pretrained=name != ABLATION)
    labels = {role: frame["label"].to_numpy() for role, frame in roles.items()}
    weight = settings.distillation.weight
    targets = {
        role: soft_targets(labels[role], num_classes=num_classes, teacher=soft, weight=weight)
        for role, soft in (("train", teacher), ("val", None))
    }
    data = {
        role: encode(tokenizer, list(roles[role]["text"]), targets[role], max_tokens=settings.max_tokens)
        for role in targets
    }
    key = resume_key(
        libraries=LIBRARIES,
        params=settings.model_dump() | {"targets": state_hash({"train": torch.tensor(targets["train"])})},
        seed=seed,
        cpu=cpu,
        initial_state=state_hash(dict(model.state_dict())),
        files=[sha256_file(ROWS / f"{role}.parquet") for role in ("train", "val")],
    )
    folder = ROOT / f"train_text-{name}-{key}"
    balanced = settings.class_weights == "balanced"
    weights = balanced_weights(labels["train"], num_classes=num_classes) if balanced else None
    print(f"{name}: {len(data['train'])} texts, seed {seed}", flush=True)
    parts = data["train"], data["val"]
    history = fine_tune(model, tokenizer, *parts, settings, folder, class_weights=weights, seed=seed, cpu=cpu)
    save_classifier(OUTPUT / name, model.cpu(), tokenizer)
    shutil.rmtree(folder, ignore_errors=True)
    return pd.DataFrame(history).assign(network=name)


def fit_ensemble(roles: dict[str, pd.DataFrame], record: dict[str, Any]) -> dict[str, Any]:
    """The record with the pool's weights, fitted on val, and its temperature, fitted on calib."""
    write_json(OUTPUT / ENSEMBLE, record)
    predictor = load_predictor(OUTPUT)
    members = {role: predictor.member_log_probs(list(roles[role]["text"]), what=role) for role in ("val", "calib")}
    labels = {role: roles[role]["label"].to_numpy() for role in members}
    one = len(members["val"]) == 1
    weights = [1.0] if one else fit_weights(members["val"], labels["val"])
    temperature = fit_pool_temperature(pool(members["calib"], weights), labels["calib"])
    print(f"weights {weights} fitted on val, temperature {temperature:.3f} on calib")
    return record | {"weights": weights, "temperature": temperature}


def main() -> None:
    params = load(Text)
    settings, seed = params.train_text, params.runtime.seed
    set_up_torch(threads=params.runtime.threads)
    with timed("train_text") as figures:
        shutil.rmtree(OUTPUT, ignore_errors=True)
        roles = {role: pd.read_parquet(ROWS / f"{role}.parquet") for role in ("train", "val", "calib")}
        networks = [f"network_{number}" for number in range(settings.num_models)]
        teacher = teacher_probs(settings, roles["train"], classes=read_json(ROWS / "classes.json"), seed=seed)
        names = [*networks, ABLATION] if settings.ablation else networks
        history = pd.concat([train_network(name, roles, params, teacher) for name in names])
        write_csv(OUTPUT / "history.csv", history[[name for name in HISTORY if name in history]])
        speeds = history.dropna(subset="train_samples_per_second").set_index("network")["train_samples_per_second"]
        figures |= {f"{name}.texts_per_second": float(speed) for name, speed in speeds.items()}
        train = roles["train"]
        linear = fit_linear(list(train["text"]), train["label"].to_numpy(), seed=seed, **settings.linear.model_dump())
        save_linear(OUTPUT / "linear", linear)
        record = {
            "classes": read_json(ROWS / "classes.json"),
            "networks": networks,
            "fuse_linear": settings.fuse_linear,
            "max_tokens": settings.max_tokens,
            "unicode_form": params.prepare_text.unicode_form,
            "weights": [1.0] * (len(networks) + settings.fuse_linear),
            "temperature": 1.0,
        }
        write_json(OUTPUT / ENSEMBLE, fit_ensemble(roles, record))
        figures["texts"] = settings.epochs * len(train) * len(names)
    print(f"{', '.join(names)} saved in {OUTPUT}")


if __name__ == "__main__":
    run(main)
