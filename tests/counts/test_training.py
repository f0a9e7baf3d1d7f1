"""The Trainer against a loop written out by hand, phases, resumption, accumulation, length-grouped batches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback, get_linear_schedule_with_warmup

from assay.core.params import load
from assay.counts.bins import quantile_bins
from assay.counts.networks import build_network, load_tokenizer
from assay.counts.objectives import ClassObjective, Objective, RegressionObjective, class_weights
from assay.counts.training import Phase, body_trained, encode, make_trainer, phase_arguments, run_phase
from assay.params.counts import Classifier, Counts

ROOT = Path(__file__).parents[2]
ALL = Phase("all", 2.0, 1e-3, 1e-2)
RNG = np.random.default_rng(5)
COUNTS = RNG.integers(1, 60, 48)
TEXTS = [" ".join(f"w{n}" for n in RNG.integers(0, 40, RNG.integers(3, 20))) for _ in COUNTS]
BINS = quantile_bins(COUNTS, num_bins=4, ties="error")


def settings(**changes: Any) -> Classifier:
    found = load(Counts, ROOT / "params.yaml").train_counts.quantile
    small = {"batch_size": 8, "epochs": 2.0, "lr": 1e-3, "max_tokens": 24, "warmup": 0.25, "length_grouped": False}
    small |= {"frozen_layers": None}
    return found.model_copy(update=small | changes)


def class_objective() -> ClassObjective:
    return ClassObjective(BINS, class_weights(BINS, "balanced"))


def network(base: Path, objective: Objective) -> Any:
    return build_network(base, settings(), num_outputs=objective.num_outputs, pad_token_id=0, seed=3)


def no_dropout(model: Any) -> Any:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for layer in model.bert.encoder.layer:
        layer.attention.self.dropout.p = 0.0
    return model


def values(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


class KilledError(Exception):
    """Ends a training between two checkpoints: on the disk is what a kill would leave."""


class Kill(TrainerCallback):
    """Ends the second epoch before it is over."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 11:
            raise KilledError


def train(
    model: Any, base: Path, objective: Objective, folder: Path, *, phase: Phase, targets: Any, kill: bool = False
) -> list[dict[str, Any]]:
    """The history of a phase, from a checkpoint if there is one."""
    tokenizer = load_tokenizer(base)
    rows = encode(tokenizer, TEXTS, targets, max_tokens=24)
    changed = settings(length_grouped=True)
    options = phase_arguments(changed, phase, folder, num_rows=len(rows), seed=3, cpu=True)
    if kill:
        trainer = make_trainer(model, tokenizer, rows, objective, options, phase=phase)
        trainer.add_callback(Kill())
        trainer.train()
    return run_phase(model, tokenizer, rows, objective, options, phase=phase)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_trainer_is_a_plain_torch_loop_step_by_step(tiny_encoder, tmp_path, accumulation):
    """Same seed, same batches in the same order: loss after loss, and the weights at the end."""
    objective, changed = class_objective(), settings(gradient_accumulation=accumulation)
    tokenizer = load_tokenizer(tiny_encoder)
    rows = encode(tokenizer, TEXTS, objective.targets(COUNTS), max_tokens=24)
    arguments = phase_arguments(changed, ALL, tmp_path / "run", num_rows=len(COUNTS), seed=3, cpu=True)
    arguments.logging_steps, arguments.save_strategy = 1, "no"
    model = no_dropout(network(tiny_encoder, objective))
    trainer = make_trainer(model, tokenizer, rows, objective, arguments, phase=ALL)
    order = []
    collate = trainer.data_collator
    trainer.data_collator = lambda batch: order.append(collate(batch)) or order[-1]
    trainer.train()
    found = [row["loss"] for row in trainer.state.log_history if "loss" in row]

    plain = no_dropout(network(tiny_encoder, objective)).train()
    decay = set(trainer.get_decay_parameter_names(plain))
    groups = [
        {"params": [p], "lr": 1e-2 if n.startswith("classifier") else 1e-3, "weight_decay": 0.01 * (n in decay)}
        for n, p in plain.named_parameters()
    ]
    optimizer = torch.optim.AdamW(groups)
    steps = len(order) // accumulation
    schedule = get_linear_schedule_with_warmup(optimizer, int(np.ceil(0.25 * steps)), steps)
    expected = []
    for start in range(0, len(order), accumulation):
        batches = order[start : start + accumulation]
        size = sum(len(batch["labels"]) for batch in batches)
        total = 0.0
        for batch in batches:
            loss = objective.loss(plain(batch["input_ids"], batch["attention_mask"]).logits, batch["labels"]) / size
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        expected.append(total)
    assert len(found) == steps
    assert np.allclose(found, expected, atol=1e-4)
    for name, value in values(plain).items():
        assert torch.allclose(value, model.state_dict()[name], atol=1e-5), name


def test_stage_one_leaves_the_backbone_and_stage_two_moves_it(tiny_encoder, tmp_path):
    objective = class_objective()
    model, targets = network(tiny_encoder, objective), objective.targets(COUNTS)
    before, body = values(model), body_trained(model)
    for phase, frozen in ((Phase("head", 1.0, 1e-2, 1e-2), True), (Phase("all", 1.0, 1e-3, 1e-3), False)):
        for parameter in body:
            parameter.requires_grad = not frozen
        train(model, tiny_encoder, objective, tmp_path / phase.name, phase=phase, targets=targets)
        after = values(model)
        moved = {name for name in after if not torch.equal(after[name], before[name])}
        assert {name for name in moved if name.startswith("classifier")} == {"classifier.weight", "classifier.bias"}
        backbone = {name for name in moved if not name.startswith("classifier")}
        # The pooler's and every layer's weights; position 0 .. of the table move only where texts reach.
        assert (not backbone) if frozen else len(backbone) > 30
        before = after


def test_a_loss_that_is_nan_or_infinite_is_told(tiny_encoder, tmp_path):
    objective = RegressionObjective(True, 0.0, 1.0, 4.0, 40.0)
    model, targets = network(tiny_encoder, objective), np.full(len(TEXTS), np.inf)
    with pytest.raises(FloatingPointError, match="all: the loss is NaN or infinite; a smaller lr may help"):
        train(model, tiny_encoder, objective, tmp_path, phase=ALL, targets=targets)


def test_a_killed_run_resumes_bit_identically(tiny_encoder, tmp_path, capsys):
    """Dropout is on and batches are drawn anew each epoch."""
    objective, phase = class_objective(), Phase("all", 3.0, 1e-3, 1e-2)

    def run(folder, **options):
        model, targets = network(tiny_encoder, objective), objective.targets(COUNTS)
        history = train(model, tiny_encoder, objective, folder, phase=phase, targets=targets, **options)
        return history, values(model)

    with pytest.raises(KilledError):
        run(tmp_path / "killed", kill=True)
    killed, straight = run(tmp_path / "killed"), run(tmp_path / "straight")
    assert capsys.readouterr().out.count("all: resuming from") == 1
    assert repr(killed[0]) == repr(straight[0])
    for name, value in straight[1].items():
        assert torch.equal(value, killed[1][name]), name
