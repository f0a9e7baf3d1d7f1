"""``assay text`` and `assay.text.load`: the shipped classifier, opened with its files compared and its records checked."""

from __future__ import annotations

from pathlib import Path

from assay.shipped.opening import Opening, patterns_of
from assay.shipped.records import EnsembleRecord, read_record
from assay.text.prediction import ENSEMBLE, TextPredictor, load_predictor


def open_classifier(folder: Path, *, device: str = "cpu", verify: bool = True) -> TextPredictor:
    """The classifier that pool_text left in ``folder``, its files compared with SHA256SUMS if ``verify``.

    Raises:
        ValueError: something is missing, damaged or does not belong together: what, and the command that makes it.
    """
    with Opening(folder, "pool_text", verify) as opening:
        opening.check(ENSEMBLE)
        record = read_record(folder / ENSEMBLE, EnsembleRecord)
        opening.check(*patterns_of([*record.networks, *(["linear"] if record.fuse_linear else [])]))
        return load_predictor(folder, device=device)
