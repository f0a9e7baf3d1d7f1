"""How a detector stands up to what happens to pictures on their way: blur, resizing, recompression."""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np
import pandas as pd

from assay.calibration.temperature import apply_temperature
from assay.core.progress import progress
from assay.images.forge.families import encode_jpeg
from assay.images.model.prediction import Predictor
from assay.metrics.binary import summarise
from assay.params.images import Robustness


def degrade(picture: np.ndarray, *, blur_sigma: float, resize: float, jpeg_quality: int) -> np.ndarray:
    """Blur, then make smaller and larger again, then recompress one uint8 picture [S, S, 3].

    ``blur_sigma`` 0, ``resize`` 1 and ``jpeg_quality`` 100 leave it as it is.
    """
    side = picture.shape[0]
    if blur_sigma > 0:
        picture = cv2.GaussianBlur(picture, (0, 0), blur_sigma)
    if resize < 1:
        small = max(2, round(side * resize))
        picture = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_LINEAR)
    if jpeg_quality < 100:
        decoded = cv2.imdecode(np.frombuffer(encode_jpeg(picture, quality=jpeg_quality), np.uint8), cv2.IMREAD_COLOR)
        picture = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    return picture


def robustness_table(
    predictor: Predictor,
    pixels: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    settings: Robustness,
    temperature: float,
    num_resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Metrics in every cell of the grid, on the same pictures.

    Args:
        pixels: uint8 [n, S, S, 3] at the predictor's size.
        labels: int [n]; groups: [n].

    Returns:
        One row per cell: jpeg_quality, resize, blur_sigma, n, auc and balanced_accuracy with their limits.
    """
    rows = []
    cells = list(product(settings.jpeg_quality, settings.resize, settings.blur_sigma))
    for quality, resize, sigma in progress(cells, name="robustness", unit="cell"):
        worse = np.stack([degrade(p, blur_sigma=sigma, resize=resize, jpeg_quality=quality) for p in pixels])
        probs = apply_temperature(predictor.array_logits(worse), temperature)
        result = summarise(labels, probs, groups, num_resamples=num_resamples, seed=seed)
        wanted = [f"{name}{end}" for name in ("auc", "balanced_accuracy") for end in ("", "_low", "_high")]
        cell = {"jpeg_quality": quality, "resize": resize, "blur_sigma": sigma, "n": result["n"]}
        rows.append(cell | {name: result[name] for name in wanted})
    return pd.DataFrame(rows)
