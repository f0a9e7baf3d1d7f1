"""Parameters of the counts line: how many thinking units a question will cost."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from assay.core.params import Line, Section, Share
from assay.params.shared import Limits, MaxTokens, NumBins, Optimization, Positive, Rate, RoleShares, Runtime


class CausalConfig(Section):
    """A small Qwen2 with random weights, for where no pretrained causal model can be had."""

    hidden_size: Annotated[int, Field(ge=8)]
    num_layers: Positive
    num_heads: Positive
    intermediate_size: Annotated[int, Field(ge=8)]

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of 2 * num_heads ({self.num_heads})")
        return self


class FetchCounts(Section):
    source: str = Field(min_length=1, description="packages, or a table (docs/your-data.md) with text and counts")
    encoder: str = Field(min_length=1, description="'package: NAME==VERSION', 'hub: NAME' or 'folder: PATH'")
    causal_lm: str = Field(min_length=1, description="config, 'package: NAME==VERSION', 'hub: NAME' or 'folder: PATH'")
    causal_lm_config: CausalConfig = Field(description="the network where causal_lm is config")


class CountRoles(RoleShares):
    """A group is a question."""

    train: Share
    val: Share
    calib: Share
    test: Share


class RowsPerGroup(Section):
    """Most rows of one group that a role keeps; null keeps all."""

    train: Positive | None
    val: Positive | None
    calib: Positive | None
    test: Positive | None


class PrepareCounts(Section):
    roles: CountRoles
    max_rows_per_group: RowsPerGroup
    max_count: Positive | None = Field(description="larger counts are rejected; null: none is")
    equal_width_bins: NumBins
    quantile_bins: NumBins
    ties: Literal["merge", "error"] = Field(description="where tied counts give one quantile twice")


class CountVariant(Optimization):
    """How one variant is trained; ``lr`` is that of the pretrained weights (of the adapters, with LoRA)."""

    gradient_accumulation: Positive
    head_lr: Rate = Field(description="of the new head, which starts from nothing")
    max_tokens: MaxTokens
    length_grouped: bool = Field(description="texts of similar length in a batch: less padding")
    mixed_precision: Literal["no", "bf16", "fp16"]


class EncoderVariant(CountVariant):
    """A variant on the encoder."""

    frozen_layers: Annotated[int, Field(ge=0)] | None = Field(
        description="embeddings and so many of the lowest layers keep their pretrained weights; null: all are trained"
    )


class Regression(EncoderVariant):
    target: Literal["log1p", "raw"]
    bin_rule: Literal["edges", "matched"] = Field(
        description="edges: the bin a count lies in; matched: cuts on val such that each bin is named as often as it occurs"
    )


class Ranking(Regression):
    """A regression that looks at the order of the rows of a batch, too."""

    rank_weight: float = Field(
        gt=0, le=1, description="share of the loss that looks at pairs; the rest is squared error"
    )


class Classifier(EncoderVariant):
    class_weights: Literal["none", "balanced"]


class QuantileClassifier(Classifier):
    bin_rule: Literal["likeliest", "matched"] = Field(
        description="likeliest: the bin with the largest probability; matched: as for regression"
    )


class Staged(QuantileClassifier):
    """The head alone first, at ``head_lr``; then everything, the head too, at the smaller ``lr``."""

    head_epochs: float = Field(gt=0, le=1000)

    @model_validator(mode="after")
    def _second_smaller(self) -> Self:
        if self.lr > self.head_lr:
            raise ValueError(
                f"lr {self.lr:g} of the second stage must not be above head_lr {self.head_lr:g} of the first"
            )
        return self


class Ordinal(EncoderVariant):
    loss: Literal["corn", "coral"]
    bin_rule: Literal["rank", "matched"] = Field(
        description="rank: the rule of CORN and CORAL (half of the probability is passed); matched: as for regression"
    )


class LlmLora(CountVariant):
    class_weights: Literal["none", "balanced"]
    bin_rule: Literal["likeliest", "matched"] = Field(description="as for the other classifiers")
    rank: Positive
    alpha: Positive
    dropout: Share
    target_modules: list[str] = Field(min_length=1, description="linear layers that get an adapter, by last name")
    checkpointing: bool = Field(description="recompute activations in the backward pass: slower, far less memory")
    weights_dtype: Literal["float32", "bfloat16", "4bit"] = Field(description="of the frozen weights")
    num_layers: Positive | None = Field(description="the lowest so many of the model's layers are used; null: all")


class TrainCounts(Section):
    """The variants, by name."""

    regression: Regression
    ranking: Ranking
    equal_width: Classifier
    quantile: QuantileClassifier
    staged: Staged
    ordinal: Ordinal
    llm_lora: LlmLora


VARIANTS: tuple[str, ...] = tuple(TrainCounts.model_fields)


class Queue(Section):
    """The queue that evaluate_counts simulates: one server, jobs as they come, the shortest predicted one first."""

    loads: list[Annotated[float, Field(gt=0, lt=1)]] = Field(min_length=1, description="share of the time it is busy")
    ageing: float = Field(ge=0, description="counts of prediction that a job gains per unit of time it waits")
    jobs: Annotated[int, Field(ge=100)] = Field(description="simulated for each value")
    jobs_left_out: Annotated[int, Field(ge=100)] = Field(description="simulated for each group that is left out")

    @model_validator(mode="after")
    def _shorter(self) -> Self:
        if self.jobs_left_out > self.jobs:
            raise ValueError(f"jobs_left_out {self.jobs_left_out} must not be above jobs {self.jobs}")
        return self


class EvaluateCounts(Section):
    ridge_alpha: float = Field(gt=0, description="penalty of the ridge baseline on words and setting")
    logistic_c: float = Field(gt=0, description="inverse penalty of the logistic regression on words and setting")
    interval_level: float = Field(gt=0, lt=1, description="share of the counts that intervals are to hold")
    queue: Queue


class Counts(Line):
    """Everything the counts line reads."""

    runtime: Runtime
    limits: Limits
    fetch_counts: FetchCounts
    prepare_counts: PrepareCounts
    train_counts: TrainCounts
    evaluate_counts: EvaluateCounts

    def variant(self, name: str) -> CountVariant:
        """Settings of one variant.

        Raises:
            ValueError: no such variant.
        """
        if name not in VARIANTS:
            raise ValueError(f"variant {name!r} is unknown; train_counts has {', '.join(VARIANTS)}")
        found: CountVariant = getattr(self.train_counts, name)
        return found
