"""The linear model as arrays against scikit-learn's pipeline, and probabilities out of fold."""

import numpy as np
import pytest

from assay.text.linear import fit_linear, load_linear, make_linear, out_of_fold_probs, save_linear

OPTIONS = {"max_ngram": 3, "c": 2.0, "seed": 0}
NEW = ["房间不错", "Aa龘", "", "  ", "很差很差一般", "没见过的字", "👍" * 50]


@pytest.mark.parametrize("num_classes", [2, 3])
def test_it_is_the_fitted_pipeline_and_the_loaded_one_too(make_rows, tmp_path, num_classes):
    rows = make_rows(120, num_classes=num_classes, noise=0.3)
    texts, labels = list(rows["text"]), rows["label"].to_numpy()
    pipeline = make_linear(**OPTIONS).fit(texts, labels)
    model = fit_linear(texts, labels, **OPTIONS)
    found, expected = model.log_probs(texts + NEW), pipeline.predict_log_proba(texts + NEW)
    assert found.shape == (127, num_classes)
    assert np.allclose(found, expected, atol=1e-9)
    assert np.ptp(found, axis=0).min() > 1
    save_linear(tmp_path, model)
    # Nothing that could run code.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["linear.json", "linear.parquet"]
    again = load_linear(tmp_path)
    assert again.grams == model.grams
    assert np.array_equal(again.log_probs(texts + NEW), found)


def test_a_damaged_folder_is_told(make_rows, tmp_path):
    rows = make_rows(40)
    save_linear(tmp_path, fit_linear(list(rows["text"]), rows["label"].to_numpy(), **OPTIONS))
    for damage in (lambda path: path.write_text('{"max_ngram": 3}'), lambda path: path.unlink()):
        damage(tmp_path / "linear.json")
        with pytest.raises(ValueError, match="no linear model that can be read"):
            load_linear(tmp_path)


def test_a_text_is_judged_by_a_model_that_has_not_seen_its_group():
    """The class of a text follows from a word of its group alone: one that saw the group knows it, others can't."""
    rng = np.random.default_rng(0)
    words = [chr(0x4E00 + 3 * number) for number in range(60)]
    groups = np.repeat(np.arange(60), 4)
    labels = np.repeat(rng.permutation(np.arange(60) % 2), 4)
    texts = [words[group] * 3 for group in groups]
    options = {"max_ngram": 2, "c": 100.0, "seed": 0}
    seen = np.exp(fit_linear(texts, labels, **options).log_probs(texts))
    assert (seen[np.arange(240), labels] > 0.9).all()
    honest = out_of_fold_probs(texts, labels, groups, **options)
    assert honest.shape == (240, 2)
    # The words of the group are new to the model: what is left is the share of the classes.
    assert (honest.max(axis=1) < 0.7).all()
    leaky = out_of_fold_probs(texts, labels, np.arange(240) % 5, **options)
    assert (leaky[np.arange(240), labels] > 0.9).all()
    assert np.allclose(leaky.sum(axis=1), 1)
