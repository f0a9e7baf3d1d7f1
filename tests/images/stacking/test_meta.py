"""The meta-model: search, bake-off, choice, and the way to disk and back."""

import copy
import json
import pickle
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_score

from assay.core.params import read_yaml, validate
from assay.images.stacking import meta
from assay.images.stacking.meta_model import CANDIDATES, MetaModel
from assay.images.stacking.saved import load_meta, save_meta
from assay.params.stacking import MetaSearch, Stacking

ROOT = Path(__file__).resolve().parents[3]
EXPERTS = ("one", "two")
SMALL = {"n_estimators": 20, "num_leaves": 7, "min_child_samples": 10}


def settings(**changes: Any) -> MetaSearch:
    content = copy.deepcopy(read_yaml(ROOT / "params.yaml"))
    search = content["train_meta"]["search"]
    search["num_candidates"] = 4
    search["ranges"]["n_estimators"] = [5, 30]
    search |= changes
    return validate(Stacking, content).train_meta.search


def classifiers() -> dict[str, Any]:
    model = meta.lightgbm_classifier(seed=0, threads=1, **SMALL)
    return {"experts": EXPERTS, "expert": 1, "model": model, "logits_model": model}


def rows(num_rows: int = 600, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X_meta float32 [n, 2 * 4 + 2] that knows something of its labels; labels; base folds."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=num_rows)
    embeddings = rng.normal(size=(num_rows, 8)) + 0.5 * labels[:, None] * rng.normal(size=8)
    logits = 1.5 * (labels[:, None] - 0.5) + rng.normal(size=(num_rows, 2))
    return np.concatenate([embeddings, logits], axis=1).astype(np.float32), labels, np.arange(num_rows) % 5


def held_out_auc(features: np.ndarray, labels: np.ndarray, fold: np.ndarray, *, seed: int, **best: Any) -> float:
    model = meta.lightgbm_classifier(seed=seed, threads=1, **best)
    return cross_val_score(model, features, labels, cv=PredefinedSplit(fold), scoring="roc_auc").mean()


def test_the_search_is_deterministic_within_its_ranges_and_scores_held_out_folds() -> None:
    features, labels, fold = rows()
    chosen = settings()
    runs = [meta.search(features, labels, fold, settings=chosen, seed=3, threads=1) for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0] != meta.search(features, labels, fold, settings=chosen, seed=4, threads=1)
    best, score = runs[0]
    ranges = chosen.ranges.model_dump()
    assert best.keys() == ranges.keys()
    assert all(low <= best[name] <= high for name, (low, high) in ranges.items())
    assert json.loads(json.dumps(best)) == best
    assert 0.7 < score < 1
    assert score == held_out_auc(features, labels, fold, seed=3, **best)


def test_a_grid_is_tried_whole_and_its_best_taken() -> None:
    features, labels, fold = rows()
    grid = {"num_leaves": [2, 15], "n_estimators": [1, 40]}
    best, score = meta.search(features, labels, fold, settings=settings(method="grid", grid=grid), seed=0, threads=1)
    tried = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    scores = [held_out_auc(features, labels, fold, seed=0, **values) for values in tried]
    assert score == max(scores)
    assert scores[tried.index(best)] == score
    bad = settings(method="grid", grid={"subsample": [-1.0]})
    with pytest.raises(Exception, match="bagging_fraction"):  # and no other value is taken in its place
        meta.search(features, labels, fold, settings=bad, seed=0, threads=1)


def test_subsample_has_an_effect() -> None:
    features, labels, _ = rows()

    def probs(**changes: Any) -> np.ndarray:
        model = meta.lightgbm_classifier(seed=0, threads=1, **SMALL, **changes)
        return model.fit(features, labels).predict_proba(features)

    assert not np.array_equal(probs(subsample=0.5), probs())
    assert np.array_equal(probs(subsample=0.5, subsample_freq=0), probs())
    assert np.array_equal(probs(subsample=0.5), probs(subsample=0.5))


def test_shuffled_labels_give_half_through_search_and_bake_off() -> None:
    seed = 0
    features, labels, fold = rows(1000, seed=seed)
    groups = np.arange(len(labels)) // 2

    def chain(labels: np.ndarray) -> dict[str, float]:
        best, score = meta.search(features, labels, fold, settings=settings(), seed=seed, threads=1)
        tools = classifiers() | {"model": meta.lightgbm_classifier(seed=seed, threads=1, **best)}
        probs = meta.candidate_probs(features, labels, fold, **tools)
        aucs = {name: float(roc_auc_score(labels, values)) for name, values in probs.items()}
        held, inner = meta.inner_split(tools["model"], features, labels, groups, seed=seed)
        assert len(held) == len(inner) == 100
        assert not set(groups[held]) & set(np.delete(groups, held))
        return aucs | {"search": score, "inner": float(roc_auc_score(labels[held], inner))}

    real = chain(labels)
    assert min(real.values()) > 0.7
    shuffled = chain(np.random.default_rng(seed).permutation(labels))
    assert shuffled.keys() == {*CANDIDATES, "search", "inner"}
    inner = shuffled.pop("inner")
    assert inner == pytest.approx(0.5, abs=0.2), "on 100 rows"
    assert list(shuffled.values()) == pytest.approx([0.5] * len(shuffled), abs=0.08)


def test_held_out_probabilities_come_from_models_that_did_not_see_the_fold() -> None:
    features, labels, fold = rows()
    probs = meta.candidate_probs(features, labels, fold, **classifiers())
    assert np.array_equal(probs["single"], expit(features[:, -1].astype(np.float64)))
    assert np.array_equal(probs["mean_logit"], expit(features[:, -2:].astype(np.float64).mean(axis=1)))
    held_out = fold == 2
    for kind in ("logistic", "lightgbm_logits", "lightgbm"):
        fitted = meta.fit_meta(kind, features[~held_out], labels[~held_out], **classifiers())
        np.testing.assert_allclose(probs[kind][held_out], fitted.probs(features[held_out]), rtol=1e-12)


@pytest.mark.parametrize("kind", CANDIDATES)
def test_every_kind_comes_back_bit_equal_from_its_files(kind: str, tmp_path: Path) -> None:
    features, labels, _ = rows()
    model = meta.fit_meta(kind, features, labels, **classifiers())
    save_meta(tmp_path, model, {"threshold": 0.5})
    found, info = load_meta(tmp_path)
    assert info == {"threshold": 0.5}
    assert (found.kind, found.experts) == (kind, EXPERTS)
    assert np.array_equal(found.probs(features), model.probs(features))
    assert np.array_equal(found.logits(features), model.logits(features))
    files = {path.name for path in tmp_path.iterdir()}
    assert files == ({"meta.json", "trees.safetensors"} if kind.startswith("lightgbm") else {"meta.json"})


def test_logits_are_finite_and_the_log_odds_of_the_probabilities() -> None:
    features, labels, _ = rows()
    for kind in CANDIDATES:
        model = meta.fit_meta(kind, features, labels, **classifiers())
        np.testing.assert_allclose(expit(model.logits(features)), model.probs(features), rtol=1e-9)
    fitted = classifiers()["model"].fit(features, labels)
    assert np.array_equal(model.probs(features), fitted.predict_proba(features)[:, 1]), "the last is LightGBM's own"
    features[0, -2:], features[1, -2:] = 500, -500
    extreme = MetaModel("mean_logit", EXPERTS).logits(features)[:2]
    assert np.isfinite(extreme).all()
    assert extreme[0] > 15 > -15 > extreme[1]


def test_stale_trees_are_not_taken_up(tmp_path: Path) -> None:
    features, labels, _ = rows()
    save_meta(tmp_path, meta.fit_meta("lightgbm", features, labels, **classifiers()), {})
    stale = (tmp_path / "trees.safetensors").read_bytes()
    logistic = meta.fit_meta("logistic", features, labels, **classifiers())
    save_meta(tmp_path, logistic, {})
    assert not (tmp_path / "trees.safetensors").exists()
    (tmp_path / "trees.safetensors").write_bytes(stale)
    found, _ = load_meta(tmp_path)
    assert found.trees is None
    assert np.array_equal(found.probs(features), logistic.probs(features))


class Payload:
    """Pickled, it writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "ran")


def test_loading_runs_no_code(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    content = pickle.dumps(Payload(trace), protocol=0)
    pickle.loads(content)  # noqa: S301
    assert trace.is_file(), "the payload works"
    trace.unlink()
    features, labels, _ = rows(100)
    save_meta(tmp_path, meta.fit_meta("lightgbm", features, labels, **classifiers()), {})
    (tmp_path / "trees.safetensors").write_bytes(content)
    with pytest.raises(ValueError):
        load_meta(tmp_path)
    assert not trace.exists()


def test_files_that_do_not_fit_each_other_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no meta.json in .*run dvc repro train_meta"):
        load_meta(tmp_path)
    features, labels, _ = rows(100)
    save_meta(tmp_path, meta.fit_meta("lightgbm_logits", features, labels, **classifiers()), {})
    (tmp_path / "trees.safetensors").unlink()
    with pytest.raises(ValueError, match=r"trees.safetensors can't be read .*run dvc repro train_meta"):
        load_meta(tmp_path)
    record = json.loads((tmp_path / "meta.json").read_text())
    record["model"]["kind"] = "oracle"
    (tmp_path / "meta.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="kind 'oracle' is unknown; known are"):
        load_meta(tmp_path)


def test_reduced_single_needs_one_expert_and_says_the_same() -> None:
    features, _, _ = rows()
    for expert, other in ((0, -1), (1, -2)):
        model = MetaModel("single", EXPERTS, expert=expert)
        small = model.reduced()
        assert small.experts == (EXPERTS[expert],)
        assert np.array_equal(small.logits(np.delete(features, other, axis=1)), model.logits(features))
    both = MetaModel("mean_logit", EXPERTS)
    assert both.reduced() is both
