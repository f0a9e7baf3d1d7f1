"""Runs that were killed go on to the very weights and history of a run that was not, in pretraining and fine-tuning."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import TrainerCallback

import assay.text.pretraining as pretraining
import assay.text.training as training
from assay.core.params import load
from assay.params.text import Text
from assay.text.classifier import TextClassifier, load_tokenizer
from assay.text.encoder import load_encoder
from assay.text.masking import WholeWordCollator

ROOT = Path(__file__).parents[2]
METRICS = ("accuracy", "f1", "precision", "recall")
SMALL = {"batch_size": 8, "lr": 1e-3, "max_tokens": 24, "warmup": 0.25, "weight_decay": 0.01}
FINE = SMALL | {"epochs": 3.0, "eval_every": 0.5}
# 6 steps an epoch (24 in pretraining); the kill comes between two checkpoints, where dropout and a new epoch's batches
# have been drawn.
JOBS = {
    "last": FINE | {"keep": "last", "length_grouped": True},
    "early_stopping": FINE | {"keep": "best", "early_stopping": 3, "epochs": 6.0, "length_grouped": False},
    "pretrain": SMALL | {"epochs": 3.0, "batch_size": 2},
}
KILLS = {"last": 12, "early_stopping": 14, "pretrain": 55}
# Best at step 6: with a patience of 3 it is over after 9, 12 and 15, whenever it was killed.
BEST = 6


class KilledError(Exception):
    """Ends a training between two checkpoints: on the disk is what a kill would leave."""


class Watch(TrainerCallback):
    """Tells the step, and ends the training after that of number ``kill``."""

    step = 0

    def __init__(self, kill: int) -> None:
        self.kill = kill

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        Watch.step = state.global_step
        if state.global_step == self.kill:
            raise KilledError


def falling(truth: Any, predicted: Any, *, num_classes: int) -> dict[str, float]:
    """Metrics that are best at one step."""
    return dict.fromkeys(METRICS, 0.9 - 0.01 * abs(Watch.step - BEST))


def run_job(name: str, base: Path, rows: pd.DataFrame, folder: Path, *, kill: int = 0) -> dict[str, Any]:
    """Weights and history of one job, its checkpoints in ``folder``."""
    params, tokenizer = load(Text, ROOT / "params.yaml"), load_tokenizer(base)
    texts, seed = list(rows["text"]), 3
    torch.manual_seed(seed)
    encoder, trainer = load_encoder(base, dropout=0.1), training.TextTrainer

    def watched(**options: Any) -> Any:
        return trainer(**options | {"callbacks": [Watch(kill), *options["callbacks"]]})

    with pytest.MonkeyPatch.context() as patch:
        if name == "pretrain":
            trainer = pretraining.LengthGroupedTrainer
            patch.setattr(pretraining, "LengthGroupedTrainer", watched)
            model = pretraining.MaskedLanguageModel(encoder)
            ids = np.arange(5, len(tokenizer))
            collator = WholeWordCollator(vocab_ids=ids, seed=seed, share=0.3, mask_id=4, pad_id=0)
            data = pretraining.with_words(tokenizer, texts, max_tokens=24, name="train")
            settings = params.pretrain_text.model_copy(update=JOBS[name])
            history = pretraining.pretrain(model, data, collator, settings, folder, seed=seed, cpu=True)
        else:
            patch.setattr(training, "TextTrainer", watched)
            if name == "early_stopping":
                patch.setattr(training, "class_metrics", falling)
            sizes = {"num_classes": 2, "max_tokens": 24, "pooling": "mean", "dropout": 0.1, "token_dropout": 0.2}
            model = TextClassifier(encoder, tokenizer, **sizes)
            targets = training.soft_targets(rows["label"].to_numpy(), num_classes=2, teacher=None, weight=0)
            data = training.encode(tokenizer, texts, targets, max_tokens=24)
            settings = params.train_text.own.model_copy(update=JOBS[name])
            options = {"class_weights": None, "seed": seed, "cpu": True}
            history = training.fine_tune(model, tokenizer, data, data[:8], settings, folder, **options)
    kept = ("step", "loss", "learning_rate", "eval_loss", "eval_accuracy")
    lines = [{key: row[key] for key in kept if key in row} for row in history]
    return {"weights": model.state_dict(), "history": [line for line in lines if len(line) > 1]}


@pytest.mark.parametrize("name", JOBS)
def test_weights_and_history_are_equal_to_the_bit(text_encoder, make_rows, tmp_path, capsys, name):
    rows, straight, killed = make_rows(48), tmp_path / "straight", tmp_path / "killed"
    with pytest.raises(KilledError):
        run_job(name, text_encoder, rows, killed, kill=KILLS[name])
    steps = [int(path.name.split("-")[1]) for path in killed.glob("checkpoint-*")]
    assert 0 < max(steps) < KILLS[name]
    expected = run_job(name, text_encoder, rows, straight)
    Watch.step = 0
    resumed = run_job(name, text_encoder, rows, killed)
    assert capsys.readouterr().out.count(": resuming from") == 1
    assert expected["weights"].keys() == resumed["weights"].keys()
    for key, value in expected["weights"].items():
        assert torch.equal(value, resumed["weights"][key]), key
    if name == "early_stopping":
        # It has not forgotten its patience.
        assert [max(line["step"] for line in run["history"]) for run in (expected, resumed)] == [15, 15]
    else:
        assert len(expected["history"]) > 4
        assert json.dumps(resumed["history"]) == json.dumps(expected["history"])
