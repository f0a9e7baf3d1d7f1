"""Training: what a step is a mean over, resuming, drawing, weights, a loss that is NaN, two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from assay.core.io import read_json
from assay.params.vlm import Tuning
from assay.vlm import training
from assay.vlm.examples import IGNORED, Examples
from assay.vlm.fine_tuning import class_weights, draw_weights
from assay.vlm.messages import write_messages
from assay.vlm.network import add_adapter
from assay.vlm.training import SeededSampler, Weighted, answer_loss, train, training_arguments

ROOT = Path(__file__).parents[2]
# Of unequal numbers of tokens, so that a mean of means differs from the mean.
GIVEN = ["无", "风险很高，左边有柜子", "高", "没有风险", "低风险", "非", "左边柜子、中间火", "低"] * 2
ONE_STEP = {"batch_size": 16, "epochs": 1.0}
Make = Callable[..., list[dict[str, Any]]]
Run = Callable[..., tuple[dict[str, torch.Tensor], list[dict[str, Any]]]]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """A child that is forked has none of the threads of its parent, and would wait for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def settings(default_tuning: Tuning) -> Tuning:
    return default_tuning.model_copy(update={"batch_size": 4, "epochs": 2.0, "lr": 1e-2})


@pytest.fixture(scope="module")
def examples(processor: Any, make_records: Make) -> Examples:
    return Examples(make_records(GIVEN), processor, root=Path(), max_pixels=1_000_000)


@pytest.fixture
def run(load_network: Callable[[], Any], processor: Any, examples: Examples, tmp_path: Path, settings: Tuning) -> Run:
    """Function from changes of the settings and options of `train` to the trained weights and the history."""

    def go(
        folder: str = "run",
        *,
        dropout: float = 0.0,
        order_seed: int = 3,
        weights: list[float] | None = None,
        draw: list[float] | None = None,
        save_to: Path | None = None,
        prepare: Callable[[Any], None] = lambda model: None,
        **changes: Any,
    ) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
        lora = settings.lora.model_copy(update={"dropout": dropout})
        tuning = settings.model_copy(update=changes | {"lora": lora})
        model = add_adapter(load_network(), tuning, seed=1)
        prepare(model)
        arguments = training_arguments(
            tuning, tmp_path / folder, num_rows=len(GIVEN), seed=1, order_seed=order_seed, cpu=True, workers=0
        )
        pad_token_id = processor.tokenizer.pad_token_id
        rows = Weighted(examples, weights)
        history = train(model, rows, arguments, pad_token_id=pad_token_id, name="test", draw=draw, save_to=save_to)
        return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}, history

    return go


@pytest.fixture
def plain(run: Run) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Weights and history of a training with the settings as they are."""
    return run("plain")


@pytest.fixture
def one_step(run: Run) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Weights and history of one step over all rows."""
    return run("one_step", **ONE_STEP)


def farthest(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((value - two[name]).abs().max()) for name, value in one.items())


def test_accumulated_batches_are_one_large_batch(run: Run) -> None:
    """Adam hides a wrong scale, so the norms of the gradients are compared too."""
    whole, history = run("whole", lr=1e-3, batch_size=8)
    for size in (4, 1):
        parts, split = run(f"parts-{size}", lr=1e-3, batch_size=size, gradient_accumulation=8 // size)
        assert farthest(whole, parts) < 1e-6
        assert [row["step"] for row in history] == [row["step"] for row in split] == [1, 2, 3, 4]
        for name in ("loss", "grad_norm"):
            assert [row[name] for row in split] == pytest.approx([row[name] for row in history], rel=1e-4)
    # Training does something.
    start, _ = run("start", lr=1e-12, **ONE_STEP)
    assert farthest(whole, start) > 1e-3


def test_the_loss_is_the_mean_over_all_learned_tokens(one_step: Any, network: Any, examples: Examples) -> None:
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


def test_weights_of_classes_weigh_their_rows(run: Run, plain: Any, one_step: Any) -> None:
    ones, _ = run("ones", weights=[1.0] * len(GIVEN))
    assert farthest(ones, plain[0]) == 0
    # Gradients are proportional to the weight, which Adam does not see, but the norm does.
    _, thrice = run("thrice", **ONE_STEP, weights=[3.0] * len(GIVEN))
    for name in ("loss", "grad_norm"):
        assert thrice[0][name] == pytest.approx(3 * one_step[1][0][name], rel=1e-4)
    first, _ = run("first", weights=[1.0 if answer == "高" else 0.0 for answer in GIVEN])
    assert farthest(first, plain[0]) > 1e-3


def test_the_loss_of_a_row_is_its_own() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([[IGNORED, 2, 1], [IGNORED, IGNORED, 0], [IGNORED, 3, IGNORED]])
    logits = torch.randn(4, 5, generator=generator)
    single = -logits.log_softmax(-1)[torch.arange(4), torch.tensor([2, 1, 0, 3])]
    weights = torch.tensor([1.0, 10.0, 100.0])
    expected = single[0] + single[1] + 10 * single[2] + 100 * single[3]
    assert float(answer_loss(logits, labels, weights)) == pytest.approx(float(expected), rel=1e-6)
    assert float(answer_loss(logits.bfloat16(), labels, weights)) == pytest.approx(float(expected), rel=2e-2)


def test_balanced_weights_are_those_of_equal_classes() -> None:
    labels = ["高"] * 2 + ["低"] * 5 + ["无"]
    assert class_weights(labels, "balanced") == pytest.approx([8 / 3 / 2] * 2 + [8 / 3 / 5] * 5 + [8 / 3])
    assert class_weights(labels, "none") == [1.0] * 8


def test_draws_are_those_of_seed_and_epoch() -> None:
    def drawn(seed: int, epoch: int) -> list[int]:
        sampler = SeededSampler(list(range(1, 51)), seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert list(SeededSampler(list(range(1, 51)), seed=3)) == drawn(3, 0) == drawn(3, 0)
    assert len(drawn(3, 0)) == 50
    assert len({tuple(drawn(seed, epoch)) for seed in (3, 4) for epoch in range(3)}) == 6


def test_draws_follow_their_weights() -> None:
    weights = [1.0, 0.0, 3.0, 6.0]
    sampler = SeededSampler([weight for weight in weights for _ in range(500)], seed=0)
    drawn = Counter(number // 500 for epoch in range(10) for number in (sampler.set_epoch(epoch), list(sampler))[1])
    assert drawn[1] == 0
    # 20,000 draws: a standard deviation is 0.0035 at most.
    assert [drawn[part] / 20_000 for part in (0, 2, 3)] == pytest.approx([0.1, 0.3, 0.6], abs=0.015)


@pytest.mark.parametrize(("high", "near"), [(0.4, 0.35), (0.2, 0.0), (0.5, 0.5)])
def test_high_risk_and_near_misses_get_their_shares(params: Any, high: float, near: float) -> None:
    settings = params.vlm_sft_high_risk.model_copy(update={"high_share": high, "near_share": near})
    labels = ["高"] * 3 + ["中"] * 7 + ["低"] * 20 + ["无"] * 11
    weights = np.array(draw_weights(labels, settings, high="高", near=["中"]))
    shares = {label: weights[np.array(labels) == label].sum() / weights.sum() for label in "高中低无"}
    assert shares["高"] == pytest.approx(high)
    assert shares["中"] == pytest.approx(near)
    rest = 1 - high - near
    assert shares["低"] == pytest.approx(rest * 20 / 31)
    assert shares["无"] == pytest.approx(rest * 11 / 31)


def test_a_share_without_rows_is_an_error(params: Any) -> None:
    settings = params.vlm_sft_high_risk
    for labels in (["中", "低"], ["高", "低"], ["高", "中"]):
        with pytest.raises(ValueError, match="high_share, near_share and the rest are"):
            draw_weights(labels, settings, high="高", near=["中"])
    none = settings.model_copy(update={"near_share": 0.0})
    assert sum(draw_weights(["高", "低"], none, high="高", near=["中"])) == pytest.approx(1)


def test_drawn_rows_are_what_is_trained_on(run: Run, plain: Any) -> None:
    """Rows without a chance might as well not be there: their weight in the loss changes nothing."""
    draw = [1.0 if answer in ("高", "低") else 0.0 for answer in GIVEN]
    one, _ = run("one", draw=draw)
    two, _ = run("two", draw=draw, weights=[1.0 if share else 99.0 for share in draw])
    assert farthest(one, two) == 0
    other, _ = run("other", draw=draw, order_seed=4)
    assert farthest(one, other) > 1e-4
    assert farthest(one, plain[0]) > 1e-4


def test_the_order_seed_changes_the_order_alone(run: Run, plain: Any, one_step: Any) -> None:
    # One step over all rows: the order is not seen, but for rounding; nor is anything else changed.
    assert farthest(one_step[0], run("two", **ONE_STEP, order_seed=4)[0]) < 1e-5
    assert farthest(plain[0], run("four", order_seed=4)[0]) > 1e-4


def spoil(model: Any, value: float = float("nan")) -> None:
    with torch.no_grad():
        next(parameter for parameter in model.parameters() if parameter.requires_grad).fill_(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_nan_or_infinite_is_an_error(run: Run, value: float) -> None:
    with pytest.raises(FloatingPointError, match="test: the loss is"):
        run(prepare=lambda model: spoil(model, value))


class Spoil(TrainerCallback):
    """Spoils the weights after the fourth step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        if state.global_step == 4:
            spoil(options["model"])


def test_a_loss_that_becomes_nan_after_the_last_line_is_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # Five steps, a line after every second.
    monkeypatch.setattr(training, "LOG_EVERY", 0.4)
    _, history = run("fine", epochs=1.25)
    assert [row["step"] for row in history] == [2, 4]
    watch_with(monkeypatch, Spoil())
    with pytest.raises(FloatingPointError):
        run("spoilt", epochs=1.25)


def watch_with(patch: pytest.MonkeyPatch, callback: TrainerCallback) -> None:
    """Give trainings one more callback."""
    trainer = training.AnswerTrainer

    def watched(**options: Any) -> Any:
        return trainer(**options | {"callbacks": [callback, *options["callbacks"]]})

    patch.setattr(training, "AnswerTrainer", watched)


class Kill(TrainerCallback):
    """Kills the process after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


# 8 steps with a checkpoint every second, in epochs of 4 (or of 8, accumulated from 16 batches); the kills come between
# two checkpoints, within the first epoch and within the second.
JOBS: dict[str, tuple[dict[str, Any], list[float] | None, int]] = {
    "shuffled": ({}, None, 7),
    "first_epoch": ({}, None, 3),
    "drawn": ({}, [float(number % 3) for number in range(len(GIVEN))], 7),
    "accumulated": ({"batch_size": 2, "gradient_accumulation": 2}, None, 7),
}


@pytest.mark.parametrize("name", list(JOBS))
def test_a_killed_training_ends_at_the_same_bits(run: Run, tmp_path: Path, name: str) -> None:
    changes, draw, kill = JOBS[name]
    options: dict[str, Any] = changes | {"draw": draw, "dropout": 0.1}
    straight, history = run("straight", **options)
    child = os.fork()
    if child == 0:
        try:
            with pytest.MonkeyPatch.context() as patch:
                watch_with(patch, Kill(kill))
                run("killed", **options)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    steps = [int(path.name.split("-")[1]) for path in (tmp_path / "killed").glob("checkpoint-*")]
    assert steps == [kill - 1]
    resumed, again = run("killed", **options)
    assert farthest(straight, resumed) == 0
    assert json.dumps(again) == json.dumps(history)
    assert len(history) == 8


def test_a_finished_training_is_not_run_again_and_saves_the_same(run: Run, tmp_path: Path) -> None:
    first, history = run(save_to=tmp_path / "one")
    second, again = run(save_to=tmp_path / "two")
    assert farthest(first, second) == 0
    assert json.dumps(again) == json.dumps(history)
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert farthest(one, two) == 0
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


SCRIPT = textwrap.dedent(
    """
    import json
    import sys
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    from assay.params.vlm import Tuning
    from assay.vlm.examples import Examples
    from assay.vlm.messages import read_messages
    from assay.vlm.network import add_adapter, load_base
    from assay.vlm.processor import load_processor
    from assay.vlm.training import Weighted, train, training_arguments

    place, base, tools = (Path(value) for value in sys.argv[1:4])
    batch_size = int(sys.argv[4])
    settings = Tuning.model_validate_json((place / "settings.json").read_text())
    settings = settings.model_copy(update={"batch_size": batch_size})
    processor = load_processor(tools, min_pixels=784, max_pixels=7056)
    records = read_messages(place / "rows.jsonl")
    weights = [1.0 + number % 3 for number in range(len(records))]
    rows = Weighted(Examples(records, processor, root=Path(), max_pixels=10**6), weights)
    for order, draw in (("shuffled", None), ("drawn", [float(1 + number % 4) for number in range(len(records))])):
        model = add_adapter(load_base(base, weights_dtype="float32", processor=processor), settings, seed=1)
        name = f"{order}-{batch_size}"
        arguments = training_arguments(
            settings, place / name, num_rows=len(records), seed=1, order_seed=3, cpu=True, workers=0
        )
        pad_token_id = processor.tokenizer.pad_token_id
        save_to = place / f"{name}-adapter"
        history = train(model, rows, arguments, pad_token_id=pad_token_id, name=name, draw=draw, save_to=save_to)
        result = {"world": arguments.world_size, "losses": [row["loss"] for row in history]}
        if arguments.process_index == 0:
            (place / f"{name}.json").write_text(json.dumps(result))
    """
)


@pytest.fixture(scope="module")
def processes(
    tmp_path_factory: pytest.TempPathFactory,
    make_records: Make,
    default_tuning: Tuning,
    base_folder: Path,
    processor_folder: Path,
) -> Path:
    """What the script writes, run by two processes and by one with twice the batch."""
    place = tmp_path_factory.mktemp("processes")
    (place / "script.py").write_text(SCRIPT)
    write_messages(place / "rows.jsonl", make_records(GIVEN))
    update = {"epochs": 2.0, "lr": 1e-2, "gradient_accumulation": 2}
    (place / "settings.json").write_text(default_tuning.model_copy(update=update).model_dump_json())
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    env = kept | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    # What accelerate launch starts too, for GPUs; on CPUs it wants MPI.
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    launch += ["--nproc-per-node", "2"]
    for start, batch_size in ((launch, 2), ([sys.executable], 4)):
        arguments = ["script.py", str(place), str(base_folder), str(processor_folder), str(batch_size)]
        found = subprocess.run(
            [*start, *arguments], cwd=place, env=env, capture_output=True, text=True, check=False, timeout=300
        )
        assert found.returncode == 0, found.stderr[-3000:]
    return place


@pytest.mark.parametrize("order", ["shuffled", "drawn"])
def test_two_processes_train_as_one_with_twice_the_batch(processes: Path, order: str) -> None:
    results = [read_json(processes / f"{order}-{size}.json") for size in (2, 4)]
    assert [result["world"] for result in results] == [2, 1]
    two, one = (load_file(processes / f"{order}-{size}-adapter" / "adapter_model.safetensors") for size in (2, 4))
    assert farthest(two, one) < 1e-5
    assert max(float(value.abs().max()) for name, value in one.items() if "lora_B" in name) > 1e-3
    assert len(results[0]["losses"]) == 4
    assert results[0]["losses"] == pytest.approx(results[1]["losses"], rel=1e-4)


def test_settings_reach_the_trainer(settings: Tuning, tmp_path: Path) -> None:
    changes = {"checkpointing": True, "gradient_accumulation": 3, "warmup": 0.2, "weight_decay": 0.05}
    found = training_arguments(
        settings.model_copy(update=changes), tmp_path, num_rows=100, seed=1, order_seed=2, cpu=True, workers=4
    )
    assert (found.per_device_train_batch_size, found.gradient_accumulation_steps) == (4, 3)
    assert (found.seed, found.data_seed) == (1, 2)
    assert found.gradient_checkpointing
    assert found.get_warmup_steps(100) == 20
    assert found.weight_decay == 0.05
    assert found.save_steps % found.logging_steps == 0
    assert found.dataloader_num_workers == 0


def test_checkpointing_changes_no_weight(run: Run, one_step: Any) -> None:
    kept, _ = run("kept", **ONE_STEP, checkpointing=True)
    assert farthest(one_step[0], kept) < 1e-6
