"""What a teacher says of the training texts, for distillation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from assay.params.text import Linear, TrainText
from assay.text.linear import out_of_fold_probs
from assay.text.prediction import load_predictor


def teacher_probs(
    settings: TrainText, linear: Linear, train: pd.DataFrame, *, classes: list[str], seed: int
) -> np.ndarray | None:
    """Probabilities float [n, num_classes] of the rows of ``train`` (text, label, group); None without distillation.

    The linear teacher's are out of fold. A classifier in a folder must have been trained on other texts.

    Raises:
        ValueError: no such teacher, or one with other classes.
    """
    teacher, texts, labels = settings.distillation.teacher, list(train["text"]), train["label"].to_numpy()
    if teacher == "none":
        return None
    if teacher == "linear":
        return out_of_fold_probs(texts, labels, train["group"].to_numpy(), seed=seed, **linear.model_dump())
    if not teacher.startswith("folder:"):
        raise ValueError(f"train_text.distillation.teacher {teacher!r}: allowed are none, linear and 'folder: PATH'")
    predictor = load_predictor(Path(teacher.removeprefix("folder:").strip()))
    if list(predictor.classes) != classes:
        raise ValueError(f"train_text.distillation.teacher {teacher!r} knows {list(predictor.classes)}, not {classes}")
    probs: np.ndarray = np.exp(predictor.log_probs(texts))
    return probs
