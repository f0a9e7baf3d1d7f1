"""Parameters of the images line behind stage 1: experts, out-of-fold stacking and the cascade.

Apart from ``params.images``, so that an edit here does not rerun stage 1.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from annotated_types import Len
from pydantic import AfterValidator, Field, model_validator

from assay.core.params import Section, Share, ShareRange, ordered
from assay.params.images import Images, Training
from assay.params.shared import Positive

IntRange = Annotated[list[Positive], Len(2, 2), AfterValidator(ordered)]
PositiveRange = Annotated[list[Annotated[float, Field(gt=0)]], Len(2, 2), AfterValidator(ordered)]


class Expert(Training):
    """An expert: a network like stage 1's, with an embedding of what stands before its logit."""

    embedding_dim: int = Field(ge=2, le=4096)


class TrainExpert(Section):
    """The experts, by name."""

    efficientnetv2_b3: Expert
    maxvit: Expert

    @model_validator(mode="after")
    def _one_dim(self) -> Self:
        if self.efficientnetv2_b3.embedding_dim != self.maxvit.embedding_dim:
            raise ValueError("embedding_dim must be the same for all experts")
        return self


class DistillStage1(Section):
    """How the filter learns from the experts, and which filter becomes stage 1."""

    temperature: float = Field(ge=1, le=100, description="what the logits of filter and teacher are divided by")
    weight: Share = Field(description="share of the teacher's part of the loss; the labels have the rest")
    ship: Literal["auto", "plain", "distilled"] = Field(
        description="auto: plain, unless distilled is better on val beyond the interval"
    )


class BuildMeta(Section):
    alignment: Literal["none", "procrustes"] = Field(description="map of each fold's embeddings onto the refit's space")


class SearchRanges(Section):
    """What a random search draws from; log-uniform for rates and penalties."""

    n_estimators: IntRange
    learning_rate: PositiveRange
    num_leaves: Annotated[list[Annotated[int, Field(ge=2)]], Len(2, 2), AfterValidator(ordered)]
    max_depth: IntRange
    reg_alpha: PositiveRange
    reg_lambda: PositiveRange
    subsample: ShareRange
    colsample_bytree: ShareRange


class MetaSearch(Section):
    method: Literal["random", "grid"]
    num_candidates: Positive
    ranges: SearchRanges
    grid: dict[str, Annotated[list[float | int], Len(1)]] = Field(description="for method grid: values by name")

    @model_validator(mode="after")
    def _grid_known(self) -> Self:
        unknown = sorted(set(self.grid) - set(SearchRanges.model_fields))
        if unknown:
            raise ValueError(f"grid has unknown settings {unknown}; known are {sorted(SearchRanges.model_fields)}")
        if self.method == "grid" and not self.grid:
            raise ValueError("method grid needs at least one setting in grid")
        return self


class TrainMeta(Section):
    search: MetaSearch
    ship: Literal["auto", "single", "mean_logit", "logistic", "lightgbm_logits", "lightgbm"]
    test_time_mode: Literal["auto", "refit", "fold_average"]


class ScoreCascade(Section):
    sizes: list[Annotated[int, Field(ge=8, le=2048)]] = Field(
        description="sides in pixels at which each expert's refit is scored beside its own, up to prepare.size"
    )


class EvaluateCascade(Section):
    ship: str = Field(description="auto, cascade, or the name of a system that judges every image: stage1, say")
    count: Literal["macs", "server_macs", "bytes"] = Field(description="the way of counting cost that decides")
    budget_forged: float = Field(gt=0, lt=1, description="largest share of the forged that may leave as real, by scene")
    budget_real: float = Field(gt=0, lt=1, description="largest share of the real that may leave as forged, by scene")
    certify: bool = Field(description="hold the 95 % bound over scenes to the budget, not the observed share")
    assumed_correlation: float | None = Field(
        ge=0, lt=1, description="bounds assume that images of a scene correlate in leaking by at most this"
    )
    unsure: Annotated[list[Share], Len(2, 2), AfterValidator(ordered)] | None = Field(
        description="deferred images between these two probabilities get the verdict unsure"
    )
    unsure_coverage: float | None = Field(
        gt=0,
        lt=1,
        description="in place of unsure: both probabilities from tune, so that each class is covered so often",
    )
    deferred_shares: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        min_length=1, description="points of the frontier: shares of tune that are deferred"
    )

    @model_validator(mode="after")
    def _one_way_to_be_unsure(self) -> Self:
        if self.unsure is not None and self.unsure_coverage is not None:
            raise ValueError(
                f"unsure {self.unsure} and unsure_coverage {self.unsure_coverage} both say when a verdict is unsure: "
                "set one of them to null"
            )
        return self


class Stacking(Images):
    """Everything the experts and what follows them read."""

    train_expert: TrainExpert
    distill_stage1: DistillStage1
    build_meta: BuildMeta
    train_meta: TrainMeta
    score_cascade: ScoreCascade
    evaluate_cascade: EvaluateCascade

    @model_validator(mode="after")
    def _ships_what_there_is(self) -> Self:
        known = ["auto", "cascade", "stage1", "ensemble"]
        for name in TrainExpert.model_fields:
            sides = {*self.score_cascade.sizes} - {self.expert(name).image_size}
            known += [name, *(f"{name}@{side}" for side in sorted(sides))]
        if self.evaluate_cascade.ship not in known:
            raise ValueError(f"evaluate_cascade.ship: got {self.evaluate_cascade.ship!r}; known are {', '.join(known)}")
        too_large = [side for side in self.score_cascade.sizes if side > self.prepare.size]
        if too_large:
            raise ValueError(
                f"score_cascade.sizes {too_large} are above prepare.size {self.prepare.size}: pictures are not there"
            )
        return self

    def expert(self, name: str) -> Expert:
        """Settings of one expert.

        Raises:
            ValueError: no such expert.
        """
        if name not in TrainExpert.model_fields:
            raise ValueError(f"expert {name!r} is unknown; train_expert has {', '.join(TrainExpert.model_fields)}")
        found: Expert = getattr(self.train_expert, name)
        return found
