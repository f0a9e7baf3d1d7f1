"""Training: what a step is a mean over, resuming, drawing, weights, loss that is no number, two processes."""

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

from assay.params.vlm import Tuning
from assay.vlm import training
from assay.vlm.examples import IGNORED, Examples
from assay.vlm.fine_tuning import class_weights, draw_weights
from assay.vlm.messages import write_messages
from assay.vlm.network import add_adapter, load_base
from assay.vlm.training import SeededSampler, Weighted, answer_loss, train, training_arguments

ROOT = Path(__file__).parents[2]
# Of unequal numbers of tokens, so that a mean of means differs from the mean.
GIVEN = ["无", "风险很高，左边有柜子", "高", "没有风险", "低风险", "非", "左边柜子、中间火", "低"] * 2
Make = Callable[..., list[dict[str, Any]]]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """A child that is forked has none of the threads of its parent, and would wait for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def settings(default_tuning: Tuning) -> Tuning:
    lora = default_tuning.lora.model_copy(update={"dropout": 0.1})
    return default_tuning.model_copy(update={"batch_size": 4, "epochs": 2.0, "lr": 1e-2, "lora": lora})


@pytest.fixture
def run(
    base_folder: Path, processor: Any, make_records: Make, tmp_path: Path, settings: Tuning
) -> Callable[..., tuple[dict[str, torch.Tensor], list[dict[str, Any]]]]:
    """Function from changes of the settings and options of `train` to the trained weights and the history."""

    def go(
        folder: str = "run",
        *,
        changes: dict[str, Any] | None = None,
        order_seed: int = 3,
        weights: list[float] | None = None,
        prepare: Callable[[Any], None] = lambda model: None,
        **options: Any,
    ) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
        how = settings.model_copy(update=changes or {})
        model = add_adapter(load_base(base_folder, weights_dtype="float32", processor=processor), how, seed=1)
        prepare(model)
        examples = Examples(make_records(GIVEN), processor, root=Path(), max_pixels=1_000_000)
        arguments = training_arguments(
            how, tmp_path / folder, num_rows=len(GIVEN), seed=1, order_seed=order_seed, cpu=True, workers=0
        )
        pad_token_id = processor.tokenizer.pad_token_id
        history = train(
            model, Weighted(examples, weights), arguments, pad_token_id=pad_token_id, name="test", **options
        )
        return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}, history

    return go


def farthest(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((value - two[name]).abs().max()) for name, value in one.items())


def no_dropout(settings: Tuning) -> dict[str, Any]:
    return {"lora": settings.lora.model_copy(update={"dropout": 0.0})}


def test_accumulated_batches_are_one_large_batch(run: Callable[..., Any], settings: Tuning) -> None:
    """Adam hides a wrong scale, so the norms of the gradients are compared too."""
    plain = no_dropout(settings) | {"lr": 1e-3}
    whole, history = run("whole", changes=plain | {"batch_size": 8})
    parts, split = run("parts", changes=plain | {"batch_size": 4, "gradient_accumulation": 2})
    eighths, _ = run("eighths", changes=plain | {"batch_size": 1, "gradient_accumulation": 8})
    assert farthest(whole, parts) < 1e-6
    assert farthest(whole, eighths) < 1e-6
    assert [row["step"] for row in history] == [row["step"] for row in split] == [1, 2, 3, 4]
    for name in ("loss", "grad_norm"):
        assert [row[name] for row in split] == pytest.approx([row[name] for row in history], rel=1e-4)
    # Training does something.
    start, _ = run("start", changes=plain | {"lr": 1e-12})
    assert farthest(whole, start) > 1e-3


def test_the_loss_is_the_mean_over_all_learned_tokens(
    run: Callable[..., Any], settings: Tuning, network: Any, processor: Any, make_records: Make
) -> None:
    _, history = run(changes=no_dropout(settings) | {"batch_size": 16, "epochs": 1.0})
    examples = Examples(make_records(GIVEN), processor, root=Path(), max_pixels=1_000_000)
    losses = []
    with torch.inference_mode():
        for number in range(len(GIVEN)):
            row = {name: examples[number][name] for name in ("input_ids", "mm_token_type_ids")}
            pixels = {name: examples[number][name] for name in ("pixel_values", "image_grid_thw")}
            logits = network(**{name: value[None] for name, value in row.items()}, **pixels).logits[0]
            labels = examples[number]["labels"]
            learned = (labels != IGNORED).nonzero()[:, 0]
            losses.append(-logits.log_softmax(-1)[learned - 1, labels[learned]])
    assert history[0]["loss"] == pytest.approx(float(torch.cat(losses).mean()), abs=1e-5)
    assert abs(float(torch.cat(losses).mean()) - np.mean([float(part.mean()) for part in losses])) > 1e-3


def test_weights_of_classes_weigh_their_rows(run: Callable[..., Any], settings: Tuning) -> None:
    plain = no_dropout(settings)
    ones, _ = run("ones", changes=plain, weights=[1.0] * len(GIVEN))
    none, _ = run("none", changes=plain)
    assert farthest(ones, none) == 0
    # Gradients are proportional to the weight, which Adam does not see, but the norm does.
    _, once = run("once", changes=plain | {"batch_size": 16, "epochs": 1.0})
    _, thrice = run("thrice", changes=plain | {"batch_size": 16, "epochs": 1.0}, weights=[3.0] * len(GIVEN))
    for name in ("loss", "grad_norm"):
        assert thrice[0][name] == pytest.approx(3 * once[0][name], rel=1e-4)
    first, _ = run("first", changes=plain, weights=[1.0 if answer == "高" else 0.0 for answer in GIVEN])
    assert farthest(first, none) > 1e-3


def test_the_loss_of_a_row_is_its_own() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([[IGNORED, 2, 1], [IGNORED, IGNORED, 0], [IGNORED, 3, IGNORED]])
    logits = torch.randn(4, 5, generator=generator)
    single = -logits.log_softmax(-1)[torch.arange(4), torch.tensor([2, 1, 0, 3])]
    weights = torch.tensor([1.0, 10.0, 100.0])
    expected = single[0] + single[1] + 10 * single[2] + 100 * single[3]
    assert float(answer_loss(logits, labels, weights)) == pytest.approx(float(expected), rel=1e-6)
    assert float(answer_loss(logits.bfloat16(), labels, weights)) == pytest.approx(float(expected), rel=2e-2)


def test_balanced_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_sample_weight

    labels = ["高"] * 2 + ["低"] * 5 + ["无"]
    assert class_weights(labels, "balanced") == pytest.approx(compute_sample_weight("balanced", labels).tolist())
    assert sum(class_weights(labels, "balanced")) == pytest.approx(len(labels))
    assert class_weights(labels, "none") == [1.0] * 8


def test_draws_are_those_of_seed_and_epoch() -> None:
    weights = list(range(1, 51))
    one, two, other = (SeededSampler(weights, seed=seed) for seed in (3, 3, 4))
    first = list(one)
    assert first == list(two)
    assert first != list(other)
    draws = {0: first}
    for epoch in (1, 2):
        for sampler in (one, two):
            sampler.set_epoch(epoch)
        draws[epoch] = list(one)
        assert draws[epoch] == list(two)
    assert len({tuple(draw) for draw in draws.values()}) == 3
    one.set_epoch(0)
    assert list(one) == first
    assert len(first) == 50


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


def test_a_share_without_rows_is_refused(params: Any) -> None:
    settings = params.vlm_sft_high_risk
    for labels in (["中", "低"], ["高", "低"], ["高", "中"]):
        with pytest.raises(ValueError, match="high_share, near_share and the rest are"):
            draw_weights(labels, settings, high="高", near=["中"])
    none = settings.model_copy(update={"near_share": 0.0})
    assert sum(draw_weights(["高", "低"], none, high="高", near=["中"])) == pytest.approx(1)


def test_drawn_rows_are_what_is_trained_on(run: Callable[..., Any], settings: Tuning) -> None:
    """Rows without a chance might as well not be there: their weight in the loss changes nothing."""
    draw = [1.0 if answer in ("高", "低") else 0.0 for answer in GIVEN]
    one, _ = run("one", draw=draw)
    two, _ = run("two", draw=draw, weights=[1.0 if share else 99.0 for share in draw])
    assert farthest(one, two) == 0
    other, _ = run("other", draw=draw, order_seed=4)
    assert farthest(one, other) > 1e-4
    evenly, _ = run("evenly")
    assert farthest(one, evenly) > 1e-4


def test_the_order_seed_changes_the_order_alone(run: Callable[..., Any], settings: Tuning) -> None:
    plain = no_dropout(settings) | {"batch_size": 16, "epochs": 1.0}
    one, _ = run("one", changes=plain)
    two, _ = run("two", changes=plain, order_seed=4)
    # One step over all rows: the order is not seen, but for rounding; nor is anything else changed.
    assert farthest(one, two) < 1e-5
    three, _ = run("three", changes=no_dropout(settings))
    four, _ = run("four", changes=no_dropout(settings), order_seed=4)
    assert farthest(three, four) > 1e-4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_refused(run: Callable[..., Any], value: float) -> None:
    def spoil(model: Any) -> None:
        with torch.no_grad():
            next(parameter for name, parameter in model.named_parameters() if "lora_A" in name).fill_(value)

    with pytest.raises(FloatingPointError, match="test: the loss is no number"):
        run(prepare=spoil)


def test_a_loss_that_becomes_no_number_after_the_last_line_is_refused(
    run: Callable[..., Any], settings: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Five steps, a line after every second.
    monkeypatch.setattr(training, "LOG_EVERY", 0.4)
    changes = no_dropout(settings) | {"epochs": 1.25}
    _, history = run("fine", changes=changes)
    assert [row["step"] for row in history] == [2, 4]

    class Spoil(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
            if state.global_step == 4:
                with torch.no_grad():
                    next(value for value in options["model"].parameters() if value.requires_grad).fill_(float("nan"))

    watch_with(monkeypatch, Spoil())
    with pytest.raises(FloatingPointError):
        run("spoilt", changes=changes)


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
def test_a_killed_training_ends_at_the_same_bits(
    run: Callable[..., Any], settings: Tuning, tmp_path: Path, name: str
) -> None:
    changes, draw, kill = JOBS[name]
    straight, history = run("straight", changes=changes, draw=draw)
    child = os.fork()
    if child == 0:
        try:
            with pytest.MonkeyPatch.context() as patch:
                watch_with(patch, Kill(kill))
                run("killed", changes=changes, draw=draw)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    steps = [int(path.name.split("-")[1]) for path in (tmp_path / "killed").glob("checkpoint-*")]
    assert steps == [kill - 1]
    resumed, again = run("killed", changes=changes, draw=draw)
    assert farthest(straight, resumed) == 0
    assert json.dumps(again) == json.dumps(history)
    assert len(history) == 8


def test_a_finished_training_is_not_run_again_and_saves_the_same(run: Callable[..., Any], tmp_path: Path) -> None:
    first, history = run(save_to=tmp_path / "one")
    second, again = run(save_to=tmp_path / "two")
    assert farthest(first, second) == 0
    assert json.dumps(again) == json.dumps(history)
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert farthest(one, two) == 0
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    from assay.params.vlm import VlmSft
    from assay.vlm.examples import Examples
    from assay.vlm.messages import read_messages
    from assay.vlm.network import add_adapter, load_base
    from assay.vlm.processor import load_processor
    from assay.vlm.training import Weighted, train, training_arguments

    place, base, tools = (Path(value) for value in sys.argv[1:4])
    batch_size = int(sys.argv[4])
    settings = VlmSft.model_validate_json((place / "settings.json").read_text())
    settings = settings.model_copy(update={"batch_size": batch_size})
    processor = load_processor(tools, min_pixels=784, max_pixels=7056)
    records = read_messages(place / "rows.jsonl")
    weights = [1.0 + number % 3 for number in range(len(records))]
    rows = Weighted(Examples(records, processor, root=Path(), max_pixels=10**6), weights)
    for how, draw in (("shuffled", None), ("drawn", [float(1 + number % 4) for number in range(len(records))])):
        model = add_adapter(load_base(base, weights_dtype="float32", processor=processor), settings, seed=1)
        name = f"{how}-{batch_size}"
        arguments = training_arguments(
            settings, place / name, num_rows=len(records), seed=1, order_seed=3, cpu=True, workers=0
        )
        pad_token_id = processor.tokenizer.pad_token_id
        save_to = place / f"{name}-adapter"
        history = train(model, rows, arguments, pad_token_id=pad_token_id, name=name, draw=draw, save_to=save_to)
        print(how, arguments.world_size, [row["loss"] for row in history], flush=True)
    """
)


@pytest.fixture(scope="module")
def processes(
    tmp_path_factory: pytest.TempPathFactory,
    make_records: Make,
    default_tuning: Tuning,
    base_folder: Path,
    processor_folder: Path,
) -> dict[str, tuple[Path, list[str]]]:
    """Folder and printed lines of the script, run by two processes and by one with twice the batch."""
    place = tmp_path_factory.mktemp("processes")
    (place / "script.py").write_text(SCRIPT)
    write_messages(place / "rows.jsonl", make_records(GIVEN))
    update = {"epochs": 2.0, "lr": 1e-2, "gradient_accumulation": 2}
    (place / "settings.json").write_text(default_tuning.model_copy(update=update).model_dump_json())
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    env = kept | {
        "PYTHONPATH": str(ROOT / "src"),
        "TQDM_DISABLE": "1",
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "1",
    }
    # What accelerate launch starts too, for GPUs; on CPUs it wants MPI.
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    launch += ["--nproc-per-node", "2"]
    done = {}
    for name, start, batch_size in (("two", launch, 2), ("one", [sys.executable], 4)):
        arguments = ["script.py", str(place), str(base_folder), str(processor_folder), str(batch_size)]
        found = subprocess.run(
            [*start, *arguments], cwd=place, env=env, capture_output=True, text=True, check=False, timeout=300
        )
        assert found.returncode == 0, found.stderr[-3000:]
        done[name] = place, [line for line in found.stdout.splitlines() if line.startswith(("shuffled ", "drawn "))]
    return {name: (place, [line for line in lines if "[" in line]) for name, (place, lines) in done.items()}


@pytest.mark.parametrize("how", ["shuffled", "drawn"])
def test_two_processes_train_as_one_with_twice_the_batch(
    processes: dict[str, tuple[Path, list[str]]], how: str
) -> None:
    lines = {
        name: [line.split(" ", 2)[1:] for line in printed if line.startswith(how)]
        for name, (_, printed) in processes.items()
    }
    assert [world for world, _ in lines["two"]] == ["2", "2"]
    assert [world for world, _ in lines["one"]] == ["1"]
    place, _ = processes["one"]
    two, one = (load_file(place / f"{how}-{size}-adapter" / "adapter_model.safetensors") for size in (2, 4))
    assert farthest(two, one) < 1e-5
    assert max(float(value.abs().max()) for name, value in one.items() if "lora_B" in name) > 1e-3
    losses = [json.loads(lines[name][0][1]) for name in ("two", "one")]
    assert len(losses[0]) == 4
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_settings_reach_the_trainer(settings: Tuning, tmp_path: Path) -> None:
    changes = {"checkpointing": True, "gradient_accumulation": 3, "warmup": 0.2, "weight_decay": 0.05}
    how = training_arguments(
        settings.model_copy(update=changes), tmp_path, num_rows=100, seed=1, order_seed=2, cpu=True, workers=4
    )
    assert (how.per_device_train_batch_size, how.gradient_accumulation_steps) == (4, 3)
    assert (how.seed, how.data_seed) == (1, 2)
    assert how.gradient_checkpointing
    assert how.get_warmup_steps(100) == 20
    assert how.weight_decay == 0.05
    assert how.save_steps % how.logging_steps == 0
    assert how.dataloader_num_workers == 0


def test_checkpointing_changes_no_weight(run: Callable[..., Any], settings: Tuning) -> None:
    without, _ = run("without", changes={"epochs": 1.0})
    kept, _ = run("kept", changes={"epochs": 1.0, "checkpointing": True})
    assert farthest(without, kept) < 1e-6
