"""What accuracy costs in milliseconds: every system of the text line on the same test texts.

    python benchmarks/text_frontier.py
    python benchmarks/text_frontier.py --texts 400 --repeats 5 --threads 1

Accuracy is that of the committed run (data/text/scores_test.parquet), on all test rows. The time is for texts of that role,
drawn once: one at a time, as a service is asked, and all at once; tokenizing is in it, loading is not. Each figure is the
median over the repeats, which take the systems in turn. Networks compute in float64 on a CPU, as `assay text` does, and in
float32 with ``--float32``. A system is on the frontier if none that is as quick is more accurate.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from assay.core.io import read_json
from assay.core.torch_setup import set_up_torch
from assay.text.classifier import load_classifier
from assay.text.evaluation import system_probs
from assay.text.prediction import ENSEMBLE, load_predictor

SCORES, NETWORKS = Path("data/text/scores_test.parquet"), Path("models/text/networks")
CLASSIFIERS = {"test": Path("models/text/classifier"), "small": Path("models/text/small")}
Say = Callable[[list[str]], object]


def systems(dtype: torch.dtype) -> dict[str, Say]:
    """Every system that is timed: name -> what says the log-probabilities of texts."""
    predictors = {name: load_predictor(folder, dtype=dtype) for name, folder in CLASSIFIERS.items()}
    found: dict[str, Say] = {name: predictor.log_probs for name, predictor in predictors.items()}
    one = predictors["test"]
    for folder in sorted(NETWORKS.iterdir()):
        model, tokenizer = load_classifier(folder)
        network = model.to(dtype), tokenizer
        found[folder.name] = partial(one.network_log_probs, network, name="texts")
    if one.linear is not None:
        found["linear"] = one.linear.log_probs
    return found


def milliseconds(say: Say, texts: list[str], *, batch: int) -> float:
    """Of one text, asked so many at once."""
    start = time.perf_counter()
    for first in range(0, len(texts), batch):
        say(texts[first : first + batch])
    return 1000 * (time.perf_counter() - start) / len(texts)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--float32", action="store_true")
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    for path in (SCORES, *(folder / ENSEMBLE for folder in CLASSIFIERS.values())):
        if not path.is_file():
            print(f"text_frontier: no {path}: run dvc repro score_text first", file=sys.stderr)
            return 2
    set_up_torch(threads=options.threads)
    scores, classes = pd.read_parquet(SCORES), read_json(CLASSIFIERS["test"] / ENSEMBLE)["classes"]
    probs, truth = system_probs(scores, classes), scores["label"].to_numpy()
    texts = list(scores["text"].sample(min(options.texts, len(scores)), random_state=0))
    said = systems(torch.float32 if options.float32 else torch.float64)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in said}
    for say in said.values():
        say(texts[:8])
    for _ in range(options.repeats):
        for name, say in said.items():
            times[name].append((milliseconds(say, texts, batch=1), milliseconds(say, texts, batch=len(texts))))
    rows = {
        name: (float((probs[name].argmax(axis=1) == truth).mean()), *map(statistics.median, zip(*found, strict=True)))
        for name, found in times.items()
    }
    print(f"{len(texts)} texts, {options.threads} threads, torch {torch.__version__}, n = {len(scores)} for accuracy")
    print(f"{'':14}{'accuracy':>10}{'ms, alone':>12}{'ms, batch':>12}")
    for name, (accuracy, alone, together) in sorted(rows.items(), key=lambda item: item[1][1]):
        best = all(other[0] <= accuracy for other in rows.values() if other[1] <= alone)
        print(f"{name:14}{accuracy:10.4f}{alone:12.2f}{together:12.2f}{'  frontier' if best else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
