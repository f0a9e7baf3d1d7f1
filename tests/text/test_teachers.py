"""What teachers say: none, the linear one out of fold, a trained classifier from a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from assay.params.text import TrainText
from assay.text.classifier import build_classifier, load_tokenizer, save_classifier
from assay.text.encoder import load_encoder
from assay.text.linear import out_of_fold_probs
from assay.text.prediction import load_predictor
from assay.text.teachers import teacher_probs

Rows = Callable[..., pd.DataFrame]
Settings = Callable[..., TrainText]

CLASSES = ["bad", "good"]


def taught(settings: Settings, teacher: str) -> TrainText:
    found = settings()
    return found.model_copy(update={"distillation": found.distillation.model_copy(update={"teacher": teacher})})


def trained(folder: Path, encoder: Path, classes: list[str]) -> Path:
    torch.manual_seed(1)
    tokenizer = load_tokenizer(encoder)
    how = {"num_classes": len(classes), "dropout": 0.0, "token_dropout": 0.0}
    model = build_classifier(load_encoder(encoder), tokenizer, pooling="mean", **how)
    with torch.no_grad():
        model.head.weight.mul_(50)
    save_classifier(folder / "network_0", model, tokenizer)
    record = {"classes": classes, "networks": ["network_0"], "fuse_linear": False, "max_tokens": 24}
    record |= {"unicode_form": "NFKC", "weights": [1.0], "temperature": 2.0}
    (folder / "ensemble.json").write_text(json.dumps(record))
    return folder


def test_without_distillation_there_is_no_teacher(make_rows: Rows, train_settings: Settings) -> None:
    assert teacher_probs(taught(train_settings, "none"), make_rows(10), classes=CLASSES, seed=0) is None


def test_the_linear_teacher_speaks_out_of_fold(make_rows: Rows, train_settings: Settings) -> None:
    rows = make_rows(60, num_classes=3, noise=0.2).assign(group=np.arange(60) // 2)
    how = taught(train_settings, "linear")
    expected = out_of_fold_probs(
        list(rows["text"]), rows["label"].to_numpy(), rows["group"].to_numpy(), seed=0, **how.linear.model_dump()
    )
    found = teacher_probs(how, rows, classes=CLASSES, seed=0)
    assert found is not None
    assert found.shape == (60, 3)
    assert np.array_equal(found, expected)


def test_a_folder_teaches_its_calibrated_probabilities(
    make_rows: Rows, train_settings: Settings, text_encoder: Path, tmp_path: Path
) -> None:
    folder, rows = trained(tmp_path, text_encoder, ["bad", "good"]), make_rows(20)
    found = teacher_probs(taught(train_settings, f"folder: {folder}"), rows, classes=CLASSES, seed=0)
    assert found is not None
    predictor = load_predictor(folder)
    assert np.allclose(found, predictor.batch_predict(list(rows["text"]))[["p_bad", "p_good"]], atol=1e-6)
    assert not np.allclose(np.log(found), predictor.member_log_probs(list(rows["text"]))[0], atol=0.05)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("tree", "train_text.distillation.teacher 'tree': allowed are none, linear and 'folder: PATH'"),
        ("Linear", "allowed are none, linear"),
        ("folder: nowhere", r"no ensemble.json in nowhere"),
    ],
)
def test_another_teacher_is_refused(make_rows: Rows, train_settings: Settings, teacher: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        teacher_probs(taught(train_settings, teacher), make_rows(10), classes=CLASSES, seed=0)


def test_a_teacher_of_other_classes_is_refused(
    make_rows: Rows, train_settings: Settings, text_encoder: Path, tmp_path: Path
) -> None:
    folder = trained(tmp_path, text_encoder, ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"knows \['a', 'b', 'c'\], not"):
        teacher_probs(taught(train_settings, f"folder:{folder}"), make_rows(10), classes=CLASSES, seed=0)
