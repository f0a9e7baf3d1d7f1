"""score_text: what the classifier that ships, its parts and the baselines say of the test rows.

    python -m assay.stages.score_text

Output: data/text/scores_test.parquet: sample_id, text, label, group, and ``<system>.<class>``: the probability that a system
gives a class. evaluate_text measures these and runs no network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from assay.core.io import read_json, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import pick_device, set_up_torch
from assay.params.text import Text, TrainText
from assay.text.classifier import load_classifier
from assay.text.linear import fit_linear
from assay.text.prediction import ENSEMBLE, load_predictor

ROWS = Path("data/text/rows")
NETWORKS = Path("models/text/networks")
CLASSIFIERS = {"test": Path("models/text/classifier"), "small": Path("models/text/small")}
OUTPUT = Path("data/text/scores_test.parquet")


def all_log_probs(texts: list[str], *, device: str) -> dict[str, np.ndarray]:
    """Log-probabilities [n, num_classes] of both classifiers, of the first before its scaling, of each network and the
    linear member."""
    found: dict[str, np.ndarray] = {}
    predictors = {
        name: load_predictor(folder, device=device, dtype=torch.float32) for name, folder in CLASSIFIERS.items()
    }
    for network in TrainText.model_fields:
        model, tokenizer = load_classifier(NETWORKS / network)
        pair = model.to(device), tokenizer
        found[network] = predictors["test"].network_log_probs(pair, texts, name=network)
    for name, predictor in predictors.items():
        names = read_json(CLASSIFIERS[name] / ENSEMBLE)["networks"]
        members = [found[network] for network in names]
        if predictor.linear is not None:
            found.setdefault("linear", predictor.linear.log_probs(texts))
            members.append(found["linear"])
        found[name] = predictor.pooled(members)
        if name == "test":
            found["uncalibrated"] = predictor.pooled(members, calibrated=False)
    return found


def all_probs(train: pd.DataFrame, texts: list[str], params: Text, *, num_classes: int) -> dict[str, np.ndarray]:
    """Probabilities [n, num_classes] of every system, the baselines among them."""
    found = all_log_probs(texts, device=pick_device(params.runtime.device).type)
    labels, c, seed = train["label"].to_numpy(), params.evaluate_text.logistic_c, params.runtime.seed
    found["tfidf_bigram"] = fit_linear(list(train["text"]), labels, max_ngram=2, c=c, seed=seed).log_probs(texts)
    shares = np.bincount(labels, minlength=num_classes) / len(labels)
    return {name: np.exp(values) for name, values in found.items()} | {"majority": np.tile(shares, (len(texts), 1))}


def main() -> None:
    params = load(Text)
    set_up_torch(threads=params.runtime.threads)
    with timed("score_text"):
        train, test = (pd.read_parquet(ROWS / f"{role}.parquet") for role in ("train", "test"))
        classes = read_json(CLASSIFIERS["test"] / ENSEMBLE)["classes"]
        found = all_probs(train, list(test["text"]), params, num_classes=len(classes))
        columns = {
            f"{system}.{name}": probs[:, number]
            for system, probs in found.items()
            for number, name in enumerate(classes)
        }
        scores = test[["sample_id", "text", "label", "group"]].reset_index(drop=True)
        write_parquet(OUTPUT, pd.concat([scores, pd.DataFrame(columns)], axis=1))
    print(f"{len(test)} rows scored by {', '.join(found)}")


if __name__ == "__main__":
    run(main)
