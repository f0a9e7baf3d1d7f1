"""The ensemble from a models folder, and the whole cascade over arrays: real networks with random weights."""

import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from assay.calibration.temperature import apply_temperature
from assay.core.io import read_json, write_json
from assay.images.cascade.cost import count_macs
from assay.images.cascade.ensemble import BATCH, load_ensemble
from assay.images.cascade.model import Cascade, load, network_folders
from assay.images.cascade.networks import load_network, load_singles
from assay.images.cascade.thresholds import NEVER_FORGED, NEVER_REAL
from assay.images.model.backbones import save_checkpoint
from assay.images.model.experts import build_expert, load_extractor
from assay.images.model.transforms import resize
from assay.images.stacking import EXPERTS
from assay.images.stacking.join import Join
from assay.images.stacking.meta import fit_meta, lightgbm_classifier
from assay.images.stacking.meta_model import EPSILON, MetaModel
from assay.images.stacking.saved import load_alignments, save_meta
from assay.shipped.sums import write_sums
from assay.stages.evaluate_cascade import SHIPPED

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
    assert ensemble.macs() == count_macs(extractor.from_pixels, image_size=48)


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
    first, second = (level.network for level in cascade.levels)
    stage1 = first.array_logits(resize(batch, 32).permute(0, 2, 3, 1).numpy())
    everything = replace(cascade, exit_real=NEVER_REAL, exit_forged=NEVER_FORGED, unsure=(0.0, 1.0)).decide(pixels)
    assert np.array_equal(everything.probs, apply_temperature(second.logits(batch, stage1), 2.0))
    assert set(everything.verdicts) == {"unsure"}
    nothing = replace(cascade, exit_real=np.nextafter(0.5, 0), exit_forged=0.5).decide(pixels)
    probs = apply_temperature(stage1, 1.5)
    assert not nothing.deferred.any()
    assert np.array_equal(nothing.probs, probs)
    assert len(np.unique(probs.round(3))) > 10, "the networks tell images apart"


def shipped_as(tiny_models: Path, folder: Path, **changes: Any) -> Cascade:
    """The tiny models with another record of what ships."""
    shutil.copytree(tiny_models, folder, copy_function=os.link, dirs_exist_ok=True)
    (folder / "cascade/cascade.json").unlink()
    write_json(folder / "cascade/cascade.json", read_json(tiny_models / "cascade/cascade.json") | changes)
    write_sums(folder, SHIPPED)
    return load(folder)


@pytest.mark.parametrize("name", ["stage1", "maxvit", "maxvit@40", "efficientnetv2_b3@24", "ensemble"])
def test_one_network_that_won_judges_alone(tiny_models: Path, tmp_path: Path, name: str) -> None:
    """Its own logits, at its own or another size, through its own temperature; same columns, nothing deferred."""
    level = {"network": name, "temperature": 3.0, "join": None}
    cascade = shipped_as(tiny_models, tmp_path / "m", levels=[level], exit_real=None, exit_forged=None)
    batch, stage1 = batch_of(9), load_network(tiny_models, "stage1", device="cpu")
    first = stage1.array_logits(resize(batch, 32).permute(0, 2, 3, 1).numpy())
    if name == "ensemble":
        wanted = load_ensemble(tiny_models, device="cpu").logits(batch, first)
    elif name == "stage1":
        wanted = first
    else:
        expert, _, side = name.partition("@")
        extractor = load_extractor(tiny_models / "experts" / expert / "full", device="cpu")
        wanted = extractor(resize(batch, int(side or 48)))[1].astype(float)
    pixels = list(batch.permute(0, 2, 3, 1).numpy())
    table = cascade.predict(pixels)
    np.testing.assert_allclose(logit(table["probability"]) * 3, wanted, rtol=1e-4, atol=1e-5)
    assert list(table.columns) == ["verdict", "probability", "decided_by", "warning"]
    assert table["verdict"].tolist() == np.where(wanted >= 0, "forged", "real").tolist()
    assert set(table["decided_by"]) == {name}
    # An unlike picture is told by stage 1, where that runs.
    warned = replace(cascade, unlike_distance=1e-6).predict(pixels)["warning"]
    assert warned.notna().all() if name == "stage1" else warned.isna().all()


def test_a_cascade_of_two_experts_joins_what_both_say(tiny_models: Path, tmp_path: Path) -> None:
    join = {"first": 0.5, "second": 0.25, "intercept": 0.1}
    levels = [{"network": "efficientnetv2_b3", "temperature": 2.0, "join": None}]
    levels.append({"network": "maxvit@40", "temperature": 0.5, "join": join})
    cascade = shipped_as(tiny_models, tmp_path / "m", levels=levels, exit_real=-1.0, exit_forged=2.0)
    batch = batch_of(9)
    first, second = (
        load_network(tiny_models, level["network"], device="cpu").array_logits(
            resize(batch, side).permute(0, 2, 3, 1).numpy()
        )
        for level, side in zip(levels, (32, 40), strict=True)
    )
    found = cascade.decide(batch.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(found.probs, expit((0.5 * first + 0.25 * second + 0.1) / 0.5), rtol=1e-4)
    assert set(found.decided_by) == {"maxvit@40"}
    # An ensemble behind another network than stage 1 asks stage 1 itself.
    levels[1] |= {"network": "ensemble", "join": join}
    behind = shipped_as(tiny_models, tmp_path / "n", levels=levels, exit_real=-1.0, exit_forged=2.0)
    stage1 = load_network(tiny_models, "stage1", device="cpu").array_logits(
        resize(batch, 32).permute(0, 2, 3, 1).numpy()
    )
    ensemble = load_ensemble(tiny_models, device="cpu").logits(batch, stage1)
    found = behind.decide(batch.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(found.probs, expit((0.5 * first + 0.25 * ensemble + 0.1) / 0.5), rtol=1e-4)


def test_what_ships_alone_is_all_that_is_opened(tiny_models: Path, tmp_path: Path) -> None:
    level = {"network": "maxvit@40", "temperature": 3.0, "join": None}
    cascade = shipped_as(tiny_models, tmp_path / "m", levels=[level], exit_real=None, exit_forged=None)
    assert network_folders(tmp_path / "m") == ["experts/maxvit/full"]
    for unused in ("experts/maxvit/fold_1", "experts/efficientnetv2_b3/full"):
        (tmp_path / "m" / unused / "model.safetensors").unlink()
    assert load(tmp_path / "m").levels[0].name == cascade.levels[0].name
    (tmp_path / "m/experts/maxvit/full/model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"experts/maxvit/full/model\.safetensors"):
        load(tmp_path / "m")


def test_networks_go_by_name_and_one_built_for_a_size_stays_out_at_others(
    tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"sizes": [24, 48], "device": "cpu"}
    found = load_singles(tiny_models, EXPERTS, **options)
    assert {name: one.image_size for name, one in found.items()} == {
        "efficientnetv2_b3": 32,
        "efficientnetv2_b3@24": 24,
        "efficientnetv2_b3@48": 48,
        "maxvit": 48,
        "maxvit@24": 24,
    }
    assert (
        count_macs(found["maxvit@24"].network, image_size=24) < count_macs(found["maxvit"].network, image_size=48) / 2
    )
    # A network with a table of positions has weights for one size: found out by building it.
    network, config = build_expert("vit_tiny_patch16_224", weights={}, image_size=32, embedding_dim=8)
    folder = tmp_path / "experts/vit/full"
    info = {"embedding_dim": 8}
    save_checkpoint(folder, network.state_dict(), architecture="vit_tiny_patch16_224", data_config=config, info=info)
    capsys.readouterr()
    assert list(load_singles(tmp_path, ["vit"], **options)) == ["vit"]
    assert "vit stays out at 48 pixels" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"network '\.\./x' is unknown"):
        load_network(tiny_models, "../x", device="cpu")


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
