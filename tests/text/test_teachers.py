"""What teachers say: none, the linear one out of fold, a trained classifier from a folder."""

from pathlib import Path

import numpy as np
import pytest
import torch

from assay.params.text import Linear
from assay.text.classifier import load_tokenizer
from assay.text.linear import out_of_fold_probs
from assay.text.prediction import load_predictor
from assay.text.teachers import TAUGHT, said_probs, teacher_probs

LINEAR = Linear(max_ngram=2, c=2.0)
CLASSES = ["bad", "good"]


@pytest.fixture
def ask(train_settings):
    """Function to what a teacher says of rows."""

    def said(teacher, rows, network=Path("nowhere")):
        settings = train_settings()
        distillation = settings.distillation.model_copy(update={"teacher": teacher})
        settings = settings.model_copy(update={"distillation": distillation})
        return teacher_probs(settings, LINEAR, rows, classes=CLASSES, network=network, seed=0)

    return said


@pytest.fixture
def trained(text_encoder, tmp_path, make_classifier, save_ensemble):
    """Function to the folder of a classifier of these classes."""

    def folder(classes):
        model = make_classifier(text_encoder, seed=1, num_classes=len(classes))
        with torch.no_grad():
            model.head.weight.mul_(50)
        return save_ensemble(tmp_path, [model], load_tokenizer(text_encoder), classes, scale=[0.5] * len(classes))

    return folder


def test_the_linear_teacher_speaks_out_of_fold_and_none_says_nothing(make_rows, ask):
    rows = make_rows(60, num_classes=3, noise=0.2).assign(group=np.arange(60) // 2)
    assert ask("none", rows) is None
    found = ask("linear", rows)
    assert found.shape == (60, 3)
    columns = rows["label"].to_numpy(), rows["group"].to_numpy()
    assert np.array_equal(found, out_of_fold_probs(list(rows["text"]), *columns, seed=0, max_ngram=2, c=2.0))


def test_a_folder_teaches_its_calibrated_probabilities(make_rows, ask, trained):
    folder, rows = trained(CLASSES), make_rows(20)
    found = ask(f"folder: {folder}", rows)
    predictor = load_predictor(folder)
    assert np.allclose(found, predictor.batch_predict(list(rows["text"]))[["p_bad", "p_good"]], atol=1e-6)
    assert not np.allclose(np.log(found), predictor.member_log_probs(list(rows["text"]))[0], atol=0.05)


def test_the_pretrained_network_teaches_what_it_left_and_of_no_other_texts(make_rows, ask, tmp_path):
    rows = make_rows(6)
    logits = np.array([[3.0, 1.0], [0.0, 0.0], [-2.0, 2.0], [1.0, 0.0], [0.0, 5.0], [2.0, 2.0]], dtype=np.float32)
    said_probs(logits, [rows[:2], rows[2:]], CLASSES).to_parquet(tmp_path / TAUGHT)
    found = ask("pretrained", rows, tmp_path)
    assert np.allclose(found, torch.softmax(torch.from_numpy(logits).double(), dim=1))
    with pytest.raises(ValueError, match="is of other texts: run dvc repro train_text@pretrained"):
        ask("pretrained", make_rows(7), tmp_path)
    assert np.array_equal(ask("pretrained", rows.iloc[[4, 4, 0]], tmp_path), found[[4, 4, 0]])


def test_another_teacher_and_one_of_other_classes_are_rejected(make_rows, ask, trained):
    cases = {
        "tree": "distillation.teacher 'tree': allowed are none, linear, pretrained and 'folder: PATH'",
        "Linear": "allowed are none, linear",
        "folder: nowhere": r"no ensemble.json in nowhere",
        f"folder:{trained(['a', 'b', 'c'])}": r"knows \['a', 'b', 'c'\], not",
    }
    for teacher, message in cases.items():
        with pytest.raises(ValueError, match=message):
            ask(teacher, make_rows(10))
