"""``assay counts`` with a variant or a table changed at random: rows or one sentence, never a crash or a traceback."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from assay.cli import main
from assay.core.io import write_json
from assay.core.params import load
from assay.counts.bins import quantile_bins
from assay.counts.networks import build_network, load_tokenizer, save_network
from assay.counts.objectives import ClassObjective, class_weights
from assay.data.tables import write_rows
from assay.params.counts import Counts
from assay.shipped.sums import write_sums
from assay_tools.fuzz import attack, attack_models, changed, few

ROOT = Path(__file__).parents[2]


@pytest.fixture
def models(tiny_encoder, tmp_path):
    """A folder as models/counts, with one variant of random weights."""
    bins = quantile_bins(range(1, 100), num_bins=4, ties="merge")
    settings = load(Counts, ROOT / "params.yaml").train_counts.quantile.model_copy(update={"frozen_layers": None})
    tokenizer = load_tokenizer(tiny_encoder)
    model = build_network(tiny_encoder, settings, num_outputs=4, pad_token_id=tokenizer.pad_token_id, seed=1)
    record = {"variant": "quantile", "cuts": None, "settings": settings.model_dump(), "quantile_bins": bins.to_json()}
    record |= {"objective": ClassObjective(bins, class_weights(bins, "none")).to_json()}
    save_network(tmp_path / "counts/quantile", model, tokenizer, base=tiny_encoder, record=record)
    write_json(tmp_path / "counts/choice.json", {"count": "quantile", "bin": "quantile"})
    intervals = {"level": 0.9, "num_groups": 27, "pooled": 0.9, "kinds": {"gpt": 0.7}}
    write_json(tmp_path / "counts/intervals.json", {"variants": {"quantile": intervals}})
    write_sums(tmp_path / "counts", ["choice.json", "intervals.json", "quantile/*"])
    torch.set_num_threads(1)
    return tmp_path / "counts"


@pytest.mark.parametrize("verify", [True, False])
def test_of_a_changed_variant_nothing_is_loaded_or_one_sentence_is_said(models, tmp_path, verify):
    arguments = ["counts", "how many", "--models", str(models), "--device", "cpu", "--threads", "1"]
    assert (
        attack_models(models, arguments + ["--no-verify"] * (not verify), few(2 if verify else 8), tmp_path / "log")
        == []
    )


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_changed_table_is_rows_or_one_sentence(models, tmp_path, suffix):
    seed, path = tmp_path / f"seed{suffix}", tmp_path / f"changed{suffix}"
    write_rows(
        pd.DataFrame({"text": ["how many", "ways", "", "sum of all"], "setting": ["gpt", None, "w2", "w3"]}), seed
    )
    whole = seed.read_bytes()
    arguments = ["counts", "--file", str(path), "--models", str(models), "--device", "cpu", "--threads", "1"]

    def door() -> None:
        status = main(arguments)
        assert status in (0, 2, 3), status

    assert (
        attack(lambda number: path.write_bytes(changed(whole, number)) and None, door, range(few(20)), tmp_path / "log")
        == []
    )
