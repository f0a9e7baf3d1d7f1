"""The ensemble from a models folder, and the whole cascade over arrays: real networks with random weights."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logit

from assay.calibration.temperature import apply_temperature
from assay.core.io import read_json, write_json
from assay.images.cascade.cost import count_macs
from assay.images.cascade.ensemble import BATCH, load_ensemble, resize
from assay.images.cascade.model import Cascade
from assay.images.cascade.thresholds import NEVER_FORGED, NEVER_REAL
from assay.images.stacking import EXPERTS
from assay.images.stacking.join import Join
from assay.images.stacking.meta import fit_meta, lightgbm_classifier
from assay.images.stacking.meta_model import EPSILON, MetaModel
from assay.images.stacking.saved import load_alignments, save_meta

SIDES = dict(zip(EXPERTS, (32, 48), strict=True))
ALONE = Join()


def batch_of(num: int) -> torch.Tensor:
    """uint8 [n, 3, S, S], each of its own brightness and colour."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 200, (num, 3, 1, 1)) + rng.integers(0, 56, (num, 3, 40, 40))
    return torch.from_numpy(base.astype(np.uint8))


@pytest.fixture
def models(tiny_models: Path, tmp_path: Path) -> Path:
    """Experts and alignments of the tiny models; no meta-model yet."""
    (tmp_path / "meta").mkdir()
    for name in ("experts", "meta/alignment.safetensors"):
        (tmp_path / name).symlink_to(tiny_models / name)
    return tmp_path


def ship(models: Path, kind: str, mode: str, join: Join = ALONE) -> MetaModel:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(300, 2 * 8 + 2)).astype(np.float32), rng.integers(2, size=300)
    classifier = lightgbm_classifier(seed=0, threads=1, n_estimators=10)
    tools = {"experts": EXPERTS, "expert": 1, "model": classifier, "logits_model": classifier}
    model = fit_meta(kind, features, labels, **tools)
    save_meta(models / "meta", model, {"test_time_mode": mode, "join": asdict(join)})
    return model


def test_refit_is_one_view_of_the_full_networks(models: Path) -> None:
    shipped = ship(models, "lightgbm", "refit")
    ensemble = load_ensemble(models, device="cpu")
    batch = batch_of(7)
    (view,) = ensemble.views
    (e0, z0), (e1, z1) = (view.extractors[name](resize(batch, side)) for name, side in SIDES.items())
    features = np.concatenate([e0, e1, z0[:, None], z1[:, None]], axis=1)
    assert np.array_equal(view.features(batch), features)
    assert np.array_equal(ensemble.logits(batch, np.ones(7)), shipped.logits(features))


def test_fold_average_aligns_each_fold_and_averages_log_odds(models: Path) -> None:
    shipped = ship(models, "lightgbm", "fold_average")
    ensemble = load_ensemble(models, device="cpu")
    batch, maps = batch_of(7), load_alignments(models / "meta/alignment.safetensors")
    each = []
    for fold, view in enumerate(ensemble.views):
        found = {name: view.extractors[name](resize(batch, side)) for name, side in SIDES.items()}
        moved = [maps[name, fold].apply(found[name][0]) for name in EXPERTS]
        each.append(shipped.logits(np.column_stack([*moved, *(found[name][1] for name in EXPERTS)])))
    assert len(each) == 2
    assert not np.array_equal(each[0], each[1])
    np.testing.assert_allclose(ensemble.logits(batch, np.ones(7)), np.mean(each, axis=0), rtol=1e-12)
    assert ensemble.macs() == 2 * load_ensemble(models, device="cpu", mode="refit").macs()


def test_single_loads_one_expert_and_costs_one(models: Path) -> None:
    ship(models, "single", "refit")
    ensemble = load_ensemble(models, device="cpu")
    (view,) = ensemble.views
    ((name, extractor),) = view.extractors.items()
    assert name == EXPERTS[1]
    batch, largest = batch_of(5), -logit(EPSILON)
    wanted = np.clip(extractor(resize(batch, 48))[1], -largest, largest)
    np.testing.assert_allclose(ensemble.logits(batch, np.ones(5)), wanted, rtol=1e-4)
    assert ensemble.macs() == count_macs(extractor.network, image_size=48)


def test_a_meta_model_names_experts_of_its_own_folder_alone(models: Path) -> None:
    ship(models, "lightgbm", "refit")
    record = read_json(models / "meta" / "meta.json")
    record["model"]["experts"][0] = f"../experts/{EXPERTS[0]}"
    write_json(models / "meta" / "meta.json", record)
    with pytest.raises(ValueError, match=r"name '\.\./experts/.*must be relative and without"):
        load_ensemble(models, device="cpu")


def test_many_images_go_through_in_parts_and_an_unknown_mode_is_an_error(models: Path) -> None:
    join = Join(0.5, 2.0, -1.0)
    shipped = ship(models, "mean_logit", "refit", join)
    ensemble = load_ensemble(models, device="cpu")
    batch, stage1 = batch_of(BATCH + 6), np.linspace(-3, 3, BATCH + 6)
    parts = [ensemble.logits(batch[rows], stage1[rows]) for rows in (slice(BATCH), slice(BATCH, None))]
    assert np.array_equal(ensemble.logits(batch, stage1), np.concatenate(parts))
    alone = shipped.logits(ensemble.views[0].features(batch[:BATCH]))
    np.testing.assert_allclose(parts[0], 0.5 * stage1[:BATCH] + 2 * alone - 1, rtol=1e-12)
    with pytest.raises(ValueError, match="test-time mode 'median' is unknown; it is refit or fold_average"):
        load_ensemble(models, device="cpu", mode="median")


def test_deferring_everything_is_the_ensemble_and_nothing_is_stage_1(cascade: Cascade) -> None:
    batch = batch_of(20)
    pixels = batch.permute(0, 2, 3, 1).numpy()
    stage1 = cascade.stage1.array_logits(resize(batch, 32).permute(0, 2, 3, 1).numpy())
    everything = replace(cascade, exit_real=NEVER_REAL, exit_forged=NEVER_FORGED, unsure=(0.0, 1.0)).decide(pixels)
    assert np.array_equal(everything.probs, apply_temperature(cascade.ensemble.logits(batch, stage1), 2.0))
    assert set(everything.verdicts) == {"unsure"}
    nothing = replace(cascade, exit_real=np.nextafter(0.5, 0), exit_forged=0.5).decide(pixels)
    first = apply_temperature(stage1, 1.5)
    assert not nothing.deferred.any()
    assert np.array_equal(nothing.probs, first)
    assert len(np.unique(first.round(3))) > 10, "the networks tell images apart"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((8, 8), dtype=np.uint8), r"image 1 is uint8 \(8, 8\)"),
        (np.zeros((8, 8, 4), dtype=np.uint8), r"image 1 is uint8 \(8, 8, 4\)"),
        (np.zeros((8, 8, 3)), r"image 1 is float64 \(8, 8, 3\)"),
        (np.zeros((0, 8, 3), dtype=np.uint8), r"image 1 is uint8 \(0, 8, 3\)"),
        ("image.png", r"image 1 is <U9 \(\)"),
    ],
)
def test_what_is_no_image_is_an_error_and_none_is_an_empty_table(cascade: Cascade, bad: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cascade.predict([np.zeros((8, 8, 3), dtype=np.uint8), bad])  # type: ignore[list-item]
    assert cascade.predict([]).to_dict("list") == {"verdict": [], "probability": [], "decided_by": [], "warning": []}
