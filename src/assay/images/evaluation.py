"""Stage 1 on pictures it has not seen: slices, baselines, external sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from assay.calibration.platt import PlattFit, apply_platt
from assay.calibration.temperature import apply_temperature
from assay.images.audit import metadata_classifier, metadata_features
from assay.images.decode_set import Refused, decode_all, decode_settings
from assay.images.manifest import list_path
from assay.images.model.prediction import Predictor
from assay.images.model.store import PixelStore
from assay.images.pixel_statistics import pixel_classifier, pixel_statistics
from assay.metrics.binary import summarise
from assay.metrics.calibration_error import ece_noise_floor
from assay.params.images import Prepare

# Metrics that a temperature changes; for the rest the uncalibrated value would be the same number twice.
CALIBRATION_METRICS = ("nll", "brier", "ece_width", "ece_mass")


@dataclass(frozen=True)
class Scored:
    """Pictures with their logits: logits float64 [n], labels int64 [n], groups and generators [n]."""

    logits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    generators: np.ndarray

    def where(self, mask: np.ndarray) -> Scored:
        """The rows of a boolean mask [n]."""
        return Scored(self.logits[mask], self.labels[mask], self.groups[mask], self.generators[mask])


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made."""

    num_resamples: int
    seed: int


def calibration_report(scored: Scored, *, temperature: float, num_bins: int, how: Bootstrap) -> dict[str, float]:
    """All metrics after temperature, those of calibration before it too, and the noise floor of the ECE."""
    probs = apply_temperature(scored.logits, temperature)
    report = summarise(scored.labels, probs, scored.groups, num_resamples=how.num_resamples, seed=how.seed)
    before = summarise(
        scored.labels,
        apply_temperature(scored.logits, 1.0),
        scored.groups,
        num_resamples=how.num_resamples,
        seed=how.seed,
    )
    for name in CALIBRATION_METRICS:
        report |= {f"{name}_uncalibrated{end}": before[f"{name}{end}"] for end in ("", "_low", "_high")}
    for binning in ("width", "mass"):
        floor = ece_noise_floor(probs, num_bins=num_bins, binning=binning, seed=how.seed)
        report |= {f"ece_{binning}_floor": floor.mean, f"ece_{binning}_floor_p95": floor.p95}
    return report


def baseline_probs(train: pd.DataFrame, test: pd.DataFrame, store: PixelStore, *, seed: int) -> dict[str, np.ndarray]:
    """Probabilities [n_test] of what a network has to beat, each fitted on the train role.

    ``majority``: the share of forged in train for every picture; ``metadata``: the audit's classifier on file metadata;
    ``pixel_statistics``: logistic regression on high-pass energy and DCT magnitudes.
    """
    labels = train["label"].to_numpy()
    metadata = metadata_classifier(seed=seed).fit(metadata_features(train), labels)
    pixels = {
        name: store.pixels[store.rows_of(list(part["sample_id"]))] for name, part in (("train", train), ("test", test))
    }
    pixel = pixel_classifier().fit(pixel_statistics(pixels["train"]), labels)
    return {
        "majority": np.full(len(test), labels.mean()),
        "metadata": metadata.predict_proba(metadata_features(test))[:, 1],
        "pixel_statistics": pixel.predict_proba(pixel_statistics(pixels["test"]))[:, 1],
    }


def external_set(
    predictor: Predictor, path: Path, *, name: str, settings: Prepare, workers: int, seen_ids: set[str]
) -> tuple[Scored, pd.DataFrame]:
    """Score a labelled set that no other stage has seen.

    Returns:
        The scored pictures, and the files that could not be used (file, dataset, reason, detail).

    Raises:
        ValueError: no such set, fewer than two classes left, or pictures that the prepared data hold as well.
    """
    listing = list_path(path, dataset=name)
    how = decode_settings(settings, side=predictor.image_size)
    shared = seen_ids & set(listing.rows["image_path"])
    if shared:
        raise ValueError(
            f"external set {name}: {len(shared)} pictures are part of the prepared data, e.g. {min(shared)}"
        )
    kept, logits, refused = [], [], []
    for number, result in enumerate(decode_all(list(listing.rows["path"]), how, workers=workers)):
        row = listing.rows.iloc[number]
        if isinstance(result, Refused):
            refused.append((row["image_path"], name, result.reason, result.detail))
            continue
        kept.append(number)
        logits.append(predictor.array_logits(result.pixels[None])[0])
    rows = listing.rows.iloc[kept]
    labels = rows["label"].to_numpy(dtype=np.int64)
    if len(set(labels)) < 2:
        raise ValueError(
            f"external set {name}: {len(rows)} usable pictures of one class; both real and forged are needed"
        )
    scored = Scored(np.array(logits), labels, rows["group"].to_numpy(), rows["generator"].to_numpy())
    rejected = pd.concat([listing.rejected, pd.DataFrame(refused, columns=listing.rejected.columns)], ignore_index=True)
    return scored, rejected


def platt_report(scored: Scored, fit: PlattFit, *, how: Bootstrap) -> dict[str, float]:
    """Metrics of Platt scaling, to hold against temperature."""
    probs = apply_platt(scored.logits, fit)
    return summarise(scored.labels, probs, scored.groups, num_resamples=how.num_resamples, seed=how.seed)
