"""train_counts@<variant>: one way to predict counts, fine-tuned.

    python -m assay.stages.train_counts --variant quantile

Output, in models/counts/<variant>: weights, tokenizer, variant.json (settings, objective, bins), history.csv and
val.parquet (sample_id, counts, group and the predicted count and bin on the val role).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from assay.core.io import read_json, write_csv, write_parquet
from assay.core.params import load
from assay.core.resume import resumable
from assay.core.stage import run, timed
from assay.core.torch_setup import pick_device, set_up_torch
from assay.counts.bins import bins_from_json, cut, matched_cuts
from assay.counts.memory import plan_table, require_fit
from assay.counts.networks import build_network, load_tokenizer, memory_plan, network_outputs, save_network
from assay.counts.objectives import Objective, make_objective
from assay.counts.training import Phase, body_trained, encode, phase_arguments, run_phase
from assay.params.counts import Counts, CountVariant, Staged

ROWS = Path("data/counts/rows")
BASES = {"llm_lora": Path("data/counts/causal_lm")}
ENCODER = Path("data/counts/encoder")
MODELS = Path("models/counts")


def phases_of(settings: CountVariant) -> list[Phase]:
    """One phase, or for the staged variant the head alone and then everything."""
    if not isinstance(settings, Staged):
        return [Phase("all", settings.epochs, settings.lr, settings.head_lr)]
    head = Phase("head", settings.head_epochs, settings.head_lr, settings.head_lr)
    return [head, Phase("all", settings.epochs, settings.lr, settings.lr)]


def train(
    model: Any,
    tokenizer: Any,
    data: list[dict[str, Any]],
    objective: Objective,
    settings: CountVariant,
    checkpoints: Path,
    *,
    seed: int,
    cpu: bool,
) -> list[dict[str, Any]]:
    """Train ``model`` in place, phase by phase; returns the history."""
    history, body = [], body_trained(model)
    for phase in phases_of(settings):
        for parameter in body:
            parameter.requires_grad = phase.name == "all"
        folder = checkpoints / phase.name
        options = phase_arguments(settings, phase, folder, num_rows=len(data), seed=seed, cpu=cpu)
        history += run_phase(model, tokenizer, data, objective, options, phase=phase)
    return history


def is_matched(settings: CountVariant) -> bool:
    """Whether bins are cut from the predicted counts, so that each is named as often as it occurs."""
    return getattr(settings, "bin_rule", None) == "matched"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m assay.stages.train_counts")
    parser.add_argument("--variant", required=True, help="a key of train_counts in params.yaml")
    variant = parser.parse_args(arguments).variant
    params = load(Counts)
    settings, seed, device = params.variant(variant), params.runtime.seed, pick_device(params.runtime.device).type
    set_up_torch(threads=params.runtime.threads)
    base, output, stage = BASES.get(variant, ENCODER), MODELS / variant, f"train_counts@{variant}"
    with timed(stage) as measured:
        rows = {role: pd.read_parquet(ROWS / f"{role}.parquet") for role in ("train", "val")}
        counts = rows["train"]["counts"].to_numpy()
        bins = {kind: bins_from_json(record) for kind, record in read_json(ROWS / "bins.json").items()}
        objective = make_objective(variant, settings, counts=counts, bins=bins)
        plan = memory_plan(base, settings, num_outputs=objective.num_outputs, device=device)
        print(f"memory that training {variant} will need\n{plan_table(plan)}", flush=True)
        require_fit(plan, what=f"train_counts.{variant}")
        tokenizer = load_tokenizer(base)
        model = build_network(
            base, settings, num_outputs=objective.num_outputs, pad_token_id=tokenizer.pad_token_id, seed=seed
        )
        data = encode(tokenizer, list(rows["train"]["text"]), objective.targets(counts), max_tokens=settings.max_tokens)
        inputs = [base, *(ROWS / name for name in ("train.parquet", "val.parquet", "bins.json"))]
        with resumable(stage, params={"settings": settings, "runtime": params.runtime}, inputs=inputs) as checkpoints:
            history = train(model, tokenizer, data, objective, settings, checkpoints, seed=seed, cpu=device == "cpu")
            val = list(rows["val"]["text"])
            outputs = network_outputs(model, tokenizer, val, max_tokens=settings.max_tokens, what="val")
            predicted = objective.counts(outputs)
            cuts = matched_cuts(predicted, bins["quantile"].shares) if is_matched(settings) else None
            chosen = objective.bins_of(outputs, bins["quantile"]) if cuts is None else cut(predicted, cuts)
            frame = rows["val"][["sample_id", "counts", "group"]].assign(predicted=predicted, bin=chosen)
            record = {"variant": variant, "settings": settings.model_dump(), "objective": objective.to_json()}
            record |= {"quantile_bins": bins["quantile"].to_json(), "cuts": None if cuts is None else cuts.tolist()}
            save_network(output, model, tokenizer, base=base, record=record)
            write_parquet(output / "val.parquet", frame)
            write_csv(output / "history.csv", pd.DataFrame(history))
        measured["texts"] = sum(phase.epochs for phase in phases_of(settings)) * len(data)
    error = (frame["predicted"] - frame["counts"]).abs().mean()
    print(f"{variant}: mean absolute error on val {error:.2f} (n {len(frame)}); saved in {output}")


if __name__ == "__main__":
    run(main)
