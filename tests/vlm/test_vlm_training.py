"""Training: what a step is a mean over, resuming, drawing, weights, a loss that is NaN, two processes."""

import json
import os
import signal
import socket
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from assay.core.io import read_json, write_json
from assay.params.vlm import Tuning
from assay.vlm import training
from assay.vlm.examples import IGNORED, Examples
from assay.vlm.fine_tuning import class_weights, draw_weights
from assay.vlm.network import add_adapter
from assay.vlm.training import SeededSampler, Weighted, answer_loss, train, training_arguments

# Of unequal numbers of tokens, so that a mean of means differs from the mean.
GIVEN = ["无", "风险很高，左边有柜子", "高", "没有风险", "低风险", "非", "左边柜子、中间火", "低"] * 2
ONE_STEP = {"batch_size": 16, "epochs": 1.0}
Run = Callable[..., tuple[dict[str, torch.Tensor], list[dict[str, Any]]]]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """A child that is forked has none of the threads of its parent, and would wait for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def settings(default_tuning) -> Tuning:
    return default_tuning.model_copy(update={"batch_size": 4, "epochs": 2.0, "lr": 1e-2})


@pytest.fixture(scope="module")
def examples(processor, make_records) -> Examples:
    return Examples(make_records(GIVEN), processor, root=Path(), max_pixels=1_000_000)


@pytest.fixture(scope="module")
def run(load_network, processor, examples, tmp_path_factory, settings) -> Run:
    """Function from changes of the settings and options of `train` to the trained weights and the history."""

    def go(
        *,
        folder: Path | None = None,
        dropout: float = 0.0,
        order_seed: int = 3,
        weights: list[float] | None = None,
        draw: list[float] | None = None,
        save_to: Path | None = None,
        **changes: Any,
    ) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
        lora = settings.lora.model_copy(update={"dropout": dropout})
        tuning = settings.model_copy(update=changes | {"lora": lora})
        model = add_adapter(load_network(), tuning, seed=1)
        folder = folder or tmp_path_factory.mktemp("run")
        arguments = training_arguments(
            tuning, folder, num_rows=len(GIVEN), seed=1, order_seed=order_seed, cpu=True, workers=0
        )
        pad_token_id = processor.tokenizer.pad_token_id
        rows = Weighted(examples, weights)
        history = train(model, rows, arguments, pad_token_id=pad_token_id, name="test", draw=draw, save_to=save_to)
        return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}, history

    return go


@pytest.fixture(scope="module")
def plain(run):
    """Weights and history of a training with the settings as they are."""
    return run()


@pytest.fixture(scope="module")
def one_step(run):
    """Weights and history of one step over all rows."""
    return run(**ONE_STEP)


def farthest(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((value - two[name]).abs().max()) for name, value in one.items())


def in_child(go: Callable[[], None]) -> int:
    """Number of a process, forked from this one, that does something; its status is then 0."""
    child = os.fork()
    if child == 0:
        signal.alarm(240)
        try:
            go()
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    return child


@pytest.mark.parametrize("changes", [{"batch_size": 2, "gradient_accumulation": 4}, {"checkpointing": True}], ids=str)
def test_accumulated_batches_are_one_large_batch_and_checkpointing_changes_nothing(run, changes):
    """Adam hides a wrong scale, so the norms of the gradients are compared too."""
    whole, history = run(lr=1e-3, batch_size=8)
    parts, split = run(**{"lr": 1e-3, "batch_size": 8} | changes)
    assert farthest(whole, parts) < 1e-6
    assert [row["step"] for row in history] == [row["step"] for row in split] == [1, 2, 3, 4]
    for name in ("loss", "grad_norm"):
        assert [row[name] for row in split] == pytest.approx([row[name] for row in history], rel=1e-4)
    # Training does something.
    assert max(float(value.abs().max()) for name, value in whole.items() if "lora_B" in name) > 1e-3


def test_the_loss_is_the_mean_over_all_learned_tokens(one_step, network, examples):
    losses = []
    with torch.inference_mode():
        for example in examples:
            row = {name: example[name][None] for name in ("input_ids", "mm_token_type_ids")}
            pixels = {name: example[name] for name in ("pixel_values", "image_grid_thw")}
            logits = network(**row, **pixels).logits[0]
            learned = (example["labels"] != IGNORED).nonzero()[:, 0]
            losses.append(-logits.log_softmax(-1)[learned - 1, example["labels"][learned]])
    mean = float(torch.cat(losses).mean())
    assert one_step[1][0]["loss"] == pytest.approx(mean, abs=1e-5)
    assert abs(mean - np.mean([float(part.mean()) for part in losses])) > 1e-3


def test_weights_of_classes_weigh_their_rows(run, plain, one_step):
    ones, _ = run(weights=[1.0] * len(GIVEN))
    assert farthest(ones, plain[0]) == 0
    # Gradients are proportional to the weight, which Adam does not see, but the norm does; nor is the order seen.
    _, thrice = run(**ONE_STEP, weights=[3.0] * len(GIVEN), order_seed=4)
    for name in ("loss", "grad_norm"):
        assert thrice[0][name] == pytest.approx(3 * one_step[1][0][name], rel=1e-4)
    first, _ = run(weights=[1.0 if answer == "高" else 0.0 for answer in GIVEN])
    assert farthest(first, plain[0]) > 1e-3


def test_the_loss_of_a_row_is_its_own():
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([[IGNORED, 2, 1], [IGNORED, IGNORED, 0], [IGNORED, 3, IGNORED]])
    logits = torch.randn(4, 5, generator=generator)
    single = -logits.log_softmax(-1)[torch.arange(4), torch.tensor([2, 1, 0, 3])]
    weights = torch.tensor([1.0, 10.0, 100.0])
    expected = single[0] + single[1] + 10 * single[2] + 100 * single[3]
    assert float(answer_loss(logits, labels, weights)) == pytest.approx(float(expected), rel=1e-6)
    assert float(answer_loss(logits.bfloat16(), labels, weights)) == pytest.approx(float(expected), rel=2e-2)


def test_balanced_weights_are_those_of_equal_classes():
    labels = ["高"] * 2 + ["低"] * 5 + ["无"]
    assert class_weights(labels, "balanced") == pytest.approx([8 / 3 / 2] * 2 + [8 / 3 / 5] * 5 + [8 / 3])
    assert class_weights(labels, "none") == [1.0] * 8


def test_draws_are_those_of_seed_and_epoch():
    def drawn(seed: int, epoch: int) -> list[int]:
        sampler = SeededSampler(list(range(1, 51)), seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert list(SeededSampler(list(range(1, 51)), seed=3)) == drawn(3, 0) == drawn(3, 0)
    assert len(drawn(3, 0)) == 50
    assert len({tuple(drawn(seed, epoch)) for seed in (3, 4) for epoch in range(3)}) == 6


@pytest.mark.parametrize(("high", "near"), [(0.4, 0.35), (0.2, 0.0), (0.5, 0.5)])
def test_high_risk_and_near_misses_get_their_shares(params, high, near):
    settings = params.vlm_sft_high_risk.model_copy(update={"high_share": high, "near_share": near})
    labels = ["高"] * 3 + ["中"] * 7 + ["低"] * 20 + ["无"] * 11
    weights = np.array(draw_weights(labels, settings, high="高", near=["中"]))
    shares = [weights[np.array(labels) == label].sum() for label in "高中低无"]
    rest = 1 - high - near
    assert shares == pytest.approx([high, near, rest * 20 / 31, rest * 11 / 31])


def test_mistakes_get_their_share_by_how_wrong_they_are(params):
    settings = params.vlm_sft_high_risk.model_copy(update={"mistake_share": 0.4})
    labels, errors = ["高", "高", "中", "低"], [0.9, 0.1, 0.0, 0.6]
    options = {"high": "高", "near": ["中"]}
    plain = np.array(draw_weights(labels, settings, **options))
    found = np.array(draw_weights(labels, settings, **options, errors=errors))
    assert found.sum() == pytest.approx(1)
    assert found == pytest.approx(0.6 * plain + 0.4 * np.array(errors) / 1.6)
    # Where nothing is wrong, there is nothing to draw.
    assert draw_weights(labels, settings, **options, errors=[0.0] * 4) == pytest.approx(plain)


def test_a_share_without_rows_is_an_error(params):
    settings = params.vlm_sft_high_risk
    for labels in (["中", "低"], ["高", "低"], ["高", "中"]):
        with pytest.raises(ValueError, match="high_share, near_share and the rest are"):
            draw_weights(labels, settings, high="高", near=["中"])
    none = settings.model_copy(update={"near_share": 0.0})
    assert sum(draw_weights(["高", "低"], none, high="高", near=["中"])) == pytest.approx(1)


def test_drawn_rows_are_what_is_trained_on(run, plain):
    """Rows without a chance might as well not be there: their weight in the loss changes nothing."""
    draw = [1.0 if answer in ("高", "低") else 0.0 for answer in GIVEN]
    one, _ = run(draw=draw)
    two, _ = run(draw=draw, weights=[1.0 if share else 99.0 for share in draw])
    assert farthest(one, two) == 0
    # The order of the draws, and of rows that are not drawn, follows its seed.
    other, _ = run(draw=draw, order_seed=4)
    assert farthest(one, other) > 1e-4
    other, _ = run(order_seed=4)
    assert farthest(plain[0], other) > 1e-4


class AfterStep(TrainerCallback):
    """Does something to the model after a step."""

    def __init__(self, step: int, action: Callable[[Any], None]) -> None:
        self.step, self.action = step, action

    def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        if state.global_step == self.step:
            self.action(options["model"])


def watch_with(patch: pytest.MonkeyPatch, callback: TrainerCallback) -> None:
    """Give trainings one more callback."""
    trainer = training.AnswerTrainer

    def watched(**options: Any) -> Any:
        return trainer(**options | {"callbacks": [callback, *options["callbacks"]]})

    patch.setattr(training, "AnswerTrainer", watched)


def test_a_loss_that_becomes_infinite_or_nan_even_after_the_last_line_is_an_error(run, monkeypatch):
    @torch.no_grad()
    def spoil(model: Any, value: float) -> None:
        next(parameter for parameter in model.parameters() if parameter.requires_grad).fill_(value)

    # Five steps, a line after every second.
    monkeypatch.setattr(training, "LOG_EVERY", 0.4)
    _, history = run(epochs=1.25)
    assert [row["step"] for row in history] == [2, 4]
    for step, value in ((1, float("inf")), (4, float("nan"))):
        with pytest.MonkeyPatch.context() as patch:
            watch_with(patch, AfterStep(step, partial(spoil, value=value)))
            with pytest.raises(FloatingPointError, match="test: the loss is"):
                run(epochs=1.25)


# 8 steps with a checkpoint every second, in epochs of 4 (or of 8, accumulated from 16 batches); the kills come between
# two checkpoints, within the first epoch and within the second.
@pytest.mark.parametrize(
    ("changes", "kill"),
    [
        ({}, 3),
        ({"draw": [float(number % 3) for number in range(len(GIVEN))]}, 7),
        ({"batch_size": 2, "gradient_accumulation": 2}, 7),
    ],
    ids=["first epoch", "drawn", "accumulated"],
)
def test_a_killed_training_ends_at_the_same_bits(run, tmp_path, changes, kill):
    options: dict[str, Any] = changes | {"dropout": 0.1}
    straight, history = run(**options)

    def killed() -> None:
        with pytest.MonkeyPatch.context() as patch:
            watch_with(patch, AfterStep(kill, lambda model: os.kill(os.getpid(), signal.SIGKILL)))
            run(folder=tmp_path / "killed", **options)

    assert os.waitstatus_to_exitcode(os.waitpid(in_child(killed), 0)[1]) == -signal.SIGKILL
    steps = [int(path.name.split("-")[1]) for path in (tmp_path / "killed").glob("checkpoint-*")]
    assert steps == [kill - 1]
    resumed, again = run(folder=tmp_path / "killed", **options)
    assert farthest(straight, resumed) == 0
    assert json.dumps(again) == json.dumps(history)
    assert len(history) == 8


def test_a_finished_training_is_not_run_again_and_saves_the_same(run, tmp_path):
    first, history = run(folder=tmp_path / "run", save_to=tmp_path / "one")
    second, again = run(folder=tmp_path / "run", save_to=tmp_path / "two")
    assert farthest(first, second) == 0
    assert json.dumps(again) == json.dumps(history)
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert farthest(one, two) == 0
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


@pytest.mark.parametrize("draw", [None, [float(1 + number % 4) for number in range(len(GIVEN))]])
def test_two_processes_train_as_one_with_twice_the_batch(run, tmp_path, monkeypatch, draw):
    options: dict[str, Any] = {"weights": [1.0 + number % 3 for number in range(len(GIVEN))], "draw": draw}
    options["gradient_accumulation"] = 2
    one, history = run(**options)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What torchrun and accelerate launch set. Without a number of threads accelerate gives each process all cores; a
    # forked one then waits for the threads that its parent has.
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    shared |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}

    def train_part(rank: int) -> None:
        os.environ.update(shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        _, losses = run(folder=tmp_path / "run", **options, batch_size=2, save_to=tmp_path / "two")
        assert torch.distributed.get_world_size() == 2
        write_json(tmp_path / f"{rank}.json", losses)

    children = [in_child(lambda rank=rank: train_part(rank)) for rank in (0, 1)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    two = load_file(tmp_path / "two/adapter_model.safetensors")
    assert len(history) == 4
    losses = [row["loss"] for row in read_json(tmp_path / "0.json")]
    assert losses == pytest.approx([row["loss"] for row in history], rel=1e-4)
    found = {name.replace(".default", ""): value for name, value in one.items()}
    assert farthest(two, found) < 1e-5


def test_settings_reach_the_trainer(settings, tmp_path):
    changes = {"checkpointing": True, "gradient_accumulation": 3, "warmup": 0.2, "weight_decay": 0.05}
    tuning = settings.model_copy(update=changes)
    found = training_arguments(tuning, tmp_path, num_rows=100, seed=1, order_seed=2, cpu=True, workers=4)
    assert (found.per_device_train_batch_size, found.gradient_accumulation_steps) == (4, 3)
    assert (found.seed, found.data_seed) == (1, 2)
    assert (found.weight_decay, found.get_warmup_steps(100)) == (0.05, 20)
    assert found.gradient_checkpointing
    assert found.save_steps % found.logging_steps == 0
    assert found.dataloader_num_workers == 0
