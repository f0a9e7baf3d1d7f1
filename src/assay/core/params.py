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
# Far beyond what a parameter file or dvc.yaml holds. Aliases count as often as they stand there: a few lines of them can
# mean more values than memory holds.
MAX_BYTES, MAX_DEPTH, MAX_VALUES = 2**20, 40, 100_000
LIMITS = f"at most {MAX_VALUES} values are read, at most {MAX_DEPTH} deep, each alias written out"
# Characters of a value that a message shows.
SHOWN, MESSAGE = 200, 1000


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
        ParamsError: no such file, not YAML, not a mapping, or larger than any parameter file is.
    """
    if not path.is_file():
        raise ParamsError(f"no parameter file at {path}: run from the folder of dvc.yaml")
    if path.stat().st_size > MAX_BYTES:
        raise ParamsError(f"{path} has more than {MAX_BYTES} bytes, which is no parameter file")
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, ValueError) as error:
        raise ParamsError(f"{path} is not YAML: {error}") from error
    except RecursionError:
        raise ParamsError(f"{path} nests values without end; {LIMITS}") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{path} must be a mapping of sections, got {type(content).__name__}")
    _check_size(content, path)
    return content


def _check_size(content: dict[Any, Any], path: Path) -> None:
    """Raise a ParamsError for values nested too deep, or too many where every alias is written out."""
    waiting: list[tuple[Any, int]] = [(content, 0)]
    total = 0
    while waiting:
        value, depth = waiting.pop()
        total += 1
        if depth > MAX_DEPTH or total > MAX_VALUES:
            raise ParamsError(f"{path} nests or repeats values without end; {LIMITS}")
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        if isinstance(parts, list | tuple | set):
            waiting += [(part, depth + 1) for part in parts]


def shown(value: Any) -> str:
    """A value for a message, cut to what helps to find it."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _describe(error: ValidationError, path: Path) -> str:
    lines = [f"{path}: {error.error_count()} value(s) can't be used"]
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "missing":
            lines.append(f"  {key}: missing, and it has no default")
        elif item["type"] == "extra_forbidden":
            lines.append(f"  {key}: unknown key (value {shown(item['input'])}); remove it or mend its spelling")
        else:
            # A check across keys has the whole section as its input; its message names the values that matter.
            crossed = item["type"] == "value_error" and isinstance(item["input"], dict)
            got = "" if crossed else f"got {shown(item['input'])}; "
            # Across sections there is no key to name.
            place = f"{key}: " if key else ""
            told = item["msg"].removeprefix("Value error, ")
            lines.append(f"  {place}{got}{told if len(told) <= MESSAGE else f'{told[:MESSAGE]}...'}")
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
