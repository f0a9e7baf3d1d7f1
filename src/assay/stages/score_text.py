"""score_text: what the classifier that ships, its parts and the baselines say of the test rows.

    python -m assay.stages.score_text

Output: data/text/scores_test.parquet: sample_id, text, label, group, and ``<system>.<class>``: the probability that a system
gives a class. evaluate_text measures these and runs no network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from assay.core.io import write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import pick_device, set_up_torch
from assay.params.text import Text
from assay.text.classifier import load_classifier
from assay.text.linear import fit_linear
from assay.text.prediction import TextPredictor, load_predictor

ROWS = Path("data/text/rows")
CLASSIFIER = Path("models/text/classifier")
OUTPUT = Path("data/text/scores_test.parquet")


def all_probs(predictor: TextPredictor, train: pd.DataFrame, texts: list[str], params: Text) -> dict[str, np.ndarray]:
    """Probabilities [n, num_classes] of every system; no_pretraining only if that network was trained."""
    members = predictor.member_log_probs(texts)
    found = {
        "test": predictor.pooled(members),
        "uncalibrated": predictor.pooled(members, calibrated=False),
        "network": members[0],
    }
    if predictor.linear is not None:
        found["linear"] = members[-1]
    ablation = CLASSIFIER / "no_pretraining"
    if ablation.is_dir():
        model, tokenizer = load_classifier(ablation)
        model.to(next(predictor.networks[0][0].parameters()).device)
        found["no_pretraining"] = predictor.network_log_probs((model, tokenizer), texts, name="no_pretraining")
    labels, c, seed = train["label"].to_numpy(), params.evaluate_text.logistic_c, params.runtime.seed
    found["tfidf_bigram"] = fit_linear(list(train["text"]), labels, max_ngram=2, c=c, seed=seed).log_probs(texts)
    shares = np.bincount(labels, minlength=len(predictor.classes)) / len(labels)
    return {name: np.exp(values) for name, values in found.items()} | {"majority": np.tile(shares, (len(texts), 1))}


def main() -> None:
    params = load(Text)
    set_up_torch(threads=params.runtime.threads)
    with timed("score_text"):
        train, test = (pd.read_parquet(ROWS / f"{role}.parquet") for role in ("train", "test"))
        predictor = load_predictor(CLASSIFIER, device=pick_device(params.runtime.device).type)
        found = all_probs(predictor, train, list(test["text"]), params)
        columns = {
            f"{system}.{name}": probs[:, number]
            for system, probs in found.items()
            for number, name in enumerate(predictor.classes)
        }
        scores = test[["sample_id", "text", "label", "group"]].reset_index(drop=True)
        write_parquet(OUTPUT, pd.concat([scores, pd.DataFrame(columns)], axis=1))
    print(f"{len(test)} rows scored by {', '.join(found)}")


if __name__ == "__main__":
    run(main)
