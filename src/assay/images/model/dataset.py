"""Manifests as torch data sets over the pixel store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from assay.core.progress import progress
from assay.images.model.store import PixelStore
from assay.images.model.transforms import resize

Batch = tuple[torch.Tensor, ...]
# Column of a manifest: what a teacher says of a picture, a logit.
TEACHER = "teacher_logit"


class PictureSet(Dataset[Batch]):
    """Images and labels of a manifest, read from the pixel store a batch at a time.

    ``__getitems__`` returns (uint8 [n, 3, S, S], float32 [n]) and, where the manifest has a column `TEACHER`, its logits
    float32 [n], the same however a picture is augmented. Every sample's augmentation is seeded by (seed, epoch, row), so it
    does not depend on the order of the batches, the number of loader processes, or where a run resumed.
    """

    def __init__(
        self,
        store: PixelStore,
        manifest: pd.DataFrame,
        *,
        image_size: int,
        transform: v2.Transform | None = None,
        seed: int = 0,
    ) -> None:
        self._store = store
        self._rows = store.rows_of(list(manifest["sample_id"]))
        self.labels = torch.tensor(manifest["label"].to_numpy(), dtype=torch.float32)
        self.teacher = torch.tensor(manifest[TEACHER].to_numpy(), dtype=torch.float32) if TEACHER in manifest else None
        self._side = image_size
        self._transform = transform
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Batch:
        return tuple(part[0] for part in self.__getitems__([index]))

    def __getitems__(self, indices: list[int]) -> Batch:
        images = resize(torch.from_numpy(self._store.pixels[self._rows[indices]]).permute(0, 3, 1, 2), self._side)
        if self._transform is not None:
            images = self._augment(self._transform, images, indices)
        taught = () if self.teacher is None else (self.teacher[indices],)
        return images, self.labels[indices], *taught

    def _augment(self, transform: v2.Transform, images: torch.Tensor, indices: list[int]) -> torch.Tensor:
        parts = []
        # fork_rng: dropout draws from the same global generator and must not notice.
        with torch.random.fork_rng(devices=[]):
            for image, index in zip(images, indices, strict=True):
                state = np.random.SeedSequence([self._seed, self.epoch, int(index)]).generate_state(1, np.uint64)
                # The transforms run on the CPU; torch.manual_seed would seed every other device too, and takes longer
                # than most of them.
                torch.default_generator.manual_seed(int(state[0] >> np.uint64(1)))
                parts.append(transform(image))
        return torch.stack(parts)


class EpochBatches(Sampler[list[int]]):
    """Batches of row numbers in an order that is a function of (seed, epoch) alone.

    With ``join_single`` a last batch of a single row is part of the batch before it: in training, batch normalisation has
    no variance to take from one row.
    """

    def __init__(self, count: int, batch_size: int, *, seed: int, shuffle: bool, join_single: bool = False) -> None:
        self._count, self.batch_size, self._seed, self._shuffle = count, batch_size, seed, shuffle
        self._joined = join_single and count > batch_size and count % batch_size == 1
        self.drop_last = False
        self.epoch = 0

    def __len__(self) -> int:
        return -(-self._count // self.batch_size) - int(self._joined)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self._count)
        if self._shuffle:
            order = np.random.default_rng([self._seed, self.epoch]).permutation(self._count)
        last = len(self) - 1
        for number in range(last + 1):
            end = self._count if number == last else (number + 1) * self.batch_size
            yield order[number * self.batch_size : end].tolist()


def _as_is(batch: Any) -> Any:
    return batch


def make_loader(
    data: PictureSet, *, batch_size: int, seed: int, shuffle: bool, workers: int, join_single: bool = False
) -> DataLoader[Batch]:
    """A loader whose batches, see `EpochBatches`, come whole from ``PictureSet.__getitems__``."""
    batches = EpochBatches(len(data), batch_size, seed=seed, shuffle=shuffle, join_single=join_single)
    return DataLoader(data, batch_sampler=batches, collate_fn=_as_is, num_workers=workers)


def batches_in_order(data: PictureSet, *, batch_size: int, name: str) -> Iterator[torch.Tensor]:
    """The images uint8 [n, 3, S, S] of a data set in its order, a batch at a time, with a progress bar."""
    rows = BatchSampler(range(len(data)), batch_size, drop_last=False)
    return (data.__getitems__(indices)[0] for indices in progress(rows, name=name, unit="batch"))
