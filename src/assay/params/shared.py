"""Types and sections that several lines of work read."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from assay.core.params import Section, Share

Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
MaxTokens = Annotated[int, Field(ge=8, le=8192)]
NumBins = Annotated[int, Field(ge=2, le=100)]
Scaling = Annotated[
    Literal["auto", "temperature", "vector"],
    Field(description="of the calibration; auto: vector where it gains on held-out groups of calib"),
]


class Runtime(Section):
    """How the stages run; results are a function of these and of the data."""

    seed: Seed = Field(description="of trainings and of what is drawn to measure them")
    data_seed: Seed = Field(
        description="of roles, folds, forgeries, scenes and copies: trainings of several seeds meet the same data"
    )
    threads: int = Field(ge=1, le=256, description="threads of torch and OpenMP")
    workers: int = Field(ge=1, le=64, description="processes that decode images")
    device: Literal["auto", "cpu"] = Field(description="auto: what Accelerate finds; cpu: the processor")


class Limits(Section):
    """What one file from outside may hold and take; more makes it a rejected row, or an error if it is all there is."""

    picture_bytes: int = Field(ge=1024, description="of a picture's file")
    picture_seconds: float = Field(gt=0, le=3600, description="of processor time to decode one")
    table_bytes: int = Field(ge=1024, description="of a table, as it lies there and as it unpacks")
    text_characters: Positive = Field(description="of a text; longer ones are rejected")


class RoleShares(Section):
    """Share of the groups that goes to each role; a line's own class names the roles."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        shares = self.model_dump()
        if min(shares.values()) == 0 or abs(sum(shares.values()) - 1) > 1e-9:
            number = {3: "three", 4: "four", 5: "five"}[len(shares)]
            raise ValueError(f"the {number} shares must be above 0 and sum to 1, they sum to {sum(shares.values()):g}")
        return self


class Roles(RoleShares):
    """The five roles of images and vlm."""

    train: Share
    val: Share
    calib: Share
    tune: Share
    test: Share


class Optimization(Section):
    """What every fine-tuning and pretraining of a language model needs; ``epochs`` may be a part of one."""

    epochs: float = Field(gt=0, le=1000)
    batch_size: Positive = Field(description="of one process")
    lr: Rate
    weight_decay: float = Field(ge=0, lt=1)
    warmup: Share = Field(description="share of the steps over which the rate rises")
