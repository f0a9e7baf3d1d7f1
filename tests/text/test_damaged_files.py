"""``assay text`` with a classifier changed at random: an answer or one sentence, never a crash or a traceback."""

import pytest
import torch

from assay.shipped.sums import write_sums
from assay.text.classifier import load_tokenizer
from assay.text.linear import fit_linear, save_linear
from assay_tools.fuzz import attack_models, few


@pytest.mark.parametrize("verify", [True, False])
def test_of_a_changed_classifier_nothing_is_loaded_or_one_sentence_is_said(
    text_encoder, make_rows, make_classifier, save_ensemble, tmp_path, verify
):
    folder, rows = tmp_path / "classifier", make_rows(60)
    model = make_classifier(text_encoder, num_classes=2).eval()
    save_linear(folder / "linear", fit_linear(list(rows["text"]), rows["label"].to_numpy(), max_ngram=2, c=1.0, seed=0))
    save_ensemble(folder, [model], load_tokenizer(text_encoder), ["bad", "good"], fuse_linear=True, weights=[0.5, 0.5])
    write_sums(folder, ["*", "*/*"])
    torch.set_num_threads(1)
    arguments = ["text", "房间不错", "--models", str(folder), "--device", "cpu", "--threads", "1"]
    assert (
        attack_models(folder, arguments + ["--no-verify"] * (not verify), few(2 if verify else 8), tmp_path / "log")
        == []
    )
