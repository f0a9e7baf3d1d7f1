"""The network of the ``superres`` family: a small residual dense network that enlarges pictures twofold.

Zhang et al., "Residual Dense Network for Image Super-Resolution", CVPR 2018, in its smallest form: two blocks of one dense
layer each. The weights are somebody else's (`assay.data.fetch.superres`), trained as a GAN (Wang et al., "ESRGAN: Enhanced
Super-Resolution Generative Adversarial Networks", ECCVW 2018).
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import torch
from torch.nn.functional import conv2d, interpolate, relu

SCALE = 2
# Pixels beyond which an edge does not reach through the layers of the small picture.
MARGIN = 10


def enlarge(weights: Mapping[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """RGB [n, 3, S, S] in 0..255 -> [n, 3, 2 S, 2 S] of about the same range.

    ``weights``: ``<layer>.weight`` [out, in, k, k] and ``<layer>.bias`` [out] of every layer.
    """

    def layer(name: str, x: torch.Tensor) -> torch.Tensor:
        return conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding="same")

    first = layer("F_m1", images)
    features = [layer("F_0", first)]
    for block in ("1", "2"):
        dense = torch.cat([features[-1], relu(layer(f"F_{block}_1", features[-1]))], dim=1)
        features.append(layer(f"LFF_{block}", dense) + features[-1])
    fused = layer("GFF_2", layer("GFF_1", torch.cat(features[1:], dim=1))) + first
    up = layer("UPN3", relu(layer("UPN2", relu(layer("UPN1", fused)))))
    return layer("SR", interpolate(up, scale_factor=SCALE, mode="nearest"))


@torch.inference_mode()
def superresolve(weights: Mapping[str, torch.Tensor], crops: np.ndarray, *, batch_size: int = 64) -> np.ndarray:
    """Uint8 crops [n, S, S, 3] made smaller by half (area average) and enlarged again by the network; S even.

    They are mirrored at their edges first, as in `assay.images.forge.autoencoder.reconstruct`.
    """
    side = crops.shape[1]
    assert side % SCALE == 0, f"crops of side {side}: not a multiple of {SCALE}"
    small = [cv2.resize(crop, (side // SCALE, side // SCALE), interpolation=cv2.INTER_AREA) for crop in crops]
    wide = np.pad(np.stack(small), ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="symmetric")
    images = torch.from_numpy(wide).permute(0, 3, 1, 2).float()
    parts = [enlarge(weights, images[i : i + batch_size]) for i in range(0, len(images), batch_size)]
    pixels = torch.cat(parts).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    edge = SCALE * MARGIN
    return pixels[:, edge:-edge, edge:-edge].contiguous().numpy()
