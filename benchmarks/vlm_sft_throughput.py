"""How fast a vision-language model is fine-tuned with LoRA, against trl's ``SFTTrainer``.

    python benchmarks/vlm_sft_throughput.py
    python benchmarks/vlm_sft_throughput.py --vocab 151936 --steps 3

Both train the same adapter (vlm_sft.lora) on the same small Qwen2.5-VL of params.yaml with the same conversations,
pictures, order, batch size, learning rate and fused AdamW, both with the loss on the answer only, without
checkpoints, checkpointing of activations and half precision. Two comparisons:

- pictures from files: each batch is read, resized and tokenized on the way, as in a first epoch. Assay as ``train`` in
  assay.vlm.training does it, trl by its own collator on a data set of prompt, completion and image;
- tensors ready: the same conversations prepared beforehand, so that the step alone is compared. (Assay keeps prepared
  conversations, so its second and later epochs are so; trl prepares anew.) Here a third system is transformers'
  ``Trainer`` with the model's own loss, which takes the logits of all positions.

The time is from the end of the warm-up steps to the end of the last but one, so that as many batches are made in it as
are trained on. The losses of the steps are compared: they must be equal up to rounding, or the systems would not train
the same. ``--vocab`` enlarges the vocabulary (random embeddings): Qwen's real one has 151,936 tokens, and beside so
small a network the logits are then most of the work. Assay computes those before the supervised tokens only. trl does
so on a GPU; on a CPU, which is measured here, it computes all, in tiles.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
import trl
from transformers import PrinterCallback, Qwen2_5_VLForConditionalGeneration, Trainer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from assay.core.params import load
from assay.core.progress import progress
from assay.core.torch_setup import set_up_torch
from assay.params.vlm import Vlm
from assay.vlm.examples import Examples, pad
from assay.vlm.messages import IMAGE
from assay.vlm.network import add_adapter, small_config
from assay.vlm.prompts import risk_prompt
from assay.vlm.training import AnswerTrainer, Collator, Weighted, training_arguments
from small_vlm import make_processor, write_pictures

FILES, READY = "pictures from files", "tensors ready"
ASSAY, PEER, PLAIN = "assay", "trl SFTTrainer", "Trainer, all logits"
GOAL = 1.0
# Steps before those timed, and after: the batch of the last step is made during the one before it.
WARM_UP, AFTER = 3, 1
# Losses may differ by the order of additions, no more.
SAME_LOSS = 1e-3
SHARED = [
    *("output_dir", "num_train_epochs", "learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("weight_decay", "warmup_steps", "lr_scheduler_type", "bf16", "fp16", "optim", "seed", "data_seed", "use_cpu"),
    *("logging_steps", "report_to", "disable_tqdm", "dataloader_pin_memory", "dataloader_num_workers"),
    "remove_unused_columns",
]


@dataclass(frozen=True)
class Task:
    """What every system is given."""

    records: list[dict[str, Any]]
    processor: Any
    params: Vlm
    vocab: int
    folder: Path

    def examples(self) -> Examples:
        return Examples(self.records, self.processor, root=Path(), max_pixels=self.params.render_corridors.max_pixels)

    def arguments(self) -> Any:
        """The stage's settings, without checkpoints and with the loss of every step."""
        seed = self.params.runtime.seed
        settings = self.params.vlm_sft.model_copy(update={"epochs": 1, "gradient_accumulation": 1})
        rows = {"num_rows": len(self.records), "seed": seed, "order_seed": seed, "cpu": True, "workers": 0}
        found = training_arguments(settings, self.folder, **rows)
        found.save_strategy, found.logging_steps, found.disable_tqdm = "no", 1, True
        return found


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=15, help="of training that are timed (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="trainings of each system (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (%(default)s)")
    parser.add_argument("--vocab", type=int, default=0, help="tokens of the network; 0: the processor's (%(default)s)")
    options = parser.parse_args()
    if min(options.steps, options.repeats, options.threads) < 1:
        parser.error("--steps, --repeats and --threads must be at least 1")
    return options


def new_model(task: Task) -> Any:
    """The small network with a fresh adapter; always the same."""
    config = small_config(task.params.pretrain_vlm.small, task.processor.tokenizer)
    config.text_config.vocab_size = max(task.vocab, config.text_config.vocab_size)
    torch.manual_seed(task.params.runtime.seed)
    model = Qwen2_5_VLForConditionalGeneration(config)
    return add_adapter(model, task.params.vlm_sft, seed=task.params.runtime.seed)


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer."""
        self.ends.append(time.perf_counter())


def assay_trainer(task: Task, rows: Weighted, clock: Clock) -> Trainer:
    """As `assay.vlm.training.train` makes it."""
    collator = Collator(task.processor.tokenizer.pad_token_id)
    common = {"args": task.arguments(), "train_dataset": rows, "data_collator": collator, "callbacks": [clock]}
    return AnswerTrainer(model=new_model(task), draw=None, **common)


def trl_trainer(task: Task, rows: Any, clock: Clock, **options: Any) -> Trainer:
    """The peer with the same settings; its own defaults would checkpoint activations and run in bf16."""
    ours = task.arguments()
    arguments = SFTConfig(
        **{name: getattr(ours, name) for name in SHARED},
        save_strategy="no",
        gradient_checkpointing=False,
        max_length=None,
        **options.pop("config", {}),
    )
    return SFTTrainer(
        model=new_model(task),
        args=arguments,
        train_dataset=rows,
        processing_class=task.processor,
        callbacks=[clock],
        **options,
    )


def trl_rows(records: Sequence[dict[str, Any]]) -> datasets.Dataset:
    """Prompt, completion and picture, the form trl documents for a loss on the answer only."""

    def turn(message: dict[str, str]) -> dict[str, str]:
        return {**message, "content": message["content"].removeprefix(IMAGE)}

    turns = [[turn(message) for message in record["messages"]] for record in records]
    columns = {
        "prompt": [row[:-1] for row in turns],
        "completion": [row[-1:] for row in turns],
        "images": [record["images"] for record in records],
    }
    return datasets.Dataset.from_dict(columns).cast_column("images", datasets.List(datasets.Image()))


def ready_collator(examples: Examples, pad_token_id: int) -> Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]:
    """Batches of prepared conversations by number, padded on the right, without what is Assay's own."""

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = pad([examples[row["number"]] for row in rows], pad_token_id=pad_token_id, side="right")
        return {name: value for name, value in batch.items() if name != "logits_to_keep"}

    return collate


def trainers(task: Task, prepared: Examples) -> dict[tuple[str, str], Callable[[Clock], Trainer]]:
    """What makes each system's trainer, by comparison and name."""
    numbers = datasets.Dataset.from_dict({"number": list(range(len(task.records)))})
    collator = ready_collator(prepared, task.processor.tokenizer.pad_token_id)
    config = {"dataset_kwargs": {"skip_prepare_dataset": True}}

    def plain(clock: Clock) -> Trainer:
        common = {"args": task.arguments(), "train_dataset": numbers, "data_collator": collator, "callbacks": [clock]}
        return Trainer(model=new_model(task), **common)

    return {
        (FILES, ASSAY): lambda clock: assay_trainer(task, Weighted(task.examples()), clock),
        (FILES, PEER): lambda clock: trl_trainer(task, trl_rows(task.records), clock),
        (READY, ASSAY): lambda clock: assay_trainer(task, Weighted(prepared), clock),
        (READY, PEER): lambda clock: trl_trainer(task, numbers, clock, data_collator=collator, config=config),
        (READY, PLAIN): plain,
    }


def train(make: Callable[[Clock], Trainer], *, batch_size: int) -> tuple[float, np.ndarray]:
    """Conversations a second after the warm-up, and the loss of every step. Prints and bars are kept away."""
    clock, quiet = Clock(), io.StringIO()
    with redirect_stdout(quiet), redirect_stderr(quiet), warnings.catch_warnings(action="ignore"):
        trainer = make(clock)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    ends = clock.ends[WARM_UP - 1 : -AFTER]
    losses = np.array([row["loss"] for row in trainer.state.log_history if "loss" in row])
    return batch_size * (len(ends) - 1) / (ends[-1] - ends[0]), losses


def print_speeds(what: str, rates: dict[str, list[float]], losses: dict[str, np.ndarray]) -> float:
    """Median and range of each system, and how many times as fast Assay is; returns that against trl."""
    print(f"\n{what}\n{'':22}{'conv./s':>9}{'lowest':>9}{'highest':>9}{'ratio':>7}   {'single repeats':16}loss differs")
    ratios = {}
    for name, values in rates.items():
        ratios[name] = statistics.median(rates[ASSAY]) / statistics.median(values)
        each = [ours / theirs for ours, theirs in zip(rates[ASSAY], values, strict=True)]
        spread = f"{min(each):.2f} to {max(each):.2f}"
        print(
            f"{name:22}{statistics.median(values):9.1f}{min(values):9.1f}{max(values):9.1f}{ratios[name]:7.2f}   "
            f"{spread:16}{np.abs(losses[name] - losses[ASSAY]).max():.1e}"
        )
    return ratios[PEER]


def main() -> int:
    options, params = parse_arguments(), load(Vlm)
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    set_up_torch(threads=options.threads)
    prompt, size = risk_prompt(params.prepare_vlm), params.vlm_sft.batch_size
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        records = write_pictures(
            folder / "pictures",
            prompt,
            count=size * (WARM_UP + options.steps + AFTER),
            size=tuple(params.render_corridors.size),
            seed=1,
        )
        processor = make_processor(folder / "processor", params)
        task = Task(records, processor, params, options.vocab, folder / "work")
        prepared = task.examples()
        tokens = [len(prepared[number]["input_ids"]) for number in range(len(prepared))]
        systems = trainers(task, prepared)
        names = list(systems)
        # In turn, and every second time backwards, so that a slow minute does not meet always the same system.
        turns = [(key, turn) for turn in range(options.repeats) for key in (names[::-1] if turn % 2 else names)]
        rates: dict[tuple[str, str], list[float]] = {key: [] for key in names}
        losses: dict[tuple[str, str], np.ndarray] = {}
        for key, _ in progress(turns, name="fine-tuning", unit="run"):
            rate, losses[key] = train(systems[key], batch_size=size)
            rates[key].append(rate)
    size_of_vocab = max(options.vocab, len(processor.tokenizer))
    print(
        f"{len(records)} conversations of {np.mean(tokens):.0f} tokens, batch {size}, {options.steps} steps timed, "
        f"vocabulary {size_of_vocab}, LoRA rank {params.vlm_sft.lora.rank}\n{options.threads} thread(s), torch "
        f"{torch.__version__}, transformers {transformers.__version__}, trl {trl.__version__}"
    )
    gains = {
        what: print_speeds(
            what,
            {name: rates[other, name] for other, name in names if other == what},
            {name: losses[other, name] for other, name in names if other == what},
        )
        for what in (FILES, READY)
    }
    print(
        f"\nassay / trl {gains[FILES]:.2f} from files, {gains[READY]:.2f} with tensors ready, "
        f"goal at least {GOAL} in both: {'met' if min(gains.values()) >= GOAL else 'missed'}"
    )
    if any(np.abs(losses[key] - losses[FILES, ASSAY]).max() > SAME_LOSS for key in names):
        print("vlm_sft_throughput: the losses differ, so the systems did not train the same", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
