"""What a teacher says of the training texts, for distillation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from assay.params.text import TrainText
from assay.text.linear import out_of_fold_probs
from assay.text.prediction import load_predictor


def teacher_probs(settings: TrainText, train: pd.DataFrame, *, seed: int) -> np.ndarray | None:
    """Probabilities float [n, num_classes] of the rows of ``train`` (text, label, group); None without distillation.

    The linear teacher speaks out of fold. A classifier in a folder has to be one that was trained on other texts.

    Raises:
        ValueError: no such teacher, or one with other classes.
    """
    teacher, texts, labels = settings.distillation.teacher, list(train["text"]), train["label"].to_numpy()
    if teacher == "none":
        return None
    if teacher == "linear":
        groups, how = train["group"].to_numpy(), settings.linear.model_dump()
        return out_of_fold_probs(texts, labels, groups, seed=seed, **how)
    if not teacher.startswith("folder:"):
        raise ValueError(f"train_text.distillation.teacher {teacher!r}: allowed are none, linear and 'folder: PATH'")
    probs: np.ndarray = np.exp(load_predictor(Path(teacher.removeprefix("folder:").strip())).log_probs(texts))
    if probs.shape[1] != labels.max() + 1:
        raise ValueError(
            f"train_text.distillation.teacher {teacher!r} has {probs.shape[1]} classes, not {labels.max() + 1}"
        )
    return probs
