"""Near-duplicate images, found by a perceptual hash.

pHash (Zauner 2010; ``imagehash.phash``): the signs of the low frequencies of a small grey copy. Flat images hash to noise,
so they are left out. Small smooth images (a wall with an edge) may have one hash by chance, so a pair found by hash is
confirmed on thumbnails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageStat

from assay.data.groups import components

# Standard deviation of grey values (0..255) below which a hash says nothing about the image.
FLAT = 4.0
# Images searched for, and pairs compared, at a time; this bounds memory also where all images are alike.
BLOCK = 64
CHUNK = 16_384
# Side of the thumbnails that confirm a pair.
THUMBNAIL = 16


@dataclass(frozen=True)
class Fingerprint:
    """What near-duplicates are found by: ``bits`` uint8 [hash_side ** 2 / 8], ``thumbnail`` uint8 [16, 16, 3]."""

    bits: np.ndarray
    thumbnail: np.ndarray


def fingerprint(pixels: np.ndarray, *, hash_side: int) -> Fingerprint | None:
    """pHash and thumbnail of one image uint8 [H, W, 3]; None for a flat one."""
    import imagehash

    image = Image.fromarray(pixels)
    if ImageStat.Stat(image.convert("L")).stddev[0] < FLAT:
        return None
    bits = np.packbits(imagehash.phash(image, hash_size=hash_side).hash)
    return Fingerprint(bits, np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)))


def near_duplicate_clusters(
    prints: Sequence[Fingerprint | None], *, max_distance: int, max_difference: float
) -> np.ndarray:
    """Cluster number of each image, int64 [n], numbered from 0 in order of first appearance.

    Two images are connected when their hashes differ in at most ``max_distance`` bits and their thumbnails in at most
    ``max_difference`` grey levels on average. Images without a fingerprint stand alone. The search is exact (faiss,
    brute force over packed bits); its memory does not grow with the number of pairs.
    """
    import faiss

    clusters = np.arange(len(prints), dtype=np.int64)
    known = np.array([i for i, item in enumerate(prints) if item is not None], dtype=np.int64)
    if len(known) == 0:
        return clusters
    codes = np.stack([item.bits for item in prints if item is not None])
    thumbnails = np.stack([item.thumbnail for item in prints if item is not None]).reshape(len(known), -1)
    index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    joined = np.arange(len(known))
    for start in range(0, len(known), BLOCK):
        block = codes[start : start + BLOCK]
        index.add(block)  # each image is compared with those before it and with its block
        limits, _, right = index.range_search(block, max_distance + 1)
        left = start + np.repeat(np.arange(len(block)), np.diff(limits).astype(np.int64))
        # Pairs that are in one cluster already would tell nothing new.
        apart = joined[left] != joined[right]
        left, right = left[apart], right[apart]
        alike = _alike(thumbnails, left, right, max_difference=max_difference)
        if alike.any():
            joined = components(joined[left[alike]], joined[right[alike]], count=len(known))[joined]
    _, first, member = np.unique(joined, return_index=True, return_inverse=True)
    clusters[known] = known[first[member]]
    return np.unique(clusters, return_inverse=True)[1].astype(np.int64)


def _alike(thumbnails: np.ndarray, left: np.ndarray, right: np.ndarray, *, max_difference: float) -> np.ndarray:
    """Which pairs' thumbnails differ little enough, bool [pairs]."""
    alike = np.zeros(len(left), dtype=bool)
    for start in range(0, len(left), CHUNK):
        part = slice(start, start + CHUNK)
        difference = np.abs(thumbnails[left[part]].astype(np.int16) - thumbnails[right[part]])
        alike[part] = difference.mean(axis=1) <= max_difference
    return alike
