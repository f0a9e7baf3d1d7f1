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
        # A panic in Rust (tokenizers, safetensors) is no Exception to Python.
        if error is None or not (isinstance(error, Exception) or type(error).__name__ == "PanicException"):
            return
        said = (str(error).splitlines() or [""])[0][:SHOWN]
        if not isinstance(error, ValueError):
            said = f"{type(error).__name__}: {said}"
        remedy = (
            "" if "dvc repro" in said else f"; run dvc repro {self.stage}, or give the folder of models by --models"
        )
        hint = "; --no-verify opens models of your own experiments" if "SHA256SUMS" in said else ""
        raise ValueError(f"{said}{remedy}{hint}") from error


def patterns_of(folders: Iterable[str]) -> list[str]:
    """All files directly in these folders."""
    return [f"{folder}/*" for folder in folders]
