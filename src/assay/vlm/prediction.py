"""Both models as one predictor: calibrated class probabilities of the first, corrected on high risk by the second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from assay.calibration.scaling import Scaling
from assay.core.io import read_json
from assay.core.torch_setup import pick_device
from assay.data.decode import decode_rgb, probe
from assay.vlm.examples import Cache, encode, pad
from assay.vlm.fusion import FUSION, correct, second_probs
from assay.vlm.network import average_adapters, check_manifest, load_adapter, load_base, switch_adapter
from assay.vlm.processor import load_processor
from assay.vlm.prompts import Prompt, prompt_from_json
from assay.vlm.scores import SECOND, pooled
from assay.vlm.scoring import answer_log_probs, answer_tokens, record_log_probs


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

    def marks(self, records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """What the model's gate amplifies (see `assay.vlm.amplifier`): sample_id, picture, outcome, rows, columns, marks.

        ``marks`` are those of the image's tokens row by row; empty where the model has no gate.
        """
        found = []
        for record in records if self.model.amplifying else ():
            path = record["images"][0]
            item = encode(self.processor, self.prompt.record(path), decode_rgb(path, max_pixels=self.decode_pixels))
            batch = pad([item], pad_token_id=self.processor.tokenizer.pad_token_id)
            answer_log_probs(self.model, batch, answer_tokens(self.processor.tokenizer, self.prompt.answers))
            merge = self.processor.image_processor.merge_size
            height, width = (int(side) // merge for side in item["image_grid_thw"][0, 1:])
            marks = [round(float(mark), 4) for mark in self.model.amplifying.marks()]
            found.append((record["sample_id"], path, record["outcome"], height, width, marks))
        return pd.DataFrame(found, columns=["sample_id", "picture", "outcome", "rows", "columns", "marks"])


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
        wanted = record["base"], record["weights_dtype"], record["amplifier"]
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


def open_soup(folders: Sequence[Path], **options: Any) -> Scorer | None:
    """One network with the mean of the adapters in ``folders``, of one base and question; None where they have no mean.

    ``options`` and errors are those of `open_scorers`.
    """
    for folder in folders:
        check_manifest(folder)
    scorer = open_scorer(folders[0], **options)
    return scorer if average_adapters(scorer.model, folders) else None


@dataclass(frozen=True)
class CorridorPredictor:
    """The first model, one second model or several, and what was fitted to put them together, see `assay.vlm.fusion`."""

    base: Scorer
    high_risk: tuple[Scorer, ...]
    scaling: Scaling
    high_temperature: float
    neutral: float
    strength: float
    high: int

    def predict(self, records: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        """Class probabilities float64 [n, C] of the first model, and corrected ones."""
        first = self.base.log_probs(records, name="base")
        return self.combine(first, [scorer.log_probs(records, name="high risk") for scorer in self.high_risk])

    def combine(self, base: np.ndarray, high_risk: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The same from the log-probabilities [n, C] of the first model and [n, 2] of each second one."""
        probs = self.scaling.probs(base)
        second = second_probs(pooled(high_risk), self.high_temperature)
        return probs, correct(probs, second, high=self.high, neutral=self.neutral, strength=self.strength)


def open_predictor(models: Path, *, device: str, batch_size: int, decode_pixels: int) -> CorridorPredictor:
    """The predictor under the folder ``models`` (sft/base, high_risk/<each that corrects> and fusion.json).

    Raises:
        ValueError: something is missing or does not belong together.
    """
    record = read_fusion(models)
    base, *seconds = (
        open_scorer(models / name, device=device, batch_size=batch_size, decode_pixels=decode_pixels)
        for name in ("sft/base", *second_folders(record))
    )
    fitted = {name: record[name] for name in ("high_temperature", "neutral", "strength", "high")}
    return CorridorPredictor(
        base, tuple(seconds), scaling=Scaling(tuple(record["scale"]), tuple(record["bias"])), **fitted
    )


def read_fusion(models: Path) -> dict[str, Any]:
    """What puts the two models in the folder ``models`` together; ValueError if it is not there."""
    if not (models / FUSION).is_file():
        raise ValueError(f"no {models / FUSION}: run dvc repro vlm_predict, or give the folder of models by --models")
    return read_json(models / FUSION)


def second_folders(fusion: Mapping[str, Any]) -> list[str]:
    """Where the second models that ``fusion`` was fitted for lie, below the folder of models."""
    return [f"{SECOND}{name}" for name in fusion["members"]]


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
