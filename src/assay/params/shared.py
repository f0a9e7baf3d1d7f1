"""Sections that every line of work reads."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from assay.core.params import Section, Share


class Runtime(Section):
    """How the stages run; results are a function of these and of the data."""

    seed: int = Field(ge=0, le=2**31 - 1)
    threads: int = Field(ge=1, le=256, description="threads of torch and OpenMP")
    workers: int = Field(ge=1, le=64, description="processes that decode pictures")
    device: Literal["auto", "cpu"] = Field(description="auto: what Accelerate finds; cpu: the processor")


class Roles(Section):
    """Share of the groups that goes to each of the five roles."""

    train: Share
    val: Share
    calib: Share
    tune: Share
    test: Share

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        shares = self.model_dump()
        if min(shares.values()) == 0 or abs(sum(shares.values()) - 1) > 1e-9:
            raise ValueError(f"the five shares must be above 0 and sum to 1, they sum to {sum(shares.values()):g}")
        return self
