"""Reading params.yaml: one place, strict, with errors that name the key.

DVC writes ``-S train_stage1.lr=1e-5`` back as ``1e-05``. PyYAML (YAML 1.1) would read that as a string, so the file
is read as DVC itself reads it, with ruamel.yaml (YAML 1.2).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from annotated_types import Len
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

PARAMS_FILE = Path("params.yaml")


class Section(BaseModel):
    """A part of params.yaml: unknown keys, wrong types and values out of range are errors; immutable once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Line(BaseModel):
    """All sections one line of work reads. Sections of other lines stand in the same file and are not looked at."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


Number = TypeVar("Number", int, float)


class ParamsError(ValueError):
    """params.yaml can't be used; the message names every bad key, its value and what is allowed."""


def ordered(values: list[Number]) -> list[Number]:
    """Refuse a pair [low, high] in the wrong order."""
    if values[0] > values[1]:
        raise ValueError(f"the first number must not be larger than the second, got {values}")
    return values


Share = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[list[float], Len(2, 2), AfterValidator(ordered)]
ShareRange = Annotated[list[Share], Len(2, 2), AfterValidator(ordered)]

LineT = TypeVar("LineT", bound=BaseModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """The file's top level as plain dicts and lists.

    Raises:
        ParamsError: no such file, not YAML, or not a mapping.
    """
    if not path.is_file():
        raise ParamsError(f"no parameter file at {path}: run from the folder of dvc.yaml")
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ParamsError(f"{path} must be a mapping of sections, got {type(content).__name__}")
    return content


def _describe(error: ValidationError, path: Path) -> str:
    lines = [f"{path}: {error.error_count()} value(s) can't be used"]
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "missing":
            lines.append(f"  {key}: missing, and it has no default")
        elif item["type"] == "extra_forbidden":
            lines.append(f"  {key}: unknown key (value {item['input']!r}); remove it or mend its spelling")
        else:
            # A check across keys has the whole section as its input; its message names the values that matter.
            crossed = item["type"] == "value_error" and isinstance(item["input"], dict)
            got = "" if crossed else f"got {item['input']!r}; "
            # Across sections there is no key to name.
            place = f"{key}: " if key else ""
            lines.append(f"  {place}{got}{item['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def validate(model: type[LineT], content: dict[str, Any], *, path: Path = PARAMS_FILE) -> LineT:
    """Check ``content`` against ``model``; a ParamsError lists every bad key at once."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ParamsError(_describe(error, path)) from None


def load(model: type[LineT], path: Path = PARAMS_FILE) -> LineT:
    """Read and check the sections of one line of work.

    Raises:
        ParamsError: naming each key that is unknown, missing, of the wrong type or out of range.
    """
    return validate(model, read_yaml(path), path=path)
