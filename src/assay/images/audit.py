"""The audit: can the label be guessed without looking at the image, or does it mean the opposite somewhere?

If file metadata alone (size, format, bytes, JPEG quality), the pixels in the corners or the names of files separate real
from forged, a network can learn them instead of the forgery, or both classes come from different collections, and every
metric downstream is worth nothing. Such shortcuts are common in public forgery data sets: PNG reals against JPEG fakes
(Grommelt et al., "Fake or JPEG?", 2024).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from assay.images.model.store import PixelStore
from assay.images.pixel_statistics import pixel_classifier, pixel_statistics

NUMBERS = ["width", "height", "file_bytes", "jpeg_quality"]
FEATURES = [*NUMBERS, "bytes_per_pixel", "format_code"]
# An AUC counts where chance alone would hardly give it: standard errors from one half.
SHORTCUT_ERRORS, FLIPPED_ERRORS = 2.5, 3.0
# Pictures that are looked at of a part, for labels that mean the opposite.
MOST_PICTURES = 1000
AUDITED = ("metadata_auc", "corners_auc", "content_auc")
SHORTCUTS = {
    "metadata": "metadata alone (size, format, bytes, JPEG quality)",
    "corners": "the pixels in the four corners alone",
    "names": "the names of files alone",
    "content": "the mean colours of 16 fields alone",
}


def metadata_features(manifest: pd.DataFrame) -> np.ndarray:
    """float64 [n, 6] from the manifest columns width, height, format, file_bytes and jpeg_quality."""
    frame = manifest[NUMBERS].assign(
        bytes_per_pixel=manifest["file_bytes"] / (manifest["width"] * manifest["height"]),
        # A stable number per format, the same whatever other formats are present.
        format_code=manifest["format"].map(lambda name: float(int.from_bytes(str(name).encode()[:6], "big"))),
    )
    return frame.to_numpy(dtype=np.float64)


def metadata_classifier(*, seed: int) -> HistGradientBoostingClassifier:
    """The classifier of the audit and of the metadata baseline."""
    # The default of 20 samples a leaf would find no shortcut at all in a few dozen images.
    return HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, min_samples_leaf=5, random_state=seed)


def metadata_auc(manifest: pd.DataFrame, *, folds: int, seed: int) -> float:
    """AUC of the metadata classifier by group cross-validation over the rows given (columns label, group_id, ...).

    About 0.5: metadata say nothing. Far above it: a shortcut.
    """
    return _cross_validated(
        metadata_classifier(seed=seed), metadata_features(manifest), manifest, folds=folds, seed=seed
    )


def corner_auc(manifest: pd.DataFrame, pixels: np.ndarray, *, folds: int, seed: int) -> float:
    """As `metadata_auc`, from the colours of the four corner pixels as they are stored: a mark, a frame, a border.

    ``pixels``: uint8 [n, S, S, 3] of the rows.
    """
    corners = pixels[:, [0, 0, -1, -1], [0, -1, 0, -1]].reshape(len(pixels), -1).astype(np.float64)
    return _cross_validated(metadata_classifier(seed=seed), corners, manifest, folds=folds, seed=seed)


def content_auc(manifest: pd.DataFrame, pixels: np.ndarray, *, folds: int, seed: int) -> float:
    """As `corner_auc`, from the mean colours of 16 fields: what is shown, of which no forgery is to be seen."""
    fields = np.stack([cv2.resize(image, (4, 4), interpolation=cv2.INTER_AREA).ravel() for image in pixels])
    return _cross_validated(metadata_classifier(seed=seed), fields.astype(np.float64), manifest, folds=folds, seed=seed)


def shortcut_aucs(manifest: pd.DataFrame, pixels: np.ndarray, *, folds: int, seed: int) -> dict[str, float]:
    """What metadata, corners and content alone tell of the label of a set whose halves were not made in pairs.

    NaN where a class has one group alone. An AUC of the networks on the set means little where these lie far above 0.5.

    Args:
        manifest: columns label, group_id and the header's facts.
        pixels: uint8 [n, S, S, 3] of its rows.
        folds: of the cross-validation, as far as there are groups.
        seed: seeds it.
    """
    fewest = int(manifest.groupby("label")["group_id"].nunique().min())
    if fewest < 2:
        return dict.fromkeys(AUDITED, float("nan"))
    options = {"folds": min(folds, fewest), "seed": seed}
    found = (
        metadata_auc(manifest, **options),
        corner_auc(manifest, pixels, **options),
        content_auc(manifest, pixels, **options),
    )
    return dict(zip(AUDITED, found, strict=True))


def name_auc(manifest: pd.DataFrame, *, folds: int, seed: int) -> float:
    """As `metadata_auc`, from how files are named (without folders, numbers as 0): logistic regression on 1-3-grams."""
    names = [re.sub(r"\d", "0", PurePosixPath(name).stem.lower()) for name in manifest["image_path"]]
    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3))
    classifier = make_pipeline(grams, LogisticRegression(max_iter=1000))
    return _cross_validated(classifier, names, manifest, folds=folds, seed=seed)


def _cross_validated(classifier: Any, features: Any, manifest: pd.DataFrame, *, folds: int, seed: int) -> float:
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    labels = manifest["label"].to_numpy()
    options = {"groups": manifest["group_id"], "cv": splitter, "method": "predict_proba"}
    return float(roc_auc_score(labels, cross_val_predict(classifier, features, labels, **options)[:, 1]))


def chance_error(manifest: pd.DataFrame) -> float:
    """Standard error of an AUC that says nothing (Mann and Whitney 1947), for rows in groups.

    A group that holds both labels counts with all its rows, since its content tells nothing of them; of any other group
    the rows may be alike, and it counts once.
    """
    both = manifest.groupby("group_id")["label"].transform("nunique") > 1
    counted = pd.concat([manifest[both], manifest[~both].drop_duplicates("group_id")])["label"]
    forged, real = int((counted == 1).sum()), int((counted == 0).sum())
    return float(np.sqrt((forged + real + 1) / (12 * max(1, forged * real))))


def shortcut_words(aucs: Mapping[str, float], manifest: pd.DataFrame, *, max_auc: float) -> dict[str, str]:
    """What tells real from forged without a look at the forgery: name in ``aucs`` (see `SHORTCUTS`) -> a sentence.

    It does where the AUC lies above ``max_auc`` and above what chance gives with so few pictures.
    """
    limit = max(max_auc, 0.5 + SHORTCUT_ERRORS * chance_error(manifest))
    advice = {
        "metadata": "Bring both classes through the same resizing and the same JPEG step",
        "corners": "Look for marks, frames and borders, and cut them off in both classes",
        "content": "Both classes show different things: pair what is shown",
        "names": "Both classes may come from different collections, which differ in more than the forgery; and a forged "
        "file that isn't named like its original stays with it only by a declared group",
    }
    return {
        name: f"{SHORTCUTS[name]} tell real from forged with AUC {auc:.3f}, above prepare.audit.max_auc {max_auc}: a "
        f"network may learn that, or what goes with it, instead of the forgery. {advice[name]}"
        for name, auc in aucs.items()
        if auc > limit
    }


def flipped_parts(frame: pd.DataFrame, store: PixelStore, *, seed: int) -> dict[str, float]:
    """Parts whose labels seem to mean the opposite: its name -> AUC of a classifier learned from the others' pixels.

    The parts are the data sets, and the roles val, calib and tune, judged by what is learned from train. Simple statistics
    of the pixels (`pixel_statistics`) that rank a part's pictures clearly the wrong way (3 standard errors below one half)
    speak for labels that are the wrong way round, or for forgeries of a contrary kind. The test role is not looked at.

    Args:
        frame: columns sample_id, label, dataset, split, group_id of all rows.
        store: the pixels.
        seed: seeds the samples of large parts.
    """
    train = frame[frame["split"] == "train"]
    parts = {f"role {role}": (train, frame[frame["split"] == role]) for role in ("val", "calib", "tune")}
    datasets = train["dataset"].unique()
    if len(datasets) > 1:
        parts |= {
            f"dataset {name}": (train[train["dataset"] != name], train[train["dataset"] == name]) for name in datasets
        }
    found = {}
    for name, (known, new) in parts.items():
        if known["label"].nunique() < 2 or new["label"].nunique() < 2:
            continue
        known, new = (rows.sample(min(len(rows), MOST_PICTURES), random_state=seed) for rows in (known, new))
        before, after = (
            pixel_statistics(store.pixels[store.rows_of(list(rows["sample_id"]))]) for rows in (known, new)
        )
        classifier = pixel_classifier().fit(before, known["label"])
        auc = float(roc_auc_score(new["label"], classifier.predict_proba(after)[:, 1]))
        if auc < 0.5 - FLIPPED_ERRORS * chance_error(new):
            found[name] = auc
    return found


def flipped_words(flipped: Mapping[str, float]) -> list[str]:
    """What `flipped_parts` found, a sentence each."""
    return [
        f"{name}: what tells real from forged elsewhere tells the opposite here (AUC {auc:.3f}): look whether its labels "
        "are the wrong way round (classes: real, forged), or its forgeries of a contrary kind"
        for name, auc in flipped.items()
    ]


def column_summary(manifest: pd.DataFrame) -> dict[str, dict[str, object]]:
    """What each label's files look like: median size, bytes and JPEG quality, and counts of formats."""
    summary: dict[str, dict[str, object]] = {}
    for label, rows in manifest.groupby("label"):
        formats = rows["format"].value_counts().sort_index().to_dict()
        medians = {f"median_{name}": float(value) for name, value in rows[NUMBERS].median().items()}
        summary["forged" if label == 1 else "real"] = {"count": len(rows), "formats": formats, **medians}
    return summary
