"""Procrustes against a planted map and scipy, and the measures that tell aligned folds from misaligned ones."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes, polar
from scipy.spatial import procrustes
from scipy.stats import ortho_group
from sklearn.model_selection import PredefinedSplit, StratifiedKFold

from assay.images.stacking.alignment import (
    Alignment,
    coordinate_correlation,
    effective_rank,
    fit_procrustes,
    fitter,
    fold_predictability,
    held_out_parts,
    identity,
)
from assay.images.stacking.alignment_report import alignment_report, probe_auc, rank_warnings, save_alignment_data
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
    found = fit_procrustes(source, target, np.arange(50))
    np.testing.assert_allclose(found.rotation, planted(1).rotation, atol=1e-5)
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(DIM), atol=1e-12)
    np.testing.assert_allclose(found.apply(latent(20, seed=9)), planted(1).apply(latent(20, seed=9)), atol=1e-5)
    assert found.apply(source).dtype == np.float32


def test_procrustes_equals_scipys_under_noise() -> None:
    source = latent(80)
    target = planted(2).apply(source) + np.random.default_rng(3).normal(scale=0.3, size=source.shape)
    ours = fit_procrustes(source, target, np.arange(80)).apply(source)
    # scipy scales the target to norm 1 and the fitted source by the best factor; the direction is the same.
    theirs = procrustes(target, source)[1]
    centred = ours - ours.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(centred / np.linalg.norm(centred), theirs / np.linalg.norm(theirs), atol=1e-6)


def flat(num_rows: int, rank: int, dim: int, *, seed: int) -> np.ndarray:
    """Points [n, dim] of a subspace of ``rank`` directions, the first of them the widest."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num_rows, rank)) * 0.7 ** np.arange(rank) @ np.eye(dim)[rng.permutation(dim)[:rank]]


@settings(max_examples=40, deadline=None)
@given(dim=st.integers(3, 20), rank=st.integers(1, 8), extra=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_any_orthogonal_map_is_found_in_the_directions_that_few_anchors_support(
    dim: int, rank: int, extra: int, seed: int
) -> None:
    rank = min(rank, dim - 1)
    points = flat(rank + extra + 50, rank, dim, seed=seed)
    anchors = points[: rank + extra]
    hidden = planted(seed, dim=dim)
    found = fitter(anchors, hidden.apply(anchors))(rank)
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(dim), atol=1e-9)
    np.testing.assert_allclose(found.apply(points), hidden.apply(points), atol=1e-3)
    assert found.variance == pytest.approx(1)


@settings(max_examples=40, deadline=None)
@given(dim=st.integers(2, 12), num_rows=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_with_few_anchors_the_map_is_orthogonal(dim: int, num_rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(2, min(num_rows, dim), dim))
    found = fit_procrustes(source, target, np.arange(len(source)) // 2)
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(dim), atol=1e-9)
    assert 0 <= found.directions < max(len(source), 1)
    assert 0 <= found.variance <= 1 + 1e-12


def test_among_equal_fits_the_map_nearest_to_the_identity_is_taken() -> None:
    # The anchors differ in the first two directions only, which are exchanged; the others stay as they are.
    anchors = np.zeros((5, 4))
    anchors[:, :2] = np.random.default_rng(0).normal(size=(5, 2))
    swap = np.eye(4)[[1, 0, 2, 3]]
    np.testing.assert_allclose(fitter(anchors, anchors @ swap)(2).rotation, swap, atol=1e-9)
    # The limit of Procrustes with a prior around the identity, whose weight falls.
    rotation = planted(4, dim=4).rotation
    prior = polar(anchors.T @ anchors @ rotation + 1e-8 * np.eye(4))[0]
    np.testing.assert_allclose(fitter(anchors, anchors @ rotation)(2).rotation, prior, atol=1e-6)


def test_as_many_directions_are_used_as_carry_over_to_other_groups() -> None:
    # Two wide directions are exchanged, thirty narrow ones stay where they are; every target is noisy.
    dim, num_rows = 32, 24
    rng, groups = np.random.default_rng(0), np.arange(num_rows) // 2
    source = rng.normal(size=(num_rows, dim)) * np.r_[3, 3, np.full(dim - 2, 0.4)]
    turned = source @ np.eye(dim)[[1, 0, *range(2, dim)]] + rng.normal(scale=0.4, size=source.shape)
    assert fit_procrustes(source, turned, groups).directions == 2
    unrelated = 9 + rng.normal(size=source.shape)
    assert fit_procrustes(source, unrelated, groups).directions == 0
    for item in (fit_procrustes(source, source, groups), fit_procrustes(source, turned, np.zeros(num_rows))):
        assert item.directions == 0
        assert np.array_equal(item.apply(source), source.astype(np.float32)), "nothing is gained: nothing is changed"


def test_more_anchors_than_dimensions_fix_the_whole_rotation() -> None:
    source = latent(DIM + 1)
    target = planted(1).apply(source)
    found = fit_procrustes(source, target, np.arange(DIM + 1))
    wanted = orthogonal_procrustes(*(a.astype(float) - a.astype(float).mean(axis=0) for a in (source, target)))[0]
    assert np.array_equal(found.rotation, wanted)
    np.testing.assert_allclose(found.rotation, planted(1).rotation, atol=1e-4)
    assert (found.directions, found.variance) == (DIM, 1.0)
    with pytest.raises(ValueError, match=r"differ in shape: \(20, 6\) and \(19, 6\)"):
        fit_procrustes(latent(20), latent(19), np.arange(20))
    assert np.array_equal(identity(DIM).apply(source), source)


def test_anchors_of_few_groups_turn_no_further_than_carries_over_however_many_they_are() -> None:
    dim, groups = 32, np.arange(400) // 80
    source = np.random.default_rng(0).normal(size=(400, dim))
    near = source + np.random.default_rng(1).normal(scale=0.5, size=source.shape)
    assert fit_procrustes(source, near, groups).directions < dim / 4
    assert fit_procrustes(source, near, np.arange(400)).directions == dim
    turned = planted(3, dim=dim).apply(source)
    assert fit_procrustes(source, turned, groups).directions == dim


def test_pure_noise_looks_aligned_on_the_anchors_that_fitted_the_map_and_not_on_others() -> None:
    dim, num_rows = 64, 200
    *views, target = np.random.default_rng(0).normal(size=(3, num_rows, dim))
    own = [fit_procrustes(view, target, np.arange(num_rows)).apply(view) for view in views]
    assert coordinate_correlation([*own, target]) > 0.2
    groups = np.arange(num_rows) // 2
    parts = list(held_out_parts(views, target, groups))
    assert sum(len(part.target) for part in parts) == num_rows
    found = [coordinate_correlation([*part.mapped, part.target]) for part in parts]
    assert abs(np.mean(found)) < 0.05
    order = np.concatenate(
        [np.flatnonzero((target[:, None] == part.target[None]).all(axis=2).any(axis=1)) for part in parts]
    )
    where = np.repeat(range(len(parts)), [len(part.target) for part in parts])[np.argsort(order)]
    assert np.array_equal(where[::2], where[1::2]), "a group stands in one part"
    assert list(held_out_parts(views, target, np.zeros(num_rows))) == []


def test_effective_rank_counts_directions_by_their_variance() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(100, 5))
    points = np.linalg.qr(points - points.mean(axis=0))[0]
    assert effective_rank(points + 7) == pytest.approx(5)
    assert effective_rank(planted(1, dim=5).apply(points)) == pytest.approx(5, rel=1e-4)
    assert effective_rank(points * [1, 1, 0, 0, 0]) == pytest.approx(2)
    shares = np.array([0.9, 0.1])
    wanted = float(np.prod(shares**-shares))
    assert effective_rank(points[:, :2] * np.sqrt(shares)) == pytest.approx(wanted)
    assert np.isnan(effective_rank(np.ones((9, 3))))
    (line,) = rank_warnings({"one.effective_rank": 1.4, "two.effective_rank": 20.0, "n_dimensions": 256}, EXPERTS)
    assert line.startswith("warning: the embeddings of one have an effective rank of 1.4 of 256 dimensions (below 8)")


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


def test_a_single_anchor_or_constant_embeddings_leave_the_measures_undefined() -> None:
    for views in ([latent(1)] * 3, [np.ones((20, DIM))] * 3):
        assert np.isnan(coordinate_correlation(views))
    assert np.isnan(fold_predictability([latent(1)] * 3, seed=0))
    assert fold_predictability([latent(2)] * 3, seed=0) <= 0.5


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
    maps = {
        (e, k): fit_procrustes(anchors[k].embeddings[e], target[e], np.arange(150))
        for e in EXPERTS
        for k in range(num_folds)
    }
    aligned = {e: np.stack([maps[e, fold[n]].apply(raw[e][[n]])[0] for n in range(num_rows)]) for e in EXPERTS}

    report = alignment_report(rows, aligned, anchors, maps, target, seed=0, threads=1)
    assert (report["n"], report["n_anchors"], report["chance"]) == (num_rows, 150, 0.25)
    assert report["n_anchor_groups"] == 150
    assert report["one.effective_rank"] == pytest.approx(DIM, rel=0.05)
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
    assert report["n_dimensions"] == DIM
    assert (report["two.fold_3.directions"], report["two.fold_3.variance"]) == (DIM, 1.0)

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
