"""The plan of a study: which runs it consists of (params/runs/study.yaml)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from assay.core.params import Section
from assay.params.shared import Seed


class Plan(Section):
    """The runs: the whole pipeline once with each of ``seeds``, the images line once with each family held out."""

    params: str = Field(min_length=1, description="a parameter file, put over the embedded default in each run")
    seeds: list[Seed] = Field(min_length=1, description="values of runtime.seed")
    family_seeds: list[Seed] = Field(
        description="values of runtime.seed of the runs that hold a family out; []: no such run"
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for name, values in (("seeds", self.seeds), ("family_seeds", self.family_seeds)):
            if len(set(values)) != len(values):
                raise ValueError(f"{name} has an entry twice: {values}")
        return self
