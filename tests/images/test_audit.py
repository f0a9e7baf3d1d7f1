"""The shortcut audit finds shortcuts, and only then."""

import numpy as np
import pandas as pd
import pytest

from assay.images.audit import AUDITED, FEATURES, column_summary, metadata_auc, metadata_features, shortcut_aucs


def manifest(count: int = 300, *, seed: int = 0) -> pd.DataFrame:
    """Pairs in groups; metadata do not depend on the label."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "label": np.tile([0, 1], count),
            "group_id": np.repeat([f"g{i // 3}" for i in range(count)], 2),
            "width": rng.integers(100, 200, 2 * count),
            "height": rng.integers(100, 200, 2 * count),
            "file_bytes": rng.integers(5000, 9000, 2 * count),
            "jpeg_quality": rng.integers(75, 96, 2 * count),
            "format": "JPEG",
        }
    )


def test_alike_classes_give_one_half_and_the_same_for_the_same_seed() -> None:
    auc = metadata_auc(manifest(1000), folds=5, seed=0)
    assert auc == pytest.approx(0.5, abs=0.06)
    assert auc == metadata_auc(manifest(1000), folds=5, seed=0)


@pytest.mark.parametrize("column", ["width", "height", "file_bytes", "jpeg_quality", "format"])
def test_each_column_alone_can_be_a_shortcut(column: str) -> None:
    frame = manifest()
    if column == "format":
        frame["format"] = frame["label"].map({0: "PNG", 1: "WEBP"})
    else:
        frame.loc[frame["label"] == 1, column] += 10_000
    assert metadata_auc(frame, folds=3, seed=0) > 0.99


@pytest.mark.parametrize("trap", [*AUDITED, ""])
def test_a_set_that_was_not_made_in_pairs_is_judged_by_what_tells_its_halves_apart(trap: str) -> None:
    frame = manifest(200)
    # A group has one label, as where people that exist stand beside people that don't.
    frame["group_id"] += frame["label"].astype(str)
    pixels = np.random.default_rng(0).integers(0, 256, (len(frame), 32, 32, 3), dtype=np.uint8)
    forged = frame["label"] == 1
    if trap == "metadata_auc":
        frame.loc[forged, "file_bytes"] += 10_000
    elif trap == "corners_auc":
        pixels[forged, 0, 0] = 255
    elif trap == "content_auc":
        pixels[forged, 8:24, 8:24] //= 2
    found = shortcut_aucs(frame, pixels, folds=5, seed=0)
    assert list(found) == list(AUDITED)
    assert {name for name, auc in found.items() if auc > 0.7} == ({trap} if trap else set())
    alone = shortcut_aucs(frame[~forged | (frame["group_id"] == "g01")], pixels, folds=5, seed=0)
    assert np.isnan(list(alone.values())).all()


def test_features_do_not_depend_on_other_rows() -> None:
    frame = manifest()
    frame["format"] = np.resize(["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"], len(frame))
    features = metadata_features(frame)
    assert features.shape == (len(frame), len(FEATURES))
    assert np.isfinite(features).all()
    assert len(np.unique(features[:, -1])) == 6
    np.testing.assert_array_equal(metadata_features(frame.iloc[100:110]), features[100:110])


def test_the_summary_tells_what_each_class_looks_like() -> None:
    frame = manifest(10)
    frame.loc[frame["label"] == 1, "format"] = "PNG"
    frame.loc[frame["label"] == 1, "width"] = 128
    summary = column_summary(frame)
    assert summary["forged"]["formats"] == {"PNG": 10}
    assert summary["forged"]["median_width"] == 128.0
    assert summary["real"]["count"] == 10
