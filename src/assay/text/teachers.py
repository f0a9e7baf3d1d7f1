"""What a teacher says of the training texts, for distillation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

from assay.params.text import Linear, TextNetwork
from assay.text.linear import out_of_fold_probs
from assay.text.prediction import load_predictor

# What the pretrained network says of the training texts and of unlabelled ones, in its folder.
TAUGHT = "taught.parquet"


def said_probs(logits: np.ndarray, parts: Sequence[pd.DataFrame], classes: list[str]) -> pd.DataFrame:
    """What a network says of the rows of ``parts`` (sample_id), part after part: sample_id and a column for each class."""
    probs = pd.DataFrame(softmax(logits.astype(np.float64), axis=1), columns=classes)
    return pd.concat([pd.concat([part[["sample_id"]] for part in parts], ignore_index=True), probs], axis=1)


def taught_probs(network: Path, rows: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """What the pretrained network in a folder left of rows (sample_id), float [n, num_classes].

    A changed copy of a text is told what the teacher says of its origin. ValueError if the network was of other texts.
    """
    said = pd.read_parquet(network / TAUGHT).set_index("sample_id")
    if not set(rows["sample_id"]) <= set(said.index):
        raise ValueError(f"{network / TAUGHT} is of other texts: run dvc repro train_text@pretrained")
    found: np.ndarray = said.loc[rows["sample_id"], classes].to_numpy()
    return found


def teacher_probs(
    settings: TextNetwork, linear: Linear, train: pd.DataFrame, *, classes: list[str], network: Path, seed: int
) -> np.ndarray | None:
    """Probabilities float [n, num_classes] of the rows of ``train`` (sample_id, text, label, group); None without teacher.

    The linear teacher's are out of fold. A classifier in a folder must have been trained on other texts. The pretrained
    network has seen the labels, as a teacher has (Hinton et al. 2015): few passes over them leave it unsure.

    Args:
        network: folder of the pretrained network.

    Raises:
        ValueError: no such teacher, one with other classes, or one of other texts.
    """
    teacher, texts, labels = settings.distillation.teacher, list(train["text"]), train["label"].to_numpy()
    if teacher == "none":
        return None
    if teacher == "linear":
        return out_of_fold_probs(texts, labels, train["group"].to_numpy(), seed=seed, **linear.model_dump())
    if teacher == "pretrained":
        return taught_probs(network, train, classes)
    if not teacher.startswith("folder:"):
        raise ValueError(f"distillation.teacher {teacher!r}: allowed are none, linear, pretrained and 'folder: PATH'")
    predictor = load_predictor(Path(teacher.removeprefix("folder:").strip()))
    if list(predictor.classes) != classes:
        raise ValueError(f"distillation.teacher {teacher!r} knows {list(predictor.classes)}, not {classes}")
    probs: np.ndarray = np.exp(predictor.log_probs(texts))
    return probs
