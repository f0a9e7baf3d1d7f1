"""Near-duplicates: found when there are any, and only then."""

import io
from collections.abc import Callable
from itertools import combinations_with_replacement

import cv2
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from assay.data.groups import join_groups
from assay.images import duplicates
from assay.images.duplicates import Fingerprint, fingerprint, near_duplicate_clusters


def photo(seed: int, *, height: int = 160, width: int = 200) -> np.ndarray:
    """A smooth colourful image with some detail."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(coarse + rng.normal(0, 6, coarse.shape), 0, 255).astype(np.uint8)


def recompressed(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def clusters(images: list[np.ndarray]) -> list[int]:
    prints = [fingerprint(image, hash_side=8) for image in images]
    return list(near_duplicate_clusters(prints, max_distance=4, max_difference=8.0))


def test_copies_are_found_and_other_images_are_not() -> None:
    one, other = photo(1), photo(2)
    half = cv2.resize(one, (100, 80), interpolation=cv2.INTER_AREA)
    brighter = np.clip(one.astype(int) + 5, 0, 255).astype(np.uint8)
    recoloured = one[:, :, ::-1].copy()  # its hash is the same
    assert clusters([one, other, recompressed(one), half, brighter, recoloured]) == [0, 1, 0, 0, 0, 2]


@pytest.mark.parametrize("value", [0, 128, 255])
def test_flat_images_stand_alone(value: int) -> None:
    flat = np.full((50, 50, 3), value, dtype=np.uint8)
    assert fingerprint(flat, hash_side=8) is None
    assert clusters([flat, flat, photo(1), flat]) == [0, 1, 2, 3]


@pytest.mark.parametrize("side", [4, 8, 12, 16])
def test_hash_sizes(side: int) -> None:
    found = fingerprint(photo(1), hash_side=side)
    assert found is not None
    assert found.bits.shape == (side * side // 8,)
    assert found.thumbnail.shape == (16, 16, 3)
    assert near_duplicate_clusters([found, found], max_distance=0, max_difference=0).tolist() == [0, 0]


def components(count: int, linked: Callable[[int, int], bool]) -> list[int]:
    """The number of each item's component, where every pair is compared; numbers rise in the order of items."""
    graph = nx.Graph((i, j) for i, j in combinations_with_replacement(range(count), 2) if i == j or linked(i, j))
    number = {i: n for n, part in enumerate(nx.connected_components(graph)) for i in part}
    return [number[i] for i in range(count)]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_clusters_equal_brute_force(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    count = data.draw(st.integers(0, 40))
    block = data.draw(st.sampled_from([1, 3, 64]))
    limit = data.draw(st.integers(0, 6))
    bits = rng.integers(0, 2, (3, 64), dtype=np.uint8)
    greys = rng.integers(50, 200, (2, 16, 16, 3), dtype=np.uint8)
    prints: list[Fingerprint | None] = []
    for _ in range(count):
        code = bits[rng.integers(3)] ^ (rng.random(64) < rng.choice([0, 0.03, 0.08]))
        noise = rng.integers(0, rng.integers(1, 30), greys[0].shape, dtype=np.uint8)
        made = Fingerprint(np.packbits(code.astype(np.uint8)), greys[rng.integers(2)] + noise)
        prints.append(made if rng.random() > 0.1 else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "BLOCK", block)
        patch.setattr(duplicates, "CHUNK", block + 1)
        found = near_duplicate_clusters(prints, max_distance=limit, max_difference=8.0)

    def alike(i: int, j: int) -> bool:
        here, there = prints[i], prints[j]
        if here is None or there is None:
            return False
        bits = np.unpackbits(here.bits ^ there.bits).sum()
        return bits <= limit and np.abs(here.thumbnail.astype(float) - there.thumbnail).mean() <= 8.0

    assert found.dtype == np.int64
    assert found.tolist() == components(count, alike)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(0, 12)), max_size=25))
def test_joined_groups_equal_brute_force(rows: list[tuple[str, int]]) -> None:
    groups, numbers = [row[0] for row in rows], [row[1] for row in rows]
    part = components(len(rows), lambda i, j: groups[i] == groups[j] or numbers[i] == numbers[j])
    expected = [min(groups[j] for j in range(len(rows)) if part[j] == part[i]) for i in range(len(rows))]
    assert join_groups(groups, np.array(numbers, dtype=np.int64)) == expected
