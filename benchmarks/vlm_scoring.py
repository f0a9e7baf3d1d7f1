"""How fast a vision-language model classifies: probabilities of the answers, against ``generate()`` and its text.

    python benchmarks/vlm_scoring.py
    python benchmarks/vlm_scoring.py --pictures 256 --repeats 9 --threads 4

Three systems name the class of the same pictures with the same network, the small Qwen2.5-VL of params.yaml:

- assay: ``answer_log_probs``: left-padded batches, one forward pass, the answers' log-probabilities at the last position;
- generate, batches: greedy ``generate()`` on the same batches, up to ``--max-new-tokens`` or the end of all turns;
- generate, one by one: the same a picture at a time, as most scripts on the web have it.

First all get the same tensors, so that the network is compared and nothing else. Then all begin with the picture files:
Assay as ``record_log_probs``, the others as the model's card has it (PIL, chat template, processor, ``batch_decode``).

The network is trained here for some seconds to tell five colours apart, so that ``generate()`` ends its turns as a
trained model does, and the classes found can be compared. The goal is for equal batches; the picture at a time is told
beside it. Assay gives the probability of every class, which ``generate()`` does not. Not measured: a GPU, longer answers.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from assay.core.params import load
from assay.core.progress import progress
from assay.core.torch_setup import set_up_torch
from assay.params.vlm import Vlm
from assay.vlm.examples import Examples, pad
from assay.vlm.messages import chat
from assay.vlm.network import small_network
from assay.vlm.prompts import Prompt, risk_prompt
from assay.vlm.scoring import NEEDED, answer_log_probs, answer_tokens, record_log_probs
from assay.vlm.training import Weighted, train, training_arguments
from small_vlm import make_processor, write_pictures

ASSAY, BATCHES, SINGLY = "assay", "generate, batches", "generate, one by one"
GOAL = 4.0
TRAINED_ON, EPOCHS = 160, 6
# Class numbers int64 [n]; NO_CLASS where the text is none of the answers.
Found = np.ndarray
NO_CLASS = -1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=64, help="(%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each system (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (%(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=8, help="of generate() (%(default)s)")
    options = parser.parse_args()
    if min(options.pictures, options.repeats, options.threads) < 1 or options.max_new_tokens < 2:
        parser.error("--pictures, --repeats and --threads must be at least 1, --max-new-tokens at least 2")
    return options


def trained_network(processor: Any, records: Sequence[dict[str, Any]], folder: Path, params: Vlm) -> Any:
    """The small network, trained to answer with the colour's class."""
    settings, seed = params.pretrain_vlm.model_copy(update={"epochs": EPOCHS}), params.runtime.seed
    model = small_network(settings.small, processor.tokenizer, seed=seed)
    rows = Weighted(Examples(records, processor, root=Path(), max_pixels=params.render_corridors.max_pixels))
    how = training_arguments(settings, folder, num_rows=len(records), seed=seed, order_seed=seed, cpu=True, workers=0)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        train(model, rows, how, pad_token_id=processor.tokenizer.pad_token_id, name="benchmark")
    return model.eval()


def classes_of(tokens: torch.Tensor, processor: Any, prompt: Prompt) -> Found:
    """Which answer each row of generated tokens is."""
    texts = processor.batch_decode(tokens, skip_special_tokens=True)
    answers = list(prompt.answers)
    return np.array([answers.index(text.strip()) if text.strip() in answers else NO_CLASS for text in texts])


@torch.inference_mode()
def generated(model: Any, inputs: Any, *, max_new_tokens: int) -> torch.Tensor:
    """The tokens after the question, greedily."""
    found = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    return found[:, inputs["input_ids"].shape[1] :]


def from_files(
    model: Any, processor: Any, records: Sequence[dict[str, Any]], prompt: Prompt, *, batch_size: int, new_tokens: int
) -> Found:
    """Classes by ``generate()`` from the picture files on, as the model's card has it."""
    found = []
    for start in range(0, len(records), batch_size):
        part = records[start : start + batch_size]
        images = [Image.open(record["images"][0]).convert("RGB") for record in part]
        turns = [[turn for turn in chat(record) if turn["role"] != "assistant"] for record in part]
        texts = [processor.apply_chat_template(turn, add_generation_prompt=True) for turn in turns]
        inputs = processor(text=texts, images=images, padding=True, padding_side="left", return_tensors="pt")
        found.append(classes_of(generated(model, inputs, max_new_tokens=new_tokens), processor, prompt))
    return np.concatenate(found)


def systems(
    model: Any, processor: Any, records: Sequence[dict[str, Any]], params: Vlm, *, new_tokens: int
) -> tuple[dict[str, Callable[[], Found]], dict[str, Callable[[], Found]]]:
    """What is timed: on the same tensors, and from the picture files on."""
    prompt, size = risk_prompt(params.prepare_vlm), params.vlm_predict.batch_size
    limit, pad_token_id = params.render_corridors.max_pixels, processor.tokenizer.pad_token_id
    answers = answer_tokens(processor.tokenizer, prompt.answers)
    asked = Examples(
        [prompt.record(record["images"][0]) for record in records], processor, root=Path(), max_pixels=limit
    )
    rows = [asked[number] for number in range(len(asked))]

    def batches(count: int) -> list[dict[str, torch.Tensor]]:
        return [pad(rows[start : start + count], pad_token_id=pad_token_id) for start in range(0, len(rows), count)]

    def score() -> Found:
        return torch.cat([answer_log_probs(model, batch, answers) for batch in batches(size)]).argmax(dim=1).numpy()

    def generate(count: int) -> Found:
        inputs = [{name: batch[name] for name in NEEDED} for batch in batches(count)]
        tokens = [generated(model, batch, max_new_tokens=new_tokens) for batch in inputs]
        return np.concatenate([classes_of(part, processor, prompt) for part in tokens])

    def score_files() -> Found:
        how = {"max_pixels": limit, "batch_size": size, "name": "score"}
        return record_log_probs(model, records, processor, prompt, **how).argmax(axis=1)

    def generate_files(count: int) -> Found:
        return from_files(model, processor, records, prompt, batch_size=count, new_tokens=new_tokens)

    return (
        {ASSAY: score, BATCHES: lambda: generate(size), SINGLY: lambda: generate(1)},
        {ASSAY: score_files, BATCHES: lambda: generate_files(size), SINGLY: lambda: generate_files(1)},
    )


def measure(runs: dict[str, Callable[[], Found]], *, repeats: int, what: str) -> tuple[dict[str, list[float]], dict]:
    """Seconds of each run, and the classes each system found; a first run of each is not counted."""
    names = list(runs)
    # In turn, and every second time backwards, so that a slow minute does not meet always the same system.
    turns = [(name, turn) for turn in range(repeats) for name in (names[::-1] if turn % 2 else names)]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    found = {name: run() for name, run in runs.items()}
    for name, _ in progress(turns, name=what, unit="run"):
        start = time.perf_counter()
        runs[name]()
        seconds[name].append(time.perf_counter() - start)
    return seconds, found


def print_speeds(title: str, seconds: dict[str, list[float]], *, count: int) -> dict[str, float]:
    """Pictures a second of each system, and how many times as many Assay takes; returns that."""
    print(f"\n{title}\n{'':22}{'pictures/s':>11}{'lowest':>9}{'highest':>9}{'ratio':>7}   single repeats")
    ratios = {}
    for name, values in seconds.items():
        ratios[name] = statistics.median(values) / statistics.median(seconds[ASSAY])
        each = [theirs / ours for theirs, ours in zip(values, seconds[ASSAY], strict=True)]
        print(
            f"{name:22}{count / statistics.median(values):11.1f}{count / max(values):9.1f}{count / min(values):9.1f}"
            f"{ratios[name]:7.2f}   {min(each):.2f} to {max(each):.2f}"
        )
    return ratios


def main() -> int:
    options, params = parse_arguments(), load(Vlm)
    transformers.logging.set_verbosity_error()
    set_up_torch(threads=options.threads)
    prompt, size = risk_prompt(params.prepare_vlm), params.vlm_predict.batch_size
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("train", "test"):
            (folder / part).mkdir()
        how: dict[str, Any] = {"size": tuple(params.render_corridors.size)}
        train_records = write_pictures(folder / "train", prompt, count=TRAINED_ON, seed=1, **how)
        records = write_pictures(folder / "test", prompt, count=options.pictures, seed=2, **how)
        processor = make_processor(folder / "processor", params)
        model = trained_network(processor, train_records, folder / "checkpoints", params)
        ready, whole = systems(model, processor, records, params, new_tokens=options.max_new_tokens)
        seconds, found = measure(ready, repeats=options.repeats, what="tensors")
        seconds_whole, found_whole = measure(whole, repeats=options.repeats, what="files")
    print(
        f"{len(records)} pictures, batch {size}, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, "
        f"{options.threads} thread(s), torch {torch.__version__}, transformers {transformers.__version__}"
    )
    ratios = print_speeds("The same tensors: the network alone", seconds, count=len(records))
    print_speeds("From the picture files on", seconds_whole, count=len(records))
    print(
        f"\nassay against generate in batches {ratios[BATCHES]:.2f}, one by one {ratios[SINGLY]:.2f}; "
        f"goal {GOAL} batch for batch: {'met' if ratios[BATCHES] >= GOAL else 'missed'}"
    )
    labels = np.arange(len(records)) % len(prompt.labels)
    for where, classes in (("tensors", found), ("files", found_whole)):
        for name in (BATCHES, SINGLY):
            said = classes[name] != NO_CLASS
            same = (classes[name] == classes[ASSAY])[said]
            print(
                f"{where}: {name} gave one of the answers for {said.sum()} of {len(said)}, the class of assay's for "
                f"{same.sum()} of these"
            )
    print(f"accuracy of assay {(found[ASSAY] == labels).mean():.3f}, n {len(labels)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
