"""The network-free baseline sees noise and frequency."""

import numpy as np

from assay.images.pixel_statistics import NUM_FEATURES, pixel_classifier, pixel_statistics


def test_a_flat_image_has_energy_in_the_mean_alone() -> None:
    row = pixel_statistics(np.full((1, 19, 19, 3), 100, np.uint8))[0]
    assert row.shape == (NUM_FEATURES,)
    # An orthonormal 8x8 DCT puts 8 times the grey level into its first coefficient.
    assert np.isclose(row[3], np.log1p(800))
    assert np.abs(np.delete(row, 3)).max() < 1e-9


def test_noise_is_told_from_smooth_images() -> None:
    rng = np.random.default_rng(0)
    ramp = np.linspace(40, 200, 16)[None, :, None, None] + rng.integers(0, 20, (40, 1, 1, 3))
    smooth = np.broadcast_to(ramp, (40, 16, 16, 3))
    noisy = np.clip(smooth + rng.normal(0, 10, smooth.shape), 0, 255)
    features = pixel_statistics(np.concatenate([smooth, noisy]).astype(np.uint8))
    labels = np.repeat([0, 1], 40)
    assert pixel_classifier().fit(features[::2], labels[::2]).score(features[1::2], labels[1::2]) == 1
