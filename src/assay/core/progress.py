"""Progress bars: on a terminal they move, in a log they stay away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], *, name: str, unit: str, total: int | None = None) -> Iterator[Item]:
    """Iterate over ``items`` with a bar on standard error if that is a terminal."""
    # disable=None: tqdm asks the stream whether it is a terminal.
    yield from tqdm(items, desc=name, unit=unit, total=total, disable=None, leave=False)
