"""Batches and checkpoints that a resumed training finds again."""

from pathlib import Path

import numpy as np
import pytest
import torch

from assay.training.trainer import SeededLengthSampler, last_checkpoint, log_and_save_steps

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


@pytest.mark.parametrize("num_rows", [48, 310, 4899, 12149])
def test_checkpoints_lie_on_lines_of_the_history(num_rows: int) -> None:
    total = -(-num_rows // 16) * 0.36
    log, save = log_and_save_steps(num_rows, batch_size=16, epochs=0.36, log_every=0.05, save_every=0.25)
    assert save % log == 0
    assert log == max(1, -(-total * 0.05 // 1))
    assert abs(save - 0.25 * total) <= log / 2 + 1


def test_several_processes_share_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    how = {"batch_size": 10, "epochs": 2.0, "log_every": 0.1, "save_every": 0.5}
    assert log_and_save_steps(1000, **how) == (20, 100)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert log_and_save_steps(1000, **how) == (10, 50)
