"""How fast a text classifier is fine-tuned, against the plain Trainer recipe, and whether it is as good.

    python benchmarks/text_throughput.py
    python benchmarks/text_throughput.py --texts 6000 --repeats 5 --threads 4

Three systems fine-tune the same classifier (the encoder in models/text/encoder under a mean-pooled head) from the same
weights on the same texts cut at the same length, with the parameters of ``train_text.own`` in params.yaml:

- assay: ``fine_tune`` as the stage calls it: a batch is as long as its longest text, batches of similar length;
- random order: the same without the grouping by length, so that the two parts of the gain are told apart;
- padded: transformers' ``Trainer`` as most tutorials have it: every text padded to ``--max-length``, random order,
  integer labels, transformers' default collator, and a model that returns its own loss.

Alike for all: seed, batch size, epochs, learning rate and its schedule, fused AdamW, fused attention, deterministic
kernels, checkpoints at each quarter. So what is measured is padding and grouping, nothing else. The time is the
Trainer's own (``train_samples_per_second``): tokenizing, loading and judging lie outside, nothing is evaluated in between
(``fine_tune`` wants one evaluation: of one text, at the end). Off for all, because the plain recipe has none: class
weights, label smoothing, distillation, early stopping, half precision.

The own encoder has places for pretrain_text.max_tokens (96); for a longer ``--max-length`` all systems get the last
place's embedding repeated. Accuracy is that on the val role, the difference paired by text. Not measured: a GPU.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from torch import nn
from torch.nn import functional
from transformers import AutoModel, Trainer, TrainingArguments

from assay.core.io import read_json
from assay.core.params import load
from assay.core.progress import progress
from assay.core.torch_setup import set_up_torch
from assay.metrics.intervals import blocks_of, degrees_of_freedom, jackknife_interval, left_out_weights
from assay.params.text import Text, TextNetwork
from assay.text.classifier import TextClassifier, load_tokenizer
from assay.text.encoder import Encoder, load_encoder
from assay.text.prediction import rows_log_probs
from assay.text.training import encode, fine_tune, soft_targets, text_arguments
from assay.training.trainer import SAVE_EVERY

ENCODER, ROWS = Path("models/text/encoder"), Path("data/text/rows")
NEEDED = {
    ROWS / "train.parquet": "dvc repro prepare_text",
    ROWS / "val.parquet": "dvc repro prepare_text",
    ROWS / "classes.json": "dvc repro prepare_text",
    ENCODER / "model.safetensors": "dvc repro pretrain_text",
}
PLACES = "embeddings.position_embeddings.weight"
ASSAY, UNGROUPED, PADDED = "assay", "random order", "padded"
GOAL = 1.8
WARM_UP_BATCHES = 5


@dataclass(frozen=True)
class Task:
    """What every system is given: the training texts as token ids with targets, and how to train."""

    rows: list[dict[str, Any]]
    labels: np.ndarray
    num_classes: int
    tokenizer: Any
    max_length: int
    settings: TextNetwork

    def first(self, count: int) -> Task:
        return replace(self, rows=self.rows[:count], labels=self.labels[:count])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=2000, help="of the training role, at random (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="trainings of each system, a seed each (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (%(default)s)")
    parser.add_argument("--max-length", type=int, default=128, help="tokens at which texts are cut (%(default)s)")
    options = parser.parse_args()
    if min(options.texts, options.repeats, options.threads) < 1 or options.max_length < 8:
        parser.error("--texts, --repeats and --threads must be at least 1, --max-length at least 8")
    return options


def with_places(encoder: Encoder, count: int) -> Encoder:
    """The encoder, with position embeddings for ``count`` tokens; those it lacks are copies of its last."""
    config = encoder.body.config
    missing = count + config.pad_token_id + 1 - config.max_position_embeddings
    if missing <= 0:
        return encoder
    config.max_position_embeddings += missing
    body, state = AutoModel.from_config(config, add_pooling_layer=False), encoder.body.state_dict()
    state[PLACES] = torch.cat([state[PLACES], state[PLACES][-1:].repeat(missing, 1)])
    body.load_state_dict(state)
    return Encoder(body, encoder.pairs)


def new_model(task: Task, *, seed: int) -> TextClassifier:
    """The pretrained encoder under a new head; equal for equal seeds."""
    torch.manual_seed(seed)
    settings = task.settings
    return TextClassifier(
        with_places(load_encoder(ENCODER, dropout=settings.dropout), task.max_length),
        task.tokenizer,
        num_classes=task.num_classes,
        max_tokens=task.max_length,
        pooling=settings.pooling,
        dropout=settings.dropout,
        token_dropout=settings.token_dropout,
    )


def texts_per_second(history: list[dict[str, Any]]) -> float:
    return float(next(row["train_samples_per_second"] for row in history if "train_samples_per_second" in row))


def train_ours(model: TextClassifier, task: Task, folder: Path, *, seed: int, grouped: bool) -> float:
    """Train as the stage does; returns texts a second."""
    settings = task.settings.model_copy(update={"length_grouped": grouped})
    one = task.rows[:1]
    return texts_per_second(
        fine_tune(model, task.tokenizer, task.rows, one, settings, folder, class_weights=None, seed=seed, cpu=True)
    )


class WithLoss(nn.Module):
    """The classifier as the plain Trainer wants it."""

    def __init__(self, classifier: TextClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        logits = self.classifier(input_ids, attention_mask)["logits"]
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


def train_padded(model: TextClassifier, task: Task, folder: Path, *, seed: int) -> float:
    """Train by the plain recipe; returns texts a second."""
    ids = {"input_ids": [row["input_ids"] for row in task.rows]}
    padded = task.tokenizer.pad(ids, padding="max_length", max_length=task.max_length)
    columns = zip(padded["input_ids"], padded["attention_mask"], task.labels.tolist(), strict=True)
    arguments = TrainingArguments(
        **text_arguments(folder, task.settings, seed=seed, cpu=True),
        save_steps=SAVE_EVERY,
    )
    rows = [{"input_ids": row, "attention_mask": mask, "labels": label} for row, mask, label in columns]
    trainer = Trainer(model=WithLoss(model), args=arguments, train_dataset=rows)
    trainer.train()
    return texts_per_second(trainer.state.log_history)


SYSTEMS: dict[str, Callable[..., float]] = {
    ASSAY: lambda *given, seed: train_ours(*given, seed=seed, grouped=True),
    UNGROUPED: lambda *given, seed: train_ours(*given, seed=seed, grouped=False),
    PADDED: train_padded,
}


def train(name: str, task: Task, *, seed: int) -> tuple[float, TextClassifier]:
    """Texts a second, and the trained model. The Trainer's own prints and bars are kept away."""
    model = new_model(task, seed=seed)
    quiet = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(quiet), redirect_stderr(quiet):
        return SYSTEMS[name](model, task, Path(folder), seed=seed), model


def paired_gain(ours: np.ndarray, theirs: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """Difference in accuracy with its 95 % interval over groups of texts; ``ours``, ``theirs``: right or not [n]."""
    difference = ours - theirs
    blocks, mean = blocks_of(groups), float(difference.mean())
    left_out = np.concatenate([weights @ difference / weights.sum(axis=1) for weights in left_out_weights(blocks)])
    return mean, *jackknife_interval(mean, left_out, df=degrees_of_freedom(blocks), scale="difference")


def print_speeds(rates: dict[str, list[float]], correct: dict[str, np.ndarray]) -> None:
    """Median and range of each system, what ours has over it, and its accuracy; then the parts of the gain."""
    print(f"\n{'':16}{'texts/s':>10}{'lowest':>10}{'highest':>10}{'ratio':>8}{'val accuracy':>14}")
    middle = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        print(
            f"{name:16}{middle[name]:10.1f}{min(values):10.1f}{max(values):10.1f}"
            f"{middle[ASSAY] / middle[name]:8.2f}{correct[name].mean():14.4f}"
        )
    gain = middle[ASSAY] / middle[PADDED]
    each = [ours / theirs for ours, theirs in zip(rates[ASSAY], rates[PADDED], strict=True)]
    print(
        f"\nassay / padded {gain:.2f} ({min(each):.2f} to {max(each):.2f} in single repeats), "
        f"goal {GOAL}: {'met' if gain >= GOAL else 'missed'}\n"
        f"of it padding {middle[UNGROUPED] / middle[PADDED]:.2f} x grouping {middle[ASSAY] / middle[UNGROUPED]:.2f}"
    )


def main() -> int:
    options = parse_arguments()
    for path, command in NEEDED.items():
        if not path.is_file():
            print(f"text_throughput: no {path}: run {command} first", file=sys.stderr)
            return 2
    params = load(Text)
    transformers.logging.set_verbosity_error()
    set_up_torch(threads=options.threads)
    off = {"label_smoothing": 0.0, "keep": "last", "early_stopping": None, "mixed_precision": "no"}
    own = params.train_text.own
    settings = own.model_copy(update=off | {"eval_every": own.epochs, "r_drop": 0.0, "adversarial": 0.0})
    first_seed, tokenizer = params.runtime.seed, load_tokenizer(ENCODER)
    frame, val = (pd.read_parquet(ROWS / f"{role}.parquet") for role in ("train", "val"))
    frame = frame.iloc[np.random.default_rng(first_seed).permutation(len(frame))[: options.texts]]
    labels, num_classes = frame["label"].to_numpy(), len(read_json(ROWS / "classes.json"))
    targets = soft_targets(labels, num_classes=num_classes, teacher=None, weight=0.0)
    rows = encode(tokenizer, list(frame["text"]), targets, max_tokens=options.max_length)
    task = Task(rows, labels, num_classes, tokenizer, options.max_length, settings)
    val_rows = tokenizer(list(val["text"]), truncation=True, max_length=options.max_length)["input_ids"]
    lengths = [len(row["input_ids"]) for row in rows]
    print(
        f"{len(rows)} texts of {np.mean(lengths):.1f} tokens on average, cut at {options.max_length} "
        f"({np.mean(np.array(lengths) == options.max_length):.1%} reach it); {settings.epochs:g} epochs, batch "
        f"{settings.batch_size}, lr {settings.lr:g}\nattention "
        f"{new_model(task, seed=first_seed).encoder.body.config._attn_implementation}, {options.threads} threads, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )
    warm_up = [(name, -1) for name in SYSTEMS]
    names = list(SYSTEMS)
    # In turn, and every second time backwards, so that a slow minute does not meet always the same system.
    turns = [(name, turn) for turn in range(options.repeats) for name in (names[::-1] if turn % 2 else names)]
    rates: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    right: dict[str, list[np.ndarray]] = {name: [] for name in SYSTEMS}
    for name, turn in progress([*warm_up, *turns], name="fine-tuning", unit="run"):
        if turn < 0:
            train(name, task.first(WARM_UP_BATCHES * settings.batch_size), seed=first_seed)
            continue
        rate, model = train(name, task, seed=first_seed + turn)
        rates[name].append(rate)
        probs = rows_log_probs(model, tokenizer, val_rows, name="val")
        right[name].append(probs.argmax(axis=1) == val["label"].to_numpy())
    # Per text, the share of the seeds with which it was judged rightly.
    correct = {name: np.mean(values, axis=0) for name, values in right.items()}
    print_speeds(rates, correct)
    gain, low, high = paired_gain(correct[ASSAY], correct[PADDED], val["group"].to_numpy())
    print(
        f"accuracy on val, n {len(val)}, mean of {options.repeats} seed(s): assay {correct[ASSAY].mean():.4f}, padded "
        f"{correct[PADDED].mean():.4f}, paired difference {gain:+.4f} [{low:+.4f}, {high:+.4f}]"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
