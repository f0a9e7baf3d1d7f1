"""The door through which a command opens models: hashes first, then records, then whatever a library says, as a sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from assay.shipped.records import check_record
from assay.shipped.sums import check_sums, files_of

# Characters of what a library says.
SHOWN = 300


def is_fault(error: BaseException) -> bool:
    """Whether it says that something went wrong; a panic in Rust (tokenizers, safetensors) is no Exception to Python."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def in_a_line(error: BaseException) -> str:
    """What an error says, in one line, with its kind where that says more."""
    said = (str(error).splitlines() or [""])[0][:SHOWN]
    return said if isinstance(error, ValueError) else f"{type(error).__name__}: {said}"


@dataclass(frozen=True)
class Unverified:
    """Around a command whose models nothing vouches for: they may be at fault for whatever goes wrong, so that is said.

    With verified models an error is a fault of this program, and is shown as one.
    """

    root: Path

    def __enter__(self) -> Unverified:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and is_fault(error) and not isinstance(error, ValueError | OSError):
            raise ValueError(f"{in_a_line(error)}; the models in {self.root} are not verified") from error


@dataclass(frozen=True)
class Opening:
    """A folder of models while a command opens them.

    As a context it turns whatever goes wrong within, in a library of any language, into a ValueError that names the folder:
    what a damaged file does to such a library is not known beforehand, and there is nothing to go on with.

    Attributes:
        root: the folder of models.
        stage: makes them.
        verify: False: hashes are not compared, and standard error says so.
    """

    root: Path
    stage: str
    verify: bool = True

    def check(self, *patterns: str) -> None:
        """Compare the files that match with their hashes, and read the records among them.

        Raises:
            ValueError: naming the file, and the field of a record.
        """
        if self.verify:
            check_sums(self.root, patterns)
        for name in files_of(self.root, patterns):
            check_record(self.root / name)

    def __enter__(self) -> Opening:
        if not self.verify:
            print(f"the models in {self.root} are not verified (--no-verify)", file=sys.stderr)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not is_fault(error):
            return
        said = in_a_line(error)
        if str(self.root) not in said:
            said = f"{self.root}: {said}"
        remedy = (
            "" if "dvc repro" in said else f"; run dvc repro {self.stage}, or give the folder of models by --models"
        )
        hint = "; --no-verify opens models of your own experiments" if "SHA256SUMS" in said else ""
        raise ValueError(f"{said}{remedy}{hint}") from error


def patterns_of(folders: Iterable[str]) -> list[str]:
    """All files directly in these folders."""
    return [f"{folder}/*" for folder in folders]
