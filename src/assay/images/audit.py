"""The shortcut audit: can the label be guessed without looking at the image?

If file metadata alone (size, format, bytes, JPEG quality) separate real from forged, a network can learn them instead
of the forgery, and every metric downstream is worth nothing. Such shortcuts are common in public forgery data sets: PNG
reals against JPEG fakes (Grommelt et al., "Fake or JPEG?", 2024).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

NUMBERS = ["width", "height", "file_bytes", "jpeg_quality"]
FEATURES = [*NUMBERS, "bytes_per_pixel", "format_code"]


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

    About 0.5: metadata say nothing. Far from it: a shortcut.
    """
    labels, features = manifest["label"].to_numpy(), metadata_features(manifest)
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    options = {"groups": manifest["group_id"], "cv": splitter, "method": "predict_proba"}
    scores = cross_val_predict(metadata_classifier(seed=seed), features, labels, **options)
    return float(roc_auc_score(labels, scores[:, 1]))


def column_summary(manifest: pd.DataFrame) -> dict[str, dict[str, object]]:
    """What each label's files look like: median size, bytes and JPEG quality, and counts of formats."""
    summary: dict[str, dict[str, object]] = {}
    for label, rows in manifest.groupby("label"):
        formats = rows["format"].value_counts().sort_index().to_dict()
        medians = {f"median_{name}": float(value) for name, value in rows[NUMBERS].median().items()}
        summary["forged" if label == 1 else "real"] = {"count": len(rows), "formats": formats, **medians}
    return summary
