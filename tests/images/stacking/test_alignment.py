"""Procrustes against a planted map and scipy, and the measures that tell aligned folds from misaligned ones."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import procrustes
from scipy.stats import ortho_group
from sklearn.model_selection import PredefinedSplit, StratifiedKFold

from assay.images.stacking.alignment import (
    Alignment,
    coordinate_correlation,
    fit_procrustes,
    fold_predictability,
    identity,
)
from assay.images.stacking.alignment_report import alignment_report, probe_auc, save_alignment_data
from assay.images.stacking.out_of_fold import Stacked, feature_matrix
from assay.images.stacking.saved import load_alignments, save_alignments

DIM = 6
EXPERTS = ("one", "two")


def planted(seed: int, *, shift: float = 2.0, dim: int = DIM) -> Alignment:
    rng = np.random.default_rng(seed)
    return Alignment(np.zeros(dim), ortho_group.rvs(dim, random_state=seed), shift * rng.normal(size=dim))


def latent(num_rows: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_rows, DIM)).astype(np.float32)


def test_procrustes_recovers_a_planted_rotation_and_shift() -> None:
    source = latent(50)
    target = planted(1).apply(source)
    found = fit_procrustes(source, target)
    np.testing.assert_allclose(found.rotation, planted(1).rotation, atol=1e-5)
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(DIM), atol=1e-12)
    np.testing.assert_allclose(found.apply(latent(20, seed=9)), planted(1).apply(latent(20, seed=9)), atol=1e-5)
    assert found.apply(source).dtype == np.float32


def test_procrustes_equals_scipys_under_noise() -> None:
    source = latent(80)
    target = planted(2).apply(source) + np.random.default_rng(3).normal(scale=0.3, size=source.shape)
    ours = fit_procrustes(source, target).apply(source)
    # scipy scales the target to norm 1 and the fitted source by the best factor; the direction is the same.
    theirs = procrustes(target, source)[1]
    centred = ours - ours.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(centred / np.linalg.norm(centred), theirs / np.linalg.norm(theirs), atol=1e-6)


def test_one_anchor_more_than_dimensions_is_enough_and_fewer_are_an_error() -> None:
    source = latent(DIM + 1)
    found = fit_procrustes(source, planted(1).apply(source))
    np.testing.assert_allclose(found.rotation, planted(1).rotation, atol=1e-4)
    with pytest.raises(ValueError, match=f"{DIM} anchors can't fix a rotation in {DIM} dimensions"):
        fit_procrustes(source[1:], planted(1).apply(source[1:]))
    with pytest.raises(ValueError, match=r"differ in shape: \(20, 6\) and \(19, 6\)"):
        fit_procrustes(latent(20), latent(19))
    assert np.array_equal(identity(DIM).apply(source), source)


def test_correlation_is_one_for_equal_views_and_near_zero_for_rotated_ones() -> None:
    wide = np.random.default_rng(0).normal(size=(500, 64))
    assert coordinate_correlation([wide, 3 * wide + 1, wide]) == pytest.approx(1)
    assert coordinate_correlation([wide, -wide]) == pytest.approx(-1)
    rotated = [planted(seed, dim=64).apply(wide) for seed in range(3)]
    assert abs(coordinate_correlation(rotated)) < 0.05
    wide[:, :32] = 7
    assert coordinate_correlation([wide, 2 * wide]) == pytest.approx(1), "constant coordinates are left out"


def test_fold_predictability_is_chance_for_equal_spaces_and_one_for_shifted_ones() -> None:
    alike = [latent(300) + np.random.default_rng(seed).normal(scale=0.5, size=(300, DIM)) for seed in range(4)]
    assert fold_predictability(alike, seed=0) == pytest.approx(0.25, abs=0.06)
    shifted = [view + 5 * number for number, view in enumerate(alike)]
    assert fold_predictability(shifted, seed=0) > 0.98
    assert fold_predictability(shifted, seed=0) == fold_predictability(shifted, seed=0)


def test_alignments_come_back_bit_equal(tmp_path: Path) -> None:
    maps = {(expert, fold): planted(10 * i + fold) for i, expert in enumerate(EXPERTS) for fold in range(11)}
    save_alignments(tmp_path / "a.safetensors", maps)
    found = load_alignments(tmp_path / "a.safetensors")
    assert found.keys() == maps.keys()
    for key, item in maps.items():
        for part in ("source_mean", "rotation", "target_mean"):
            assert getattr(found[key], part).dtype == np.float64
            assert np.array_equal(getattr(found[key], part), getattr(item, part))
    again = tmp_path / "b.safetensors"
    save_alignments(again, dict(reversed(found.items())))
    assert again.read_bytes() == (tmp_path / "a.safetensors").read_bytes()


def stacked(keys: pd.DataFrame, embeddings: dict[str, np.ndarray]) -> Stacked:
    noise = {name: np.random.default_rng(5).normal(size=len(keys)).astype(np.float32) for name in embeddings}
    return Stacked(keys, embeddings, noise)


def keys_of(labels: np.ndarray, base_fold: np.ndarray) -> pd.DataFrame:
    ids = [f"s{n:04d}" for n in range(len(labels))]
    return pd.DataFrame({"sample_id": ids, "label": labels, "group_id": ids, "base_fold": base_fold})


def test_a_planted_misalignment_opens_the_gap_and_procrustes_closes_it(tmp_path: Path) -> None:
    num_folds, num_rows = 4, 800
    z, common = latent(num_rows), latent(150, seed=1)
    labels = (z[:, 0] + z[:, 1] > np.random.default_rng(2).normal(scale=0.5, size=num_rows)).astype(int)
    fold = np.arange(num_rows) % num_folds
    space = {(e, k): planted(100 * i + k) for i, e in enumerate(EXPERTS) for k in range(num_folds + 1)}
    raw = {e: np.stack([space[e, fold[n]].apply(z[[n]])[0] for n in range(num_rows)]) for e in EXPERTS}
    rows = stacked(keys_of(labels, fold), raw)
    anchors = [
        stacked(keys_of(np.zeros(150, dtype=int), np.full(150, k)), {e: space[e, k].apply(common) for e in EXPERTS})
        for k in range(num_folds)
    ]
    target = {e: space[e, num_folds].apply(common) for e in EXPERTS}
    maps = {(e, k): fit_procrustes(anchors[k].embeddings[e], target[e]) for e in EXPERTS for k in range(num_folds)}
    aligned = {e: np.stack([maps[e, fold[n]].apply(raw[e][[n]])[0] for n in range(num_rows)]) for e in EXPERTS}

    report = alignment_report(rows, aligned, anchors, maps, target, seed=0, threads=1)
    assert (report["n"], report["n_anchors"], report["chance"]) == (num_rows, 150, 0.25)
    assert report["raw.gap"] > 0.1
    assert abs(report["aligned.gap"]) < 0.02
    assert report["aligned.leave_base_fold_out_auc"] > report["raw.leave_base_fold_out_auc"] + 0.1
    assert report["raw.gap"] == report["raw.random_cv_auc"] - report["raw.leave_base_fold_out_auc"]
    assert report["raw.fold_predictability"] > 0.9
    assert report["aligned.fold_predictability"] == pytest.approx(0.25, abs=0.08)
    assert report["raw.correlation"] < 0.5
    assert report["aligned.correlation"] > 0.999
    assert report["raw.one.anchor_error"] > 0.5
    assert report["aligned.one.anchor_error"] < 1e-8

    save_alignment_data(tmp_path, report)
    table = pd.read_csv(tmp_path / "alignment.csv").set_index(["side", "measure"])["value"]
    assert table["aligned", "correlation"] == pytest.approx(report["aligned.correlation"])
    assert len(table) == 8


def test_a_label_leaked_into_one_folds_embedding_shows_as_a_gap() -> None:
    rng = np.random.default_rng(0)
    labels, fold = rng.integers(2, size=1000), np.arange(1000) % 5
    embedding = rng.normal(size=(1000, DIM)).astype(np.float32)

    def gap() -> float:
        features = feature_matrix({"one": embedding}, {"one": rng.normal(size=1000)})
        random = StratifiedKFold(5, shuffle=True, random_state=0)
        aucs = [probe_auc(features, labels, cv, seed=0, threads=1) for cv in (random, PredefinedSplit(fold))]
        return aucs[0] - aucs[1]

    assert abs(gap()) < 0.06
    embedding[fold == 0, 0] = 10 * (2 * labels[fold == 0] - 1)
    assert gap() > 0.1
