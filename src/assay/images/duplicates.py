"""Near-duplicate pictures, found by a perceptual hash.

pHash (Zauner 2010; ``imagehash.phash``): the signs of the low frequencies of a small grey copy. Pictures of nearly one
grey value have no low frequencies to speak of and hash to noise, so they are left out. A hash keeps signs only, and small
smooth pictures (a wall with an edge) meet in it by chance, so a pair found by hash is confirmed on thumbnails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import imagehash
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Standard deviation of grey values (0..255) below which a hash says nothing about the picture.
FLAT = 4.0
# Pairs compared at a time, which bounds memory.
CHUNK = 16_384


# Side of the thumbnails that confirm a pair.
THUMBNAIL = 16


@dataclass(frozen=True)
class Fingerprint:
    """What near-duplicates are found by: ``bits`` uint8 [hash_side ** 2 / 8], ``thumbnail`` uint8 [16, 16, 3]."""

    bits: np.ndarray
    thumbnail: np.ndarray


def fingerprint(pixels: np.ndarray, *, hash_side: int) -> Fingerprint | None:
    """pHash and thumbnail of one picture uint8 [H, W, 3]; None for a flat one."""
    picture = Image.fromarray(pixels)
    if np.asarray(picture.convert("L"), dtype=np.float32).std() < FLAT:
        return None
    bits = np.packbits(imagehash.phash(picture, hash_size=hash_side).hash)
    return Fingerprint(bits, np.asarray(picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)))


def near_duplicate_clusters(
    prints: Sequence[Fingerprint | None], *, max_distance: int, max_difference: float
) -> np.ndarray:
    """Cluster number of each picture, int64 [n], numbered from 0 in order of first appearance.

    Two pictures are connected when their hashes differ in at most ``max_distance`` bits and their thumbnails in at most
    ``max_difference`` grey levels on average. Pictures without a fingerprint stand alone. The search is exact (faiss,
    brute force over packed bits); its memory grows with the number of pairs found.
    """
    count = len(prints)
    known = np.array([i for i, item in enumerate(prints) if item is not None], dtype=np.int64)
    if len(known) == 0:
        return np.arange(count)
    codes = np.stack([item.bits for item in prints if item is not None])
    thumbnails = np.stack([item.thumbnail for item in prints if item is not None]).reshape(len(known), -1)
    index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index.add(codes)
    limits, _, right = index.range_search(codes, max_distance + 1)
    left = np.repeat(np.arange(len(known)), np.diff(limits).astype(np.int64))
    left, right = left[left < right], right[left < right]
    alike = np.zeros(len(left), dtype=bool)
    for start in range(0, len(left), CHUNK):
        part = slice(start, start + CHUNK)
        difference = np.abs(thumbnails[left[part]].astype(np.int16) - thumbnails[right[part]])
        alike[part] = difference.mean(axis=1) <= max_difference
    pairs = (known[left[alike]], known[right[alike]])
    graph = coo_array((np.ones(len(pairs[0]), dtype=np.int8), pairs), shape=(count, count))
    raw = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(raw, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def join_groups(groups: list[str], clusters: np.ndarray) -> list[str]:
    """Merge declared groups that share a near-duplicate cluster; the joined group takes its first name by sort order."""
    names, codes = np.unique(np.asarray(groups, dtype=object), return_inverse=True)
    count, rows = len(names), len(groups)
    nodes = np.concatenate([codes, count + np.asarray(clusters)])
    size = int(nodes.max()) + 1
    graph = coo_array((np.ones(rows, dtype=np.int8), (codes, count + np.asarray(clusters))), shape=(size, size))
    component = connected_components(graph, directed=False)[1][:count]
    # names are sorted, so the first node of a component carries its first name
    _, first, member = np.unique(component, return_index=True, return_inverse=True)
    return [str(name) for name in names[first[member]][codes]]
