"""Both models as one predictor: calibrated class probabilities of the first, corrected on high risk by the second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from assay.calibration.scaling import Scaling
from assay.core.io import read_json
from assay.core.torch_setup import pick_device
from assay.data.decode import probe
from assay.vlm.examples import Cache
from assay.vlm.fusion import FUSION, correct, second_probs
from assay.vlm.network import check_manifest, load_adapter, load_base, switch_adapter
from assay.vlm.processor import load_processor
from assay.vlm.prompts import Prompt, prompt_from_json
from assay.vlm.scoring import record_log_probs


@dataclass(frozen=True)
class Scorer:
    """One fine-tuned model with its question, ready to score images."""

    model: Any
    processor: Any
    prompt: Prompt
    batch_size: int
    decode_pixels: int
    cache: Cache | None = None

    def log_probs(self, records: Sequence[Mapping[str, Any]], *, name: str) -> np.ndarray:
        """Log-probabilities float64 [n, C] of the classes of its question, not calibrated."""
        return record_log_probs(
            self.model,
            records,
            self.processor,
            self.prompt,
            max_pixels=self.decode_pixels,
            batch_size=self.batch_size,
            name=name,
            cache=self.cache,
        )


def open_scorers(
    folders: Sequence[Path], *, device: str, batch_size: int, decode_pixels: int, cache: Cache | None = None
) -> Iterator[Scorer]:
    """The adapters in ``folders`` in turn; neighbours with the same base share one loading of it.

    A scorer serves until the next one is asked for. Scorers of one processor may share ``cache``.

    Raises:
        ValueError: files are missing, or base or processor are not those of the training.
    """
    model, loaded = None, None
    for folder in folders:
        record = check_manifest(folder)
        prompt = dict(record["prompt"])
        pixels = {name: prompt.pop(name) for name in ("min_pixels", "max_pixels")}
        processor = load_processor(Path(record["processor"]), **pixels)
        wanted = record["base"], record["weights_dtype"]
        if model is None or wanted != loaded:
            model = None  # not two at a time
            base = load_base(Path(record["base"]), weights_dtype=record["weights_dtype"], processor=processor)
            model, loaded = load_adapter(folder, base).to(pick_device(device)), wanted
        else:
            switch_adapter(model, folder)
        yield Scorer(model, processor, prompt_from_json(prompt), batch_size, decode_pixels, cache)


def open_scorer(folder: Path, **options: Any) -> Scorer:
    """The adapter in ``folder`` alone; options and errors are those of `open_scorers`."""
    return next(open_scorers([folder], **options))


@dataclass(frozen=True)
class CorridorPredictor:
    """The two models and what was fitted to put them together, see `assay.vlm.fusion`."""

    base: Scorer
    high_risk: Scorer
    scaling: Scaling
    high_temperature: float
    neutral: float
    strength: float
    high: int

    def predict(self, records: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        """Class probabilities float64 [n, C] of the first model, and corrected ones."""
        first = self.base.log_probs(records, name="base")
        return self.combine(first, self.high_risk.log_probs(records, name="high risk"))

    def combine(self, base: np.ndarray, high_risk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same from the log-probabilities [n, C] and [n, 2] of both models."""
        probs = self.scaling.probs(base)
        second = second_probs(high_risk, self.high_temperature)
        return probs, correct(probs, second, high=self.high, neutral=self.neutral, strength=self.strength)


def open_predictor(models: Path, *, device: str, batch_size: int, decode_pixels: int) -> CorridorPredictor:
    """The predictor under the folder ``models`` (sft/base, high_risk and fusion.json).

    Raises:
        ValueError: something is missing or does not belong together.
    """
    if not (models / FUSION).is_file():
        raise ValueError(f"no {models / FUSION}: run dvc repro vlm_predict, or give the folder of models by --models")
    base, second = (
        open_scorer(models / name, device=device, batch_size=batch_size, decode_pixels=decode_pixels)
        for name in ("sft/base", "high_risk")
    )
    record = read_json(models / FUSION)
    fitted = {name: record[name] for name in ("high_temperature", "neutral", "strength", "high")}
    return CorridorPredictor(base, second, scaling=Scaling(tuple(record["scale"]), tuple(record["bias"])), **fitted)


@contextmanager
def blank_copies(records: Sequence[Mapping[str, Any]], *, max_pixels: int) -> Iterator[list[dict[str, Any]]]:
    """The records with grey images of the same sizes in the place of theirs: what a model says without looking."""
    with TemporaryDirectory() as folder:
        blank = []
        for record in records:
            info = probe(Path(record["images"][0]), max_pixels=max_pixels)
            path = Path(folder) / f"{info.width}x{info.height}.png"
            if not path.exists():
                Image.new("RGB", (info.width, info.height), (128, 128, 128)).save(path)
            blank.append({**record, "images": [path.as_posix()]})
        yield blank
