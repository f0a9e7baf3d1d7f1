"""Edits of the embedded parameter file."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.core.params import read_yaml
from assay.params.schema import validate_file

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED: dict[str, Any] = read_yaml(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def full() -> dict[str, Any]:
    """The content of params/full.yaml over the embedded default, checked."""
    return validate_file(ROOT / "params" / "full.yaml", base=ROOT / "params.yaml")


@pytest.fixture
def put() -> Callable[[str, object], dict[str, Any]]:
    """From a dotted key and a value to the content of params.yaml with that one value changed."""

    def edited(key: str, value: object) -> dict[str, Any]:
        content = copy.deepcopy(EMBEDDED)
        section = content
        *parents, last = key.split(".")
        for name in parents:
            section = section[name]
        section[last] = value
        return content

    return edited
