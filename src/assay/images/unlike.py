"""Is a picture unlike all that stage 1 learned from? Its distance from them, in an early layer of stage 1.

A network answers for whatever it is shown, a chart or a drawing too, and a calibrated probability is calibrated on pictures
like those of the calib role only. The Mahalanobis distance (Lee et al. 2018, "A simple unified framework for detecting
out-of-distribution samples", equation 2 and section 2.2 for the layers on the way, with one Gaussian for all training
pictures as in Ren et al. 2021) says how far the means of a layer's channels lie from theirs, in units of their own spread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from assay.core.tensors import save_tensors

FILE = "seen.safetensors"
# A covariance of thousands of features is known well enough from this many pictures.
MAX_ROWS = 20_000


@dataclass(frozen=True)
class Seen:
    """Where the embeddings of the training pictures lie: mean float32 [d], whitening float32 [d, d]."""

    mean: np.ndarray
    whitening: np.ndarray

    def distances(self, embeddings: np.ndarray) -> np.ndarray:
        """Mahalanobis distance over the root of d, float64 [n], of embeddings [n, d]: about 1 for a training picture."""
        white = (embeddings - self.mean) @ self.whitening
        found: np.ndarray = np.linalg.norm(white.astype(np.float64), axis=1) / math.sqrt(len(self.mean))
        return found


def fit_seen(embeddings: np.ndarray) -> Seen:
    """Mean and shrunk covariance (Ledoit and Wolf 2004) of embeddings [n, d] of the train role."""
    from sklearn.covariance import LedoitWolf

    found = LedoitWolf(store_precision=False).fit(embeddings.astype(np.float64))
    # covariance = V diag(values) V^T, so that |(x - mean) V diag(values)^-1/2| is the distance.
    values, vectors = np.linalg.eigh(found.covariance_)
    whitening = vectors / np.sqrt(np.maximum(values, np.finfo(np.float64).tiny))
    return Seen(found.location_.astype(np.float32), whitening.astype(np.float32))


def save_seen(folder: Path, seen: Seen) -> None:
    """Write `FILE` into a model's folder."""
    tensors = {"mean": torch.from_numpy(seen.mean), "whitening": torch.from_numpy(seen.whitening)}
    save_tensors(folder / FILE, tensors)


def load_seen(folder: Path) -> Seen:
    """What `save_seen` wrote.

    Raises:
        ValueError: no such file, or a damaged one.
    """
    try:
        values = load_file(folder / FILE)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{folder / FILE} can't be read ({error}); run dvc repro score_stage1") from error
    return Seen(values["mean"].numpy(), values["whitening"].numpy())


def alarm_threshold(distances: npt.ArrayLike, *, rate: float) -> float:
    """Distance above which a picture is called unlike all seen, from distances [n] of a role that was not trained on.

    The smallest of the n distances that at most a share ``rate`` of n + 1 exchangeable ones exceeds (split conformal
    prediction, Vovk et al. 2005); with n < 1 / rate - 1 the largest. Pictures of one scene are not exchangeable with those
    of another: measured false alarms (evaluate) say what the rate comes to.
    """
    ordered = np.sort(np.asarray(distances, dtype=np.float64))
    return float(ordered[min(math.ceil((1 - rate) * (ordered.size + 1)), ordered.size) - 1])
