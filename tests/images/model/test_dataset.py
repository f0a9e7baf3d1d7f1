"""The same image whatever the batch, the loader processes or the epoch a run resumed in."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.transforms import v2

from assay.images.manifest import read_manifest
from assay.images.model.dataset import TEACHER, EpochBatches, PictureSet, make_loader
from assay.images.model.store import open_store, open_writer
from assay.images.scoring import at_size

COUNT, SIDE = 21, 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ids = [f"s{number}" for number in range(COUNT)]
    with open_writer(tmp_path, side=SIDE, sample_ids=ids) as writer:
        writer.append(np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8))
    return tmp_path


def augmented(folder: Path, *, seed: int = 3, image_size: int = SIDE) -> PictureSet:
    manifest = pd.DataFrame({"sample_id": [f"s{n}" for n in range(COUNT)], "label": [n % 2 for n in range(COUNT)]})
    transform = v2.Compose([v2.RandomHorizontalFlip(0.5), v2.ColorJitter(0.5, 0.5, 0.5, 0.1)])
    return PictureSet(open_store(folder), manifest, image_size=image_size, transform=transform, seed=seed)


def epoch_of(data: PictureSet, *, epoch: int, workers: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    loader = make_loader(data, batch_size=4, seed=3, shuffle=True, workers=workers)
    data.epoch = loader.batch_sampler.epoch = epoch  # type: ignore[union-attr]
    parts = list(loader)
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def test_a_sample_depends_neither_on_its_batch_nor_on_the_global_generator(folder: Path) -> None:
    data = augmented(folder)
    state = torch.get_rng_state()
    together, labels = data.__getitems__([4, 1, 9])
    assert torch.equal(torch.get_rng_state(), state)
    assert together.dtype == torch.uint8
    assert labels.tolist() == [0.0, 1.0, 1.0]
    for row, index in enumerate([4, 1, 9]):
        assert torch.equal(data[index][0], together[row])


def test_neither_loader_processes_nor_earlier_epochs_change_an_epoch(folder: Path) -> None:
    data = augmented(folder)
    for epoch in (1, 2):
        alone, shared = epoch_of(data, epoch=epoch), epoch_of(augmented(folder), epoch=epoch, workers=2)
        assert torch.equal(alone[0], shared[0])
        assert torch.equal(alone[1], shared[1])


def test_what_a_teacher_says_goes_with_its_row_however_that_is_augmented(folder: Path) -> None:
    manifest = pd.DataFrame({"sample_id": [f"s{n}" for n in range(COUNT)], "label": [n % 2 for n in range(COUNT)]})
    taught = manifest.assign(**{TEACHER: np.arange(COUNT) / 4})
    flip = {"image_size": SIDE, "transform": v2.RandomHorizontalFlip(1.0)}
    images, labels, teacher = PictureSet(open_store(folder), taught, **flip).__getitems__([4, 1, 9])
    assert (labels.tolist(), teacher.tolist()) == ([0.0, 1.0, 1.0], [1.0, 0.25, 2.25])
    plain = PictureSet(open_store(folder), manifest, **flip).__getitems__([4, 1, 9])
    assert len(plain) == 2
    assert torch.equal(plain[0], images)


def test_every_epoch_sample_and_seed_draws_anew(folder: Path) -> None:
    data = augmented(folder)
    store = open_store(folder)
    manifest = pd.DataFrame({"sample_id": ["s0", "s0"], "label": [0, 0]})
    same = PictureSet(store, manifest, image_size=SIDE, transform=v2.ColorJitter(0.5), seed=1)
    assert not torch.equal(same[0][0], same[1][0])
    first = data[5][0]
    data.epoch = 1
    assert not torch.equal(data[5][0], first)
    assert not torch.equal(augmented(folder, seed=4)[5][0], first)


def test_scoring_and_training_show_a_network_the_same_picture_of_its_size(folder: Path) -> None:
    store = open_store(folder)
    manifest = pd.DataFrame({"sample_id": [f"s{n}" for n in range(COUNT)], "label": 0})
    for side in (8, 12, SIDE):
        images, _ = PictureSet(store, manifest, image_size=side).__getitems__(list(range(COUNT)))
        assert images.shape == (COUNT, 3, side, side)
        np.testing.assert_array_equal(at_size(np.array(store.pixels), side).transpose(0, 3, 1, 2), images.numpy())
    np.testing.assert_array_equal(images.numpy().transpose(0, 2, 3, 1), store.pixels)


def test_every_row_once_in_an_order_of_seed_and_epoch() -> None:
    def order(*, seed: int, epoch: int) -> list[int]:
        batches = EpochBatches(20, 6, seed=seed, shuffle=True)
        batches.epoch = epoch
        assert len(batches) == len(list(batches)) == 4
        return [row for batch in batches for row in batch]

    assert sorted(order(seed=1, epoch=1)) == list(range(20))
    assert order(seed=1, epoch=1) == order(seed=1, epoch=1)
    assert order(seed=1, epoch=1) != order(seed=1, epoch=2)
    assert order(seed=1, epoch=1) != order(seed=2, epoch=1)


@pytest.mark.parametrize(
    ("count", "size", "joined", "lengths"),
    [
        (9, 4, True, [4, 5]),
        (9, 4, False, [4, 4, 1]),
        (10, 4, True, [4, 4, 2]),
        (8, 4, True, [4, 4]),
        (3, 2, True, [3]),
        (3, 8, True, [3]),
        (1, 8, True, [1]),
    ],
)
def test_every_row_stands_in_a_batch_and_a_last_one_of_one_joins_the_one_before(
    count: int, size: int, joined: bool, lengths: list[int]
) -> None:
    batches = EpochBatches(count, size, seed=0, shuffle=True, join_single=joined)
    found = list(batches)
    assert [len(batch) for batch in found] == lengths
    assert len(batches) == len(lengths)
    assert sorted(row for batch in found for row in batch) == list(range(count))


def test_a_manifest_must_be_there_with_its_columns(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no manifest at .*train_manifest\.csv"):
        read_manifest(tmp_path, "train")
    pd.DataFrame({"image_path": ["a"], "label": [1]}).to_csv(tmp_path / "train_manifest.csv", index=False)
    with pytest.raises(ValueError, match=r"lacks column\(s\) \['group_id', 'sample_id'\]"):
        read_manifest(tmp_path, "train")


def test_a_sample_that_the_store_lacks_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"not in the pixel store.*other"):
        PictureSet(open_store(folder), pd.DataFrame({"sample_id": ["other"], "label": [0]}), image_size=SIDE)
