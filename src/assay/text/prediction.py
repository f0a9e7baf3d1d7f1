"""From texts to classes and probabilities, by the classifier that pool_text left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from assay.calibration.pooling import pool
from assay.calibration.scaling import Scaling
from assay.core.io import inside, read_json
from assay.text.classifier import TextClassifier, load_classifier
from assay.text.cleaning import UnicodeForm, clean, writable
from assay.text.linear import LinearModel, load_linear
from assay.training.networks import batched_logits
from assay.training.prefixes import beginnings

BATCH = 64
ENSEMBLE = "ensemble.json"
Long = Literal["truncate", "window"]


def rows_log_probs(
    model: TextClassifier, tokenizer: Any, rows: Sequence[Sequence[int]], *, name: str, batch_size: int = BATCH
) -> np.ndarray:
    """Log-probabilities float64 [n, num_classes] of rows of token ids, in their order; ``name`` is for the progress bar."""
    if not rows:
        return np.zeros((0, model.head.out_features))
    logits = batched_logits(model, tokenizer, rows, what=name, batch_size=batch_size)
    found: np.ndarray = torch.log_softmax(torch.from_numpy(logits).double(), dim=1).numpy()
    return found


def windows(ids: Sequence[int], *, size: int) -> list[list[int]]:
    """Parts of ``ids`` of at most ``size`` tokens, each half over the one before; the last one ends with the text."""
    if len(ids) <= size:
        return [list(ids)]
    starts = [*range(0, len(ids) - size, max(1, size // 2)), len(ids) - size]
    return [list(ids[start : start + size]) for start in starts]


@dataclass(frozen=True)
class TextPredictor:
    """A trained text classifier: one or several networks, perhaps a linear model, pooled and calibrated.

    Attributes:
        networks: (model, tokenizer) of each.
        linear: the linear model, if it has a weight.
        weights: of the networks and then of the linear model, in the log-linear pool.
        scaling: calibrates the pooled log-probabilities.
        classes: names, in the order of the probabilities.
        unicode_form: of the cleaning that the training texts went through.
    """

    networks: tuple[tuple[TextClassifier, Any], ...]
    linear: LinearModel | None
    weights: tuple[float, ...]
    scaling: Scaling
    classes: tuple[str, ...]
    unicode_form: UnicodeForm

    def member_log_probs(
        self, texts: Sequence[str], *, long: Long = "truncate", name: str = "texts"
    ) -> list[np.ndarray]:
        """Log-probabilities [n, num_classes] of each member for texts that are clean."""
        found = [self.network_log_probs(network, texts, long=long, name=name) for network in self.networks]
        return found if self.linear is None else [*found, self.linear.log_probs(texts)]

    def network_log_probs(
        self, network: tuple[TextClassifier, Any], texts: Sequence[str], *, long: Long = "truncate", name: str
    ) -> np.ndarray:
        """Log-probabilities [n, num_classes] of one network, a member or not."""
        model, tokenizer = network
        texts = beginnings(tokenizer, texts, max_tokens=model.max_tokens) if long == "truncate" else texts
        ids = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        size = model.max_tokens - 2
        parts = [windows(row, size=size) if long == "window" else [row[:size]] for row in ids]
        rows = [[tokenizer.cls_token_id, *part, tokenizer.sep_token_id] for text in parts for part in text]
        found = rows_log_probs(model, tokenizer, rows, name=name)
        if len(rows) == len(texts):
            return found
        # A long text has the mean probability of its windows.
        owner = np.repeat(np.arange(len(parts)), [len(text) for text in parts])
        sums = np.zeros((len(texts), found.shape[1]))
        np.add.at(sums, owner, np.exp(found))
        return np.log(sums / np.bincount(owner)[:, None])

    def pooled(self, members: Sequence[np.ndarray], *, calibrated: bool = True) -> np.ndarray:
        """Members' log-probabilities as one, float64 [n, num_classes]."""
        found = pool(members, self.weights)
        return self.scaling.log_probs(found) if calibrated else found

    def log_probs(self, texts: Sequence[str], *, long: Long = "truncate") -> np.ndarray:
        """Pooled, calibrated log-probabilities float64 [n, num_classes] for texts that are clean."""
        return self.pooled(self.member_log_probs(texts, long=long))

    def batch_predict(self, texts: Sequence[str], *, long: Long = "truncate") -> pd.DataFrame:
        """One row per text, in order; on a CPU the same whatever the batch and the order.

        Args:
            texts: strings; one that is empty after cleaning gives a row with status ``error``.
            long: whether a text beyond the ``max_tokens`` of a network is cut, or judged in overlapping windows.

        Returns:
            Columns text, label, confidence, truncated, a ``p_<class>`` per class, status (ok, error) and reason.
        """
        cleaned, reasons = zip(*map(self._cleaned, texts), strict=True) if texts else ((), ())
        good = [number for number, reason in enumerate(reasons) if not reason]
        probs = np.full((len(texts), len(self.classes)), np.nan)
        cut = pd.array([None] * len(texts), dtype="boolean")
        if good:
            usable = [cleaned[number] for number in good]
            # The order of floating-point sums decides their last digits; rounded, results do not depend on it.
            probs[good] = np.exp(self.log_probs(usable, long=long)).round(6)
            cut[np.array(good)] = self._cut(usable) if long == "truncate" else False
        columns = {
            "text": pd.Series([None if text is None else writable(text) for text in texts], dtype=object),
            "label": [None if np.isnan(row).any() else self.classes[row.argmax()] for row in probs],
            "confidence": probs.max(axis=1),
            "truncated": cut,
        }
        columns |= {f"p_{name}": probs[:, number] for number, name in enumerate(self.classes)}
        return pd.DataFrame(
            columns | {"status": ["error" if reason else "ok" for reason in reasons], "reason": reasons}
        )

    def _cut(self, texts: Sequence[str]) -> np.ndarray:
        """Whether one of the networks does not see the end of a text, bool [n]."""
        found = np.zeros(len(texts), dtype=bool)
        for model, tokenizer in self.networks:
            begun = beginnings(tokenizer, texts, max_tokens=model.max_tokens)
            found |= [len(row) > model.max_tokens for row in tokenizer(begun, verbose=False)["input_ids"]]
        return found

    def _cleaned(self, text: Any) -> tuple[str, str]:
        """The text cleaned, and ""; or "", and why it can't be used."""
        if not isinstance(text, str):
            return "", "no text"
        try:
            found = clean(text, unicode_form=self.unicode_form)
        except ValueError as error:
            return "", str(error)
        return found, "" if found else "empty text"

    def predict(self, text: str, *, long: Long = "truncate") -> dict[str, Any]:
        """Class and probabilities of one text: keys label, confidence, probs (class -> probability), truncated.

        Raises:
            ValueError: no text, or nothing is left of it after cleaning.
        """
        row = self.batch_predict([text], long=long).iloc[0]
        if row["status"] == "error":
            raise ValueError(f"{row['reason']}: {str(text)[:80]!r}")
        return {
            "label": row["label"],
            "confidence": float(row["confidence"]),
            "probs": {name: float(row[f"p_{name}"]) for name in self.classes},
            "truncated": bool(row["truncated"]),
        }


def sentences(rows: pd.DataFrame, *, classes: Sequence[str]) -> list[str]:
    """The rows of `TextPredictor.batch_predict` in words, for a terminal."""
    lines = []
    for row in rows.to_dict("records"):
        if row["status"] == "error":
            lines.append(f"error: {row['reason']}")
            continue
        probs = ", ".join(f"{name} {row[f'p_{name}']:.3f}" for name in classes)
        lines.append(f"{row['label']} ({probs})" + (", text truncated" if row["truncated"] else ""))
    return lines


def load_predictor(folder: Path, *, device: str = "cpu", dtype: torch.dtype | None = None) -> TextPredictor:
    """The classifier that pool_text left in ``folder``.

    Args:
        device: of the networks.
        dtype: of the networks. None: float64 on a CPU, since the six digits returned for a text must not depend on the
            batch that it came in; else float32, which is enough where all rows of a role are scored at once.

    Raises:
        ValueError: files missing or not fitting each other.
    """
    if not (folder / ENSEMBLE).is_file():
        raise ValueError(f"no {ENSEMBLE} in {folder}: run dvc repro pool_text, or give the folder by --models")
    dtype = dtype or (torch.float64 if device == "cpu" else torch.float32)
    try:
        record = read_json(folder / ENSEMBLE)
        loaded = [load_classifier(inside(folder, name)) for name in record["networks"]]
        predictor = TextPredictor(
            networks=tuple((model.to(device, dtype), tokenizer) for model, tokenizer in loaded),
            linear=load_linear(folder / "linear") if record["fuse_linear"] else None,
            weights=tuple(float(weight) for weight in record["weights"]),
            scaling=Scaling(*(tuple(map(float, record[name])) for name in ("scale", "bias"))),
            classes=tuple(record["classes"]),
            unicode_form=record["unicode_form"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / ENSEMBLE} lacks or garbles {error}: run dvc repro pool_text") from error
    sizes = [len(predictor.scaling.scale), len(predictor.scaling.bias)]
    sizes += [model.head.out_features for model, _ in predictor.networks]
    if predictor.linear is not None:
        sizes.append(len(predictor.linear.bias))
    if set(sizes) != {len(predictor.classes)} or len(sizes) - 2 != len(predictor.weights):
        raise ValueError(f"{folder / ENSEMBLE} does not fit its members: run dvc repro pool_text")
    return predictor
