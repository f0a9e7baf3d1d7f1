"""The ensemble from a models folder, and the whole cascade over arrays: real networks with random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logit
from torch import nn

from assay.calibration.temperature import apply_temperature
from assay.images.cascade.cost import count_macs
from assay.images.cascade.ensemble import BATCH, Ensemble, View, load_ensemble, resize
from assay.images.cascade.model import Cascade, load
from assay.images.cascade.thresholds import NEVER_FORGED, NEVER_REAL
from assay.images.decode_set import DecodeSettings
from assay.images.model.backbones import Checkpoint, build, save_checkpoint
from assay.images.model.experts import ExpertNetwork, FeatureExtractor, build_expert
from assay.images.model.prediction import Predictor
from assay.images.model.store import fit_square
from assay.images.stacking import EXPERTS
from assay.images.stacking.alignment import Alignment
from assay.images.stacking.meta import EPSILON, Columns, MetaModel, fit_meta, lightgbm_classifier
from assay.images.stacking.saved import load_alignments, save_alignments, save_meta

TINY, SIDE, DIM, FOLDS = "mobilenetv3_small_050", 32, 4, 2
DECODE = DecodeSettings(side=SIDE, resize="squash", max_pixels=10**6, min_side=8, hash_side=8)


def liven(network: nn.Module, head: nn.Linear) -> None:
    """Make a random network's logits differ from picture to picture: mean 0 and deviation 2 on a batch."""
    batch = (pictures(64) / 255 - 0.5) / 0.5
    with torch.no_grad():
        nn.init.normal_(head.weight)
        logits = network.eval()(batch)
        head.weight *= 2 / logits.std()
        head.bias += 2 / logits.std() * (head.bias - logits.mean()) - head.bias


def pictures(num: int, *, side: int = SIDE, seed: int = 0) -> torch.Tensor:
    """uint8 [n, 3, S, S], each of its own brightness and colour."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 200, (num, 3, 1, 1)) + rng.integers(0, 56, (num, 3, side, side))
    return torch.from_numpy(base.astype(np.uint8))


def expert(seed: int, *, side: int = SIDE) -> ExpertNetwork:
    torch.manual_seed(seed)
    network, _ = build_expert(TINY, weights={}, image_size=side, embedding_dim=DIM)
    liven(network, network.head)
    return network


def meta_model(kind: str) -> MetaModel:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(300, 2 * DIM + 2)).astype(np.float32), rng.integers(2, size=300)
    model = lightgbm_classifier(seed=0, threads=1, n_estimators=10)
    tools = {"columns": Columns(EXPERTS), "expert": 1, "model": model, "logits_model": model}
    return fit_meta(kind, features, labels, **tools)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experts x (full, fold_0, fold_1), the second at 48 pixels, with alignments; no meta-model yet."""
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    maps = {}
    for number, name in enumerate(EXPERTS):
        side = (SIDE, 48)[number]
        _, config = build_expert(TINY, weights={}, image_size=side, embedding_dim=DIM)
        for fold, subset in enumerate(("fold_0", "fold_1", "full")):
            save_checkpoint(
                folder / "experts" / name / subset,
                expert(10 * number + fold, side=side).state_dict(),
                architecture=TINY,
                data_config=config,
                info={"embedding_dim": DIM},
            )
            rotation = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
            maps[name, fold] = Alignment(rng.normal(size=DIM), rotation, rng.normal(size=DIM))
    maps = {key: value for key, value in maps.items() if key[1] < FOLDS}
    save_alignments(folder / "meta" / "alignment.safetensors", maps)
    return folder


def ship(models: Path, kind: str, mode: str) -> MetaModel:
    model = meta_model(kind)
    save_meta(models / "meta", model, {"test_time_mode": mode})
    return model


def test_refit_is_one_view_of_the_full_networks(models: Path) -> None:
    shipped = ship(models, "lightgbm", "refit")
    ensemble = load_ensemble(models, device="cpu")
    batch = pictures(7)
    view = ensemble.views[0]
    assert (len(ensemble.views), view.alignments) == (1, {})
    (e0, z0), (e1, z1) = (
        view.extractors[name](resize(batch, side)) for name, side in zip(EXPERTS, (SIDE, 48), strict=True)
    )
    features = np.concatenate([e0, e1, z0[:, None], z1[:, None]], axis=1)
    assert np.array_equal(view.features(batch), features)
    assert np.array_equal(ensemble.logits(batch), shipped.logits(features))


def test_fold_average_aligns_each_fold_and_averages_log_odds(models: Path) -> None:
    shipped = ship(models, "lightgbm", "fold_average")
    ensemble = load_ensemble(models, device="cpu")
    batch, maps = pictures(7), load_alignments(models / "meta" / "alignment.safetensors")
    assert len(ensemble.views) == FOLDS
    each = []
    for fold, view in enumerate(ensemble.views):
        found = {name: view.extractors[name](resize(batch, (SIDE, 48)[i])) for i, name in enumerate(EXPERTS)}
        moved = [maps[name, fold].apply(found[name][0]) for name in EXPERTS]
        each.append(shipped.logits(np.column_stack([*moved, *(found[name][1] for name in EXPERTS)])))
    assert not np.array_equal(each[0], each[1])
    np.testing.assert_allclose(ensemble.logits(batch), np.mean(each, axis=0), rtol=1e-12)
    refit = load_ensemble(models, device="cpu", mode="refit")
    assert len(refit.views) == 1
    assert ensemble.macs() == FOLDS * refit.macs()


def test_single_loads_one_expert_and_costs_one(models: Path) -> None:
    ship(models, "single", "refit")
    ensemble = load_ensemble(models, device="cpu")
    assert list(ensemble.views[0].extractors) == [EXPERTS[1]]
    extractor = ensemble.views[0].extractors[EXPERTS[1]]
    batch = pictures(5)
    largest = -logit(EPSILON)
    wanted = np.clip(extractor(resize(batch, 48))[1], -largest, largest)
    np.testing.assert_allclose(ensemble.logits(batch), wanted, rtol=1e-4)
    assert ensemble.macs() == count_macs(extractor.network, image_size=48)


def test_many_pictures_go_through_in_parts(models: Path) -> None:
    ship(models, "mean_logit", "refit")
    ensemble = load_ensemble(models, device="cpu")
    batch = pictures(BATCH + 6)
    parts = np.concatenate([ensemble.logits(batch[:BATCH]), ensemble.logits(batch[BATCH:])])
    assert np.array_equal(ensemble.logits(batch), parts)


def test_a_part_that_is_missing_is_named_with_its_stage(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no .*cascade.json: run dvc repro evaluate_cascade"):
        load(tmp_path)
    with pytest.raises(ValueError, match=r"no meta.json in .*run dvc repro train_meta"):
        load_ensemble(tmp_path, device="cpu")
    ship(tmp_path, "mean_logit", "fold_average")
    with pytest.raises(ValueError, match=r"no alignments at .*run dvc repro train_meta"):
        load_ensemble(tmp_path, device="cpu")
    with pytest.raises(ValueError, match=r"no model.json in .*run dvc repro train_expert"):
        load_ensemble(tmp_path, device="cpu", mode="refit")
    with pytest.raises(ValueError, match="test-time mode 'median' is unknown; it is refit or fold_average"):
        load_ensemble(tmp_path, device="cpu", mode="median")


@pytest.fixture(scope="module")
def cascade() -> Cascade:
    torch.manual_seed(0)
    network, config = build(TINY, weights={}, image_size=SIDE)
    liven(network, network.get_classifier())
    stage1 = Predictor(Checkpoint(network.eval(), config, {}))
    view = View({name: FeatureExtractor(expert(seed), config) for seed, name in enumerate(EXPERTS)}, {})
    ensemble = Ensemble((view,), MetaModel("mean_logit", Columns(EXPERTS)))
    return Cascade(stage1, 1.5, ensemble, 2.5, NEVER_REAL, NEVER_FORGED, None, DECODE)


def images(num: int, *, seed: int = 3) -> list[np.ndarray]:
    return list(pictures(num, seed=seed).permute(0, 2, 3, 1).numpy())


def exits(cascade: Cascade, num: int, *, seed: int = 3) -> Cascade:
    """The cascade with exits in the gaps of stage 1's own probabilities: about half of the pictures are deferred."""
    probs = np.sort(
        replace(cascade, exit_real=np.nextafter(0.5, 0), exit_forged=0.5).decide(np.stack(images(num))).probs
    )
    low, high = probs[num // 4 - 1 : num // 4 + 1].mean(), probs[-num // 4 - 1 : -num // 4 + 1].mean()
    return replace(cascade, exit_real=float(low), exit_forged=float(high))


def test_deferring_everything_is_the_ensemble_and_nothing_is_stage_1(cascade: Cascade) -> None:
    pixels = np.stack(images(20))
    second = apply_temperature(cascade.ensemble.logits(torch.from_numpy(pixels).permute(0, 3, 1, 2)), 2.5)
    everything = cascade.decide(pixels)
    assert everything.deferred.all()
    assert np.array_equal(everything.probs, second)
    first = apply_temperature(cascade.stage1.array_logits(pixels), 1.5)
    nothing = replace(cascade, exit_real=np.nextafter(0.5, 0), exit_forged=0.5).decide(pixels)
    assert not nothing.deferred.any()
    assert np.array_equal(nothing.probs, first)
    assert len(np.unique(first.round(3))) > 10, "the networks tell pictures apart"


def test_the_order_of_rows_and_the_split_into_batches_do_not_matter(cascade: Cascade) -> None:
    judge, given = exits(cascade, 40), images(40)
    whole = judge.predict(given)
    assert set(whole["decided_by"]) == {"stage1", "ensemble"}
    order = np.random.default_rng(0).permutation(40)
    turned = judge.predict([given[row] for row in order])
    parts = [judge.predict(given[start : start + 7]) for start in range(0, 40, 7)]
    for found, rows in ((turned, order), (np.concatenate(parts), np.arange(40))):
        table = np.asarray(found)
        assert table[:, [0, 2]].tolist() == whole.iloc[rows][["verdict", "decided_by"]].to_numpy().tolist()
        np.testing.assert_allclose(
            table[:, 1].astype(float), whole["probability"].to_numpy()[rows], rtol=1e-3, atol=1e-5
        )


def test_pictures_of_any_size_become_the_stores_square(cascade: Cascade) -> None:
    rng = np.random.default_rng(1)
    given = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((50, 40, 3), (32, 32, 3), (9, 80, 3))]
    table = cascade.predict(given)
    assert list(table.columns) == ["verdict", "probability", "decided_by"]
    squares = np.stack([fit_square(image, SIDE, resize="squash") for image in given])
    assert np.array_equal(table["probability"], cascade.decide(squares).probs)


def test_unsure_is_a_verdict_for_deferred_pictures(cascade: Cascade) -> None:
    found = replace(cascade, unsure=(0.0, 1.0)).predict(images(5))
    assert set(found["verdict"]) == {"unsure"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((8, 8), dtype=np.uint8), r"image 1 is uint8 \(8, 8\)"),
        (np.zeros((8, 8, 4), dtype=np.uint8), r"image 1 is uint8 \(8, 8, 4\)"),
        (np.zeros((8, 8, 3)), r"image 1 is float64 \(8, 8, 3\)"),
        (np.zeros((0, 8, 3), dtype=np.uint8), r"image 1 is uint8 \(0, 8, 3\)"),
        ("picture.png", r"image 1 is <U11 \(\)"),
    ],
)
def test_what_is_no_picture_is_refused(cascade: Cascade, bad: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cascade.predict([images(1)[0], bad])  # type: ignore[list-item]


def test_no_pictures_give_an_empty_table(cascade: Cascade) -> None:
    assert cascade.predict([]).to_dict("list") == {"verdict": [], "probability": [], "decided_by": []}
