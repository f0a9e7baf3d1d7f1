"""Batches and checkpoints that a resumed training finds again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from assay.trainer import SeededLengthSampler, last_checkpoint

RNG = np.random.default_rng(5)


def test_length_grouped_batches_are_a_function_of_seed_and_epoch() -> None:
    lengths = [int(n) for n in RNG.integers(3, 60, 300)]

    def order(seed: int, epoch: int) -> list[int]:
        sampler = SeededLengthSampler(8, lengths=lengths, seed=seed)
        sampler.set_epoch(epoch)
        torch.manual_seed(int(RNG.integers(1e6)))  # the global generator has no say
        return list(sampler)

    assert order(1, 2) == order(1, 2)
    assert sorted(order(1, 2)) == list(range(300))
    assert order(1, 2) != order(1, 3) != order(2, 3)
    spread = [np.ptp([lengths[n] for n in order(1, 0)[k : k + 8]]) for k in range(0, 296, 8)]
    assert np.mean(spread) < 15


def test_a_half_written_checkpoint_is_not_taken(tmp_path: Path) -> None:
    for step, whole in ((5, True), (10, True), (15, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if whole:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert not (tmp_path / "checkpoint-15").exists()
    assert last_checkpoint(tmp_path / "missing") is None
