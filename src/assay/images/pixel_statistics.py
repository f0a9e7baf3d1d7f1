"""A baseline that needs no network: logistic regression on simple statistics of the pixels.

High-pass energy per channel (the residual of a 3x3 median filter, as in Fridrich and Kodovsky, "Rich Models for
Steganalysis", IEEE TIFS 2012) and the mean magnitude of each 8x8 DCT frequency of the luma (Frank et al., "Leveraging
Frequency Analysis for Deep Fake Image Recognition", ICML 2020).
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.fft import dctn
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

NUM_FEATURES = 3 + 64
LUMA = np.array([0.299, 0.587, 0.114])


def pixel_statistics(pixels: np.ndarray) -> np.ndarray:
    """Features float64 [n, 67] of uint8 [n, S, S, 3], S at least 8: 3 high-pass energies, 64 DCT magnitudes."""
    features = np.empty((len(pixels), NUM_FEATURES))
    for row, image in enumerate(pixels):
        residual = image.astype(np.float64) - cv2.medianBlur(np.ascontiguousarray(image), 3)
        features[row, :3] = np.log1p((residual**2).mean(axis=(0, 1)))
        luma = image @ LUMA
        side = luma.shape[0] // 8 * 8
        blocks = luma[:side, :side].reshape(side // 8, 8, side // 8, 8).transpose(0, 2, 1, 3)
        magnitudes = np.abs(dctn(blocks, axes=(2, 3), norm="ortho")).mean(axis=(0, 1))
        features[row, 3:] = np.log1p(magnitudes).ravel()
    return features


def pixel_classifier() -> Pipeline:
    """Standardised logistic regression."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
