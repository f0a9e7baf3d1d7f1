"""What the models are asked and may answer: the questions of both, and the classes in their order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from assay.params.vlm import PrepareVlm
from assay.vlm.messages import messages_record


@dataclass(frozen=True)
class Prompt:
    """One question about an image with its possible answers; ``names`` and ``labels`` are those of the answers."""

    system: str
    question: str
    answers: tuple[str, ...]
    labels: tuple[str, ...]
    names: tuple[str, ...]

    def record(self, image: str, *, label: str | None = None, **extra: object) -> dict[str, Any]:
        """The conversation about one image, answered if its label is given (see `messages_record`).

        Raises:
            ValueError: the label is none of ``labels``.
        """
        answer = None
        if label is not None:
            if label not in self.labels:
                raise ValueError(f"label: got {label!r}; use one of {', '.join(self.labels)}")
            answer = self.answers[self.labels.index(label)]
            extra["label"] = label
        return messages_record(image, system=self.system, question=self.question, answer=answer, **extra)

    def numbers(self, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Class numbers int64 [n] of answered conversations."""
        return np.array([self.labels.index(record["label"]) for record in records], dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        """As values that JSON can hold."""
        return asdict(self)


def prompt_from_json(values: Mapping[str, Any]) -> Prompt:
    """The prompt that `Prompt.to_json` wrote."""
    parts: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Prompt(**parts)


def risk_prompt(settings: PrepareVlm) -> Prompt:
    """The first model's question: which of all classes."""
    return Prompt(
        system=settings.system,
        question=settings.question,
        answers=tuple(item.answer for item in settings.classes),
        labels=tuple(item.label for item in settings.classes),
        names=tuple(item.name for item in settings.classes),
    )


def high_prompt(settings: PrepareVlm) -> Prompt:
    """The second model's: high risk against the rest; the label of the rest is the answer itself."""
    high = settings.high_risk
    return Prompt(
        system=settings.system,
        question=high.question,
        answers=(high.no, high.yes),
        labels=(high.no, high.label),
        names=("rest", "high"),
    )


def conversations(rows: pd.DataFrame, settings: PrepareVlm) -> list[dict[str, Any]]:
    """A record of messages for each row."""
    prompt, keys = risk_prompt(settings), ("sample_id", "name", "group", "transform")
    return [
        prompt.record(row["picture"], label=row["label"], **{key: row[key] for key in keys}, **known_danger(row))
        for row in rows.to_dict("records")
    ]


def known_danger(row: Mapping[Any, Any]) -> dict[str, Any]:
    """The key ``danger`` of a record, boxes in shares of the image's sides, where the row says where the danger is."""
    return {"danger": json.loads(row["danger"])} if isinstance(row.get("danger"), str) else {}


def caption_conversations(rows: pd.DataFrame, settings: PrepareVlm) -> list[dict[str, Any]]:
    """Training images that have a caption, with it as the answer."""
    turns = {"system": settings.system, "question": settings.caption_question}
    return [
        messages_record(row["picture"], answer=row["caption"], sample_id=row["sample_id"], **turns)
        for row in rows.dropna(subset="caption").to_dict("records")
    ]
