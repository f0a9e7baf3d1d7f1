"""The training loop on a small network: schedule, best epoch, errors."""

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from assay.core.params import load
from assay.images.model.dataset import PictureSet
from assay.images.model.store import open_store, open_writer
from assay.images.model.training import Distillation, Loop, Row, epoch_metrics, fit, make_schedule, start
from assay.images.model.transforms import Normalize
from assay.params.images import Images, Training

SIDE = 32


def settings(**changes: object) -> Training:
    base = load(Images).train_stage1
    return base.model_copy(
        update={"epochs": 4, "batch_size": 8, "lr": 0.01, "schedule": "epoch", "warmup_epochs": 0} | changes
    )


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))


@pytest.fixture
def data(tmp_path: Path) -> PictureSet:
    """25 images; the forged are brighter."""
    labels = np.arange(25) % 2
    pixels = np.random.default_rng(0).integers(0, 200, (25, SIDE, SIDE, 3)) + 40 * labels[:, None, None, None]
    ids = [str(number) for number in range(25)]
    with open_writer(tmp_path / "store", side=SIDE, sample_ids=ids) as writer:
        writer.append(pixels.astype(np.uint8))
    manifest = pd.DataFrame({"sample_id": ids, "label": labels})
    return PictureSet(open_store(tmp_path / "store"), manifest, image_size=SIDE)


def first_rows(data: PictureSet, count: int, *, forged: int) -> PictureSet:
    """The first ``count`` images, the last ``forged`` of them labelled forged."""
    data._rows = data._rows[:count]
    data.labels = (torch.arange(count) >= count - forged).float()
    return data


def begin(data: PictureSet, *, distillation: Distillation | None = None, **changes: object) -> Loop:
    val = copy.copy(data)
    val.teacher = None
    options = {"normalize": Normalize((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)), "seed": 5, "cpu": True}
    return start(network(), data, val, settings=settings(**changes), distillation=distillation, **options)


def run(data: PictureSet, folder: Path, *, epochs: int, **changes: object) -> tuple[list[Row], dict[str, torch.Tensor]]:
    loop = begin(data, **changes)
    rows: list[Row] = []
    fit(loop, epochs=epochs, selection="best", resume=folder, on_epoch=rows.append)
    return rows, loop.model.state_dict()


def rates(*, epochs: int, warm: int) -> list[float]:
    optimizer = torch.optim.AdamW(network().parameters(), lr=0.1)
    schedule = make_schedule(optimizer, settings(epochs=epochs, warmup_epochs=warm), steps_per_epoch=7)
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_the_schedule_is_a_cosine_after_the_warm_up() -> None:
    for warm in (0, 2):
        steps = 6 - warm
        wanted = [0.1 * (epoch + 1) / 3 for epoch in range(warm)]
        wanted += [0.05 * (1 + np.cos(np.pi * epoch / steps)) for epoch in range(steps)]
        assert rates(epochs=6, warm=warm) == pytest.approx(wanted)


def test_the_network_learns_and_the_history_says_so(data: PictureSet, tmp_path: Path) -> None:
    rows, _ = run(data, tmp_path, epochs=4)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert rows[-1]["val_auc"] > 0.9
    assert rows[0]["lr"] == 0.01
    assert rows[1]["lr"] < 0.01


def test_a_schedule_by_step_falls_within_an_epoch_and_ends_at_zero(data: PictureSet) -> None:
    loop = begin(data, epochs=2, schedule="step")
    assert loop.schedule.get_last_lr() == [0.01]
    loop.train_epoch(1)
    assert loop.schedule.get_last_lr()[0] == pytest.approx(0.005)
    loop.train_epoch(2)
    assert loop.schedule.get_last_lr()[0] == pytest.approx(0, abs=1e-12)


def test_metrics_of_a_pass() -> None:
    logits, labels = np.array([2.0, -1.0, 0.5, -3.0]), np.array([1.0, 1.0, 0.0, 0.0])
    probs = 1 / (1 + np.exp(-logits))
    row = epoch_metrics(logits, labels)
    assert row["loss"] == pytest.approx(-np.mean(np.log(np.where(labels == 1, probs, 1 - probs))))
    assert (row["accuracy"], row["auc"], row["f1"]) == (0.5, 0.75, 0.5)


@pytest.mark.parametrize(
    ("count", "batch", "forged"), [(22, 7, 10), (9, 8, 4), (25, 24, 1), (5, 32, 1), (3, 2, 1), (2, 2, 1), (24, 8, 12)]
)
def test_the_metrics_of_an_epoch_cover_every_row(
    data: PictureSet, monkeypatch: pytest.MonkeyPatch, count: int, batch: int, forged: int
) -> None:
    seen = []

    def spy(logits: np.ndarray, labels: np.ndarray) -> Row:
        seen.append((len(logits), labels.sum()))
        return epoch_metrics(logits, labels)

    monkeypatch.setattr("assay.images.model.training.epoch_metrics", spy)
    loop = begin(first_rows(data, count, forged=forged), batch_size=batch)
    rows = [loop.train_epoch(1), loop.validate(1)]
    assert seen == [(count, forged)] * 2
    assert np.isfinite([list(row.values()) for row in rows]).all()


@pytest.mark.parametrize(("warm", "schedule"), [(0, "epoch"), (2, "step")])
@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_a_resumed_run_is_bit_identical(data: PictureSet, tmp_path: Path, warm: int, schedule: str) -> None:
    options = {"warmup_epochs": warm, "schedule": schedule}
    rows, weights = run(data, tmp_path / "whole", epochs=4, **options)
    run(data, tmp_path / "parts", epochs=2, **options)
    again, resumed = run(data, tmp_path / "parts", epochs=4, **options)
    assert again == rows
    assert all(torch.equal(value, resumed[name]) for name, value in weights.items())


def test_the_loss_of_a_taught_network_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(0)
    logits, teacher, labels = rng.normal(0, 3, 50), rng.normal(0, 3, 50), rng.integers(0, 2, 50)

    def entropy(targets: np.ndarray, values: np.ndarray) -> float:
        probs = 1 / (1 + np.exp(-values))
        return float(-np.mean(targets * np.log(probs) + (1 - targets) * np.log(1 - probs)))

    wanted = 0.7 * 4 * entropy(1 / (1 + np.exp(-teacher / 2)), logits / 2) + 0.3 * entropy(labels, logits)
    values = (torch.from_numpy(part).float() for part in (logits, labels, teacher))
    assert Distillation(2.0, 0.7).loss(*values).item() == pytest.approx(wanted, rel=1e-5)


def test_a_teacher_of_weight_1_is_all_that_a_network_learns_from_and_of_weight_0_nothing(
    data: PictureSet, tmp_path: Path
) -> None:
    _, plain = run(data, tmp_path / "plain", epochs=2)
    data.teacher = 8 * data.labels - 4
    _, ignored = run(data, tmp_path / "ignored", epochs=2, distillation=Distillation(2.0, 0.0))
    assert all(torch.equal(value, ignored[name]) for name, value in plain.items())
    data.teacher = -data.teacher  # it takes every real picture for a forged one
    rows, _ = run(data, tmp_path / "wrong", epochs=6, distillation=Distillation(2.0, 1.0))
    assert rows[-1]["val_auc"] < 0.1
    with pytest.raises(AssertionError):
        begin(data)


@pytest.mark.parametrize(("selection", "epoch", "auc"), [("best", 2, 0.8), ("last", 4, 0.7)])
def test_the_kept_state_is_the_best_ones_the_earlier_on_a_tie_or_the_last(
    data: PictureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selection: str, epoch: int, auc: float
) -> None:
    loop = begin(data)
    aucs = iter([0.6, 0.8, 0.8, 0.7])
    monkeypatch.setattr(loop, "validate", lambda epoch: {"auc": next(aucs)})
    states = []

    def keep(row: Row) -> None:
        states.append(copy.deepcopy(loop.model.state_dict()))

    state = fit(loop, epochs=4, selection=selection, resume=tmp_path, on_epoch=keep)
    assert (state.best_epoch, state.best_auc) == (epoch, auc)
    same = [all(torch.equal(state.best_state[name], weights[name]) for name in weights) for weights in states]
    assert same == [number == epoch for number in range(1, 5)]


def test_a_loss_that_is_not_finite_stops(data: PictureSet) -> None:
    loop = begin(data)
    with torch.no_grad():
        next(loop.model.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"epoch 1: the loss is nan.*smaller lr"):
        loop.train_epoch(1)


def test_one_class_is_rejected(data: PictureSet) -> None:
    data.labels[:] = 1.0
    with pytest.raises(ValueError, match="role train must hold real and forged"):
        begin(data)
