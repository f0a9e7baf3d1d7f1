"""How far a picture lies from those seen: against scipy, its threshold, and pictures that are no photographs."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

from assay.images.drawings import KINDS, PER_KIND, drawings
from assay.images.unlike import alarm_threshold, fit_seen, load_seen, save_seen


def embeddings(n, *, seed=0):
    """Correlated embeddings of six dimensions, one of which never changes, as a dead unit's."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((n, 5)) @ np.random.default_rng(9).normal(size=(5, 5)) + 3
    return np.column_stack([mixed, np.zeros(n)]).astype(np.float32)


def test_the_distance_is_mahalanobis_over_the_root_of_the_dimensions():
    known, new = embeddings(400), embeddings(20, seed=1)
    fit = LedoitWolf().fit(known)
    wanted = [mahalanobis(row, fit.location_, fit.precision_) / np.sqrt(6) for row in new]
    assert fit_seen(known).distances(new) == pytest.approx(wanted, rel=1e-3)


def test_seen_rows_are_at_about_one_and_a_changed_dead_unit_is_far():
    known = embeddings(400)
    seen = fit_seen(known)
    # Exactly 5 / 6 without shrinkage, which makes every distance a little smaller.
    assert 0.6 < np.mean(seen.distances(known) ** 2) <= 5 / 6
    changed = known[:1] + 10 * np.eye(6, dtype=np.float32)[5:]
    assert seen.distances(changed).item() > 2 * seen.distances(known).max()


def test_fewer_rows_than_dimensions_are_enough():
    rng = np.random.default_rng(0)
    seen = fit_seen(rng.standard_normal((30, 100)).astype(np.float32))
    far, near = seen.distances(np.full((1, 100), 5.0)), seen.distances(rng.standard_normal((20, 100)))
    assert np.isfinite(near).all()
    assert far > 3 * near.max()


def test_what_is_saved_comes_back(tmp_path):
    seen = fit_seen(embeddings(50))
    save_seen(tmp_path, seen)
    again = load_seen(tmp_path)
    assert np.array_equal(again.mean, seen.mean)
    assert np.array_equal(again.whitening, seen.whitening)
    with pytest.raises(ValueError, match=r"seen.safetensors can't be read .*; run dvc repro score_stage1"):
        load_seen(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("n", "rate", "threshold"),
    [(99, 0.05, 95), (99, 0.01, 99), (100, 0.05, 96), (19, 0.05, 19), (10, 0.05, 10), (3, 0.5, 2)],
)
def test_the_threshold_is_the_conformal_quantile(n, rate, threshold):
    distances = np.random.default_rng(0).permutation(np.arange(1, n + 1))
    assert alarm_threshold(distances, rate=rate) == threshold


def test_the_threshold_keeps_its_rate_on_exchangeable_rows():
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((2000, 41))
    alarms = [row[40] > alarm_threshold(row[:40], rate=0.1) for row in draws]
    assert np.mean(alarms) == pytest.approx(4 / 41, abs=0.02)


def test_drawings_are_the_same_for_a_seed_and_of_every_kind():
    images, kinds = drawings(side=32, seed=1)
    assert (images.shape, images.dtype) == ((len(KINDS) * PER_KIND, 32, 32, 3), np.uint8)
    assert sorted(set(kinds)) == sorted(KINDS)
    assert all(kinds.count(kind) == PER_KIND for kind in KINDS)
    assert len({image.tobytes() for image in images}) == len(images)
    assert np.array_equal(drawings(side=32, seed=1)[0], images)
    assert not np.array_equal(drawings(side=32, seed=2)[0], images)
