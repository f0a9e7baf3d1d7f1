"""Texts that say nearly the same: found by MinHash, confirmed exactly, joined into groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from datasketch import MinHash, MinHashLSH
from datasketch.hashfunc import sha1_hash32
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import CountVectorizer

from assay.core.progress import progress

SEED = 1
# Probability with which a pair right at the threshold becomes a candidate. Every candidate is confirmed: a wrong one
# costs only time, while a pair that is not found is lost.
RECALL = 0.99
# Texts compared with one other at a time; it bounds memory, and where all are alike the first few settle it.
CHUNK = 256


def shingles(text: str, size: int) -> set[str]:
    """All runs of ``size`` characters; a shorter text is its own only one."""
    return {text[start : start + size] for start in range(max(1, len(text) - size + 1))}


def bands(threshold: float, num_perm: int) -> tuple[int, int]:
    """Bands, at least two, and hashes in a band: the longest bands that find `RECALL` of the pairs at the threshold.

    A pair of Jaccard similarity s shares one of b bands of r hashes with the probability 1 - (1 - s ** r) ** b (Leskovec,
    Rajaraman and Ullman, section 3.4.2). If no length finds enough, bands hold one hash.
    """
    found = [r for r in range(1, num_perm // 2 + 1) if 1 - (1 - threshold**r) ** (num_perm // r) >= RECALL]
    length = max(found, default=1)
    return num_perm // length, length


def near_duplicate_groups(
    texts: Sequence[str], *, threshold: float, num_perm: int = 64, shingle: int = 3
) -> np.ndarray:
    """Group number of each text, int64 [n], numbered from 0 in order of first appearance.

    Two texts are connected when their sets of character shingles have a Jaccard similarity of at least ``threshold``;
    groups are the connected components. Candidates are the pairs that share a band of their MinHash signatures (Broder
    1997, "On the resemblance and containment of documents"; banding as in Leskovec, Rajaraman and Ullman, "Mining of
    Massive Datasets", section 3.4). Each is confirmed on the sets themselves, so that no pair is joined wrongly. Of the
    pairs right at the threshold at most 1 % are missed, unless ``num_perm`` is too small for a low threshold (`bands`).
    The result depends on the texts only, and memory does not grow with the number of pairs.

    Args:
        threshold: Jaccard similarity above 0 and up to 1.
        num_perm: hashes in a signature, at least 2; more miss fewer pairs and take longer.
        shingle: characters in a shingle, at least 1.
    """
    if not len(texts):
        return np.zeros(0, dtype=np.int64)
    reader = CountVectorizer(analyzer=lambda text: shingles(text, shingle), binary=True, dtype=np.int32)
    sets = csr_array(reader.fit_transform(texts))
    hashes = np.array([sha1_hash32(name.encode("utf-8", "surrogatepass")) for name in reader.get_feature_names_out()])
    groups = np.arange(len(texts))
    for members in _buckets(sets, hashes, threshold=threshold, num_perm=num_perm):
        _join_alike(members, sets, groups, threshold=threshold)
    return pd.factorize(groups)[0].astype(np.int64)


def _buckets(sets: csr_array, hashes: np.ndarray, *, threshold: float, num_perm: int) -> Iterator[np.ndarray]:
    """Texts that share a band of their signatures, as ascending row numbers, band by band.

    ``hashes`` int64 [columns] holds the 32-bit hash of each shingle; SHA-1 does not change from run to run as Python's
    own hash of a string does.
    """
    search = MinHashLSH(num_perm=num_perm, params=bands(threshold, num_perm))
    rows = (hashes[sets.indices[start:end]].tolist() for start, end in pairwise(sets.indptr))
    signatures = MinHash.generator(rows, num_perm=num_perm, seed=SEED, hashfunc=int)
    for number, signature in enumerate(progress(signatures, name="signatures", unit="text", total=sets.shape[0])):
        search.insert(number, signature, check_duplication=False)
    for band in progress(search.hashtables, name="near-duplicates", unit="band"):
        for key in band.keys():  # noqa: SIM118 - it is no dictionary
            members = band.get(key)
            if len(members) > 1:
                yield np.array(sorted(members), dtype=np.int64)


def _join_alike(members: np.ndarray, sets: csr_array, groups: np.ndarray, *, threshold: float) -> None:
    """Give one number in ``groups`` to those ``members`` int64 [m] of a bucket that are alike.

    Pairs that are in one group already are not compared: they would tell nothing new.
    """
    if (groups[members] == groups[members[0]]).all():
        return
    for position, item in enumerate(members[1:], start=1):
        others = members[:position]
        while len(others := others[groups[others] != groups[item]]):
            chunk, others = others[:CHUNK], others[CHUNK:]
            alike = chunk[_jaccard(chunk, sets, item) >= threshold]
            if len(alike):
                groups[np.isin(groups, groups[alike])] = groups[item]


def _jaccard(rows: np.ndarray, sets: csr_array, item: int) -> np.ndarray:
    """Exact Jaccard similarity, float64 [rows], of these rows' sets with that of row ``item``."""
    sizes = sets.indptr[rows + 1] - sets.indptr[rows]
    own = np.zeros(sets.shape[1], dtype=np.int32)
    own[sets.indices[sets.indptr[item] : sets.indptr[item + 1]]] = 1
    common = sets[rows] @ own
    return common / (sizes + own.sum() - common)
