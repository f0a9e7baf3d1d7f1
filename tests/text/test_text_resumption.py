"""Runs that were killed go on to the very weights and history of a run that was not, in pretraining and fine-tuning."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
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
SMALL: dict[str, Any] = {"batch_size": 8, "lr": 1e-3, "max_tokens": 24, "warmup": 0.25, "weight_decay": 0.01}
FINE: dict[str, Any] = SMALL | {"epochs": 3.0, "eval_every": 0.5}
# 6 steps an epoch (24 in pretraining); the kill comes between two checkpoints, where dropout and a new epoch's batches
# have been drawn.
JOBS: dict[str, dict[str, Any]] = {
    "last": FINE | {"keep": "last", "length_grouped": True},
    "shuffled": FINE | {"keep": "best", "length_grouped": False},
    "early_stopping": FINE | {"keep": "best", "early_stopping": 3, "epochs": 6.0},
    "pretrain": SMALL | {"epochs": 3.0, "batch_size": 2},
}
KILLS = {"last": 12, "shuffled": 11, "early_stopping": 14, "pretrain": 55}
# Best at step 6: with a patience of 3 it is over after 9, 12 and 15, whenever it was killed.
BEST = 6


class Watch(TrainerCallback):
    """Tells the step, and kills the process after that of number ``kill``."""

    step = 0

    def __init__(self, kill: int) -> None:
        self.kill = kill

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        Watch.step = state.global_step
        if state.global_step == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)


def falling(truth: Any, predicted: Any, *, num_classes: int) -> dict[str, float]:
    """Metrics that are best at one step."""
    return dict.fromkeys(METRICS, 0.9 - 0.01 * abs(Watch.step - BEST))


def run_job(name: str, base: Path, rows: pd.DataFrame, folder: Path, *, kill: int = 0) -> dict[str, Any]:
    """Weights and history of one job, its checkpoints in ``folder``."""
    params, tokenizer = load(Text, ROOT / "params.yaml"), load_tokenizer(base)
    texts, seed = list(rows["text"]), 3
    torch.manual_seed(seed)
    encoder, trainer = load_encoder(base, dropout=0.1), training.LengthGroupedTrainer

    def watched(**options: Any) -> Any:
        return trainer(**options | {"callbacks": [Watch(kill), *options["callbacks"]]})

    with pytest.MonkeyPatch.context() as patch:
        if name == "pretrain":
            patch.setattr(pretraining, "LengthGroupedTrainer", watched)
            model: Any = pretraining.MaskedLanguageModel(encoder)
            ids = np.arange(5, len(tokenizer))
            collator = WholeWordCollator(vocab_ids=ids, seed=seed, share=0.3, mask_id=4, pad_id=0)
            data = pretraining.with_words(tokenizer, texts, max_tokens=24, name="train")
            settings: Any = params.pretrain_text.model_copy(update=JOBS[name])
            history: Any = pretraining.pretrain(model, data, collator, settings, folder, seed=seed, cpu=True)
        else:
            patch.setattr(training, "LengthGroupedTrainer", watched)
            if name == "early_stopping":
                patch.setattr(training, "class_metrics", falling)
            sizes: dict[str, Any] = {"num_classes": 2, "pooling": "mean", "dropout": 0.1, "token_dropout": 0.2}
            model = TextClassifier(encoder, tokenizer, **sizes)
            targets = training.soft_targets(rows["label"].to_numpy(), num_classes=2, teacher=None, weight=0)
            data = training.encode(tokenizer, texts, targets, max_tokens=24)
            settings = params.train_text.model_copy(update=JOBS[name])
            options: dict[str, Any] = {"class_weights": None, "seed": seed, "cpu": True}
            history = training.fine_tune(model, tokenizer, data, data[:8], settings, folder, **options)
    kept = ("step", "loss", "learning_rate", "eval_loss", "eval_accuracy")
    lines = [{key: row[key] for key in kept if key in row} for row in history]
    return {"weights": model.state_dict(), "history": [line for line in lines if len(line) > 1]}


SCRIPT = textwrap.dedent(
    """
    import os, sys, traceback
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    import test_text_resumption as t
    t.torch.set_num_threads(1)
    rows = t.pd.read_parquet(sys.argv[3])
    for name in t.JOBS:
        # A process of its own for each, without the seconds of imports.
        child = os.fork()
        if child == 0:
            try:
                t.run_job(name, Path(sys.argv[2]), rows, Path(sys.argv[4]) / name, kill=t.KILLS[name])
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    """
)


@pytest.fixture(scope="module")
def rows(make_rows: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return make_rows(48)


@pytest.fixture(scope="module")
def killed(text_encoder: Path, rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder with the checkpoints of each job, as SIGKILL left them."""
    folder, threads = tmp_path_factory.mktemp("killed"), torch.get_num_threads()
    rows.to_parquet(folder / "rows.parquet")
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    where = [str(Path(__file__).parent), str(text_encoder), str(folder / "rows.parquet"), str(folder)]
    found = subprocess.run([sys.executable, "-c", SCRIPT, *where], env=env, capture_output=True, text=True, check=False)
    ends = [line for line in found.stdout.splitlines() if line.split()[0] in JOBS]
    assert ends == [f"{name} {-signal.SIGKILL}" for name in JOBS], found.stderr[-3000:]
    torch.set_num_threads(1)
    yield folder
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", JOBS)
def test_weights_and_history_are_equal_to_the_bit(
    killed: Path, text_encoder: Path, rows: pd.DataFrame, tmp_path: Path, name: str
) -> None:
    steps = [int(path.name.split("-")[1]) for path in (killed / name).glob("checkpoint-*")]
    assert 0 < max(steps) < KILLS[name]
    straight = run_job(name, text_encoder, rows, tmp_path)
    Watch.step = 0
    resumed = run_job(name, text_encoder, rows, killed / name)
    assert straight["weights"].keys() == resumed["weights"].keys()
    for key, value in straight["weights"].items():
        assert torch.equal(value, resumed["weights"][key]), key
    ends = [max(line["step"] for line in run["history"]) for run in (straight, resumed)]
    if name == "early_stopping":
        # It has not forgotten its patience.
        assert ends == [15, 15]
    else:
        assert len(straight["history"]) > 4
        assert json.dumps(resumed["history"]) == json.dumps(straight["history"])
