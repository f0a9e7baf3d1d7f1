"""CHAMP: 270 competition problems, each answered under 72 settings (a model and a prompt style) by language models.

Mao, Kim and Zhou, "CHAMP: A Competition-level Dataset for Fine-Grained Analyses of LLMs' Mathematical Reasoning
Capabilities", 2024 (MIT licence). The package is unpacked, never imported.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from assay.data.fetch.archives import unpack
from assay.data.fetch.registry import Pin, fetch

PIN = Pin(
    package="champ-dataset",
    version="1.0.0",
    sha256="aa59df5ae28e2ec76a401a46faf3d6395920be8009a01ce451f7d5c131d82201",
    filename="champ_dataset-1.0.0-py3-none-any.whl",
    licence="MIT",
)
MEMBER = "champ_dataset/dataset_files/v0.json"
MAX_BYTES = 2**28


def num_lines(messages: list[dict[str, Any]]) -> int:
    """Non-empty lines over all that the model wrote in one conversation; a reply that failed counts none."""
    replies = [message["text"] for message in messages if message["role"].startswith("Model.")]
    return sum(1 for reply in replies if reply for line in reply.splitlines() if line.strip())


def answers_table(content: dict[str, Any]) -> pd.DataFrame:
    """One row per answer: text (the question), setting (model and prompt style), counts (lines), group (the problem)."""
    rows = [
        {
            "text": problem["_text"],
            "setting": setting.replace("|", ", "),
            "counts": num_lines(conversation["messages"]),
            "group": name,
        }
        for name, problem in content["problems"].items()
        for setting, conversation in problem["conversations"].items()
    ]
    return pd.DataFrame(rows, columns=["text", "setting", "counts", "group"])


def fetch_champ(*, cache_dir: Path) -> pd.DataFrame:
    """The table of answers, from the package; see `answers_table`; RuntimeError if it can't be fetched."""
    archive = fetch(PIN, cache_dir=cache_dir)
    with tempfile.TemporaryDirectory() as folder:
        (path,) = unpack(archive, Path(folder), members=[MEMBER], max_bytes=MAX_BYTES)
        return answers_table(json.loads(path.read_text(encoding="utf-8")))
