"""From texts to counts, bins and probabilities, by one trained variant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assay.counts.bins import Bins, bins_from_json, cut
from assay.counts.conformal import Intervals, kind_of
from assay.counts.networks import load_network, load_tokenizer, network_outputs, read_record
from assay.counts.objectives import Objective, objective_from_json
from assay.counts.question import full_text, text_problem
from assay.params.counts import TrainCounts
from assay.training.prefixes import beginnings


@dataclass(frozen=True)
class CountPredictor:
    """A trained variant, ready to judge questions."""

    name: str
    model: Any
    tokenizer: Any
    objective: Objective
    quantile: Bins
    max_tokens: int
    cuts: tuple[float, ...] | None
    intervals: Intervals | None = None

    def outputs(self, texts: list[str], *, what: str = "questions") -> np.ndarray:
        """What the network says of each text, float32 [n, num_outputs]."""
        return network_outputs(self.model, self.tokenizer, texts, max_tokens=self.max_tokens, what=what)

    @property
    def bins(self) -> Bins:
        """The variant's own bins; the quantile bins for a regression, which has none."""
        return getattr(self.objective, "bins", self.quantile)

    def bins_of(self, outputs: np.ndarray) -> np.ndarray:
        """Predicted bin int64 [n] of each row of ``outputs``."""
        if self.cuts is None:
            return self.objective.bins_of(outputs, self.quantile)
        return cut(self.objective.counts(outputs), self.cuts)

    def predict(self, questions: list[str], *, setting: str | None = None) -> pd.DataFrame:
        """One row per question.

        Args:
            questions: at least one, none of them empty.
            setting: what produces the answer, say "GPT-4, 0-Shot"; part of the texts in training.

        Returns:
            Columns text, count (expected), bin (from 0), low and high (whole counts of the bin), interval_low and
            interval_high (whole counts that hold the true one as often as `Intervals.level` says; missing where there are
            no intervals), truncated, and for a classifier p_0, p_1, ...: the probability of each bin.

        Raises:
            ValueError: a question is no text, empty, or holds half of a character, which a tokenizer drops unsaid.
        """
        for number, question in enumerate(questions):
            if problem := text_problem(question):
                told = ": ".join(filter(None, problem))
                raise ValueError(
                    f"questions[{number}] can't be read: {told}; assay.counts.answer makes it a row that says so"
                )
        texts = [full_text(question, setting) for question in questions]
        outputs = self.outputs(texts)
        counts, probs = self.objective.counts(outputs), self.objective.probs(outputs)
        index = self.bins_of(outputs)
        ranges = [self.bins.whole_range(int(number)) for number in index]
        none = Intervals(level=0.0, num_groups=0, pooled=None, kinds={})
        lowest, highest = (self.intervals or none).limits(counts, [kind_of(setting or "")] * len(counts))
        begun = beginnings(self.tokenizer, texts, max_tokens=self.max_tokens)
        lengths = [len(ids) for ids in self.tokenizer(begun, verbose=False)["input_ids"]]
        frame = pd.DataFrame(
            {
                "text": questions,
                "count": counts,
                "bin": index,
                "low": [low for low, _ in ranges],
                "high": [high for _, high in ranges],
                "interval_low": pd.array(lowest, dtype="Float64").astype("Int64"),
                "interval_high": pd.array(highest, dtype="Float64").astype("Int64"),
                "truncated": [length > self.max_tokens for length in lengths],
            }
        )
        return frame if probs is None else frame.join(pd.DataFrame(probs).add_prefix("p_"))


def load_predictor(folder: Path, *, device: str = "cpu", intervals: Intervals | None = None) -> CountPredictor:
    """The variant of a model folder; everything but an adapter's base model and ``intervals`` is read from there.

    Raises:
        ValueError: files missing or not fitting each other.
    """
    record = read_record(folder)
    kind = TrainCounts.model_fields[record["variant"]].annotation
    assert kind is not None
    settings = kind.model_validate(record["settings"])
    objective = objective_from_json(record["objective"])
    model = load_network(folder, settings, num_outputs=objective.num_outputs).to(device)
    quantile = bins_from_json(record["quantile_bins"])
    cuts = None if record["cuts"] is None else tuple(map(float, record["cuts"]))
    tokenizer = load_tokenizer(folder)
    lengths = settings.max_tokens
    return CountPredictor(record["variant"], model, tokenizer, objective, quantile, lengths, cuts, intervals)
