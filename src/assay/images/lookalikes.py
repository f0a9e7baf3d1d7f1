"""Groups in different roles that look alike: one scene under two names, or one photographer's room in two roles.

Near-duplicates are found picture by picture. Two shots of one room, or other crops of one photograph, are none, and yet
a metric on the one rests on the other. What they share are colours: a histogram of CIE Lab values a group, compared by
Hellinger's distance. A pair is suspicious where it is closer than chance would make the closest of all pairs. Colours
find a scene under a new name; of a photographer's several rooms they find some.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd

from assay.images.duplicates import Fingerprint

# Bins of lightness and of the two colour axes: coarse, so that light and framing matter little.
BINS = (6, 8, 8)
# Groups with fewer pictures are left to the search for near-duplicates: a single picture's colours say little.
FEWEST_PICTURES = 8
# Pairs within roles that say how far apart groups usually are: so many at most are measured, and so few are too few.
MOST_PAIRS, FEWEST_PAIRS = 20_000, 20
# Pairs of groups without a relation that are called suspicious in a data set, on average.
FALSE_ALARM = 0.01
# The share of the distances within roles that is their tail.
TAIL = 0.2
COLUMNS = ["group", "role", "other_group", "other_role", "distance", "suspicious"]


def colour_histogram(thumbnails: np.ndarray) -> np.ndarray:
    """The square roots of the shares of Lab colours in uint8 RGB [n, 16, 16, 3]: float64 [384], of length 1."""
    lab = cv2.cvtColor(thumbnails.reshape(1, -1, 3), cv2.COLOR_RGB2LAB).reshape(-1, 3)
    counts, _ = np.histogramdd(lab, bins=BINS, range=[(0, 256)] * 3)
    return np.sqrt(counts.ravel() / counts.sum())


def closest_pairs(frame: pd.DataFrame, prints: Sequence[Fingerprint | None], *, seed: int) -> pd.DataFrame:
    """Every group with the most similar one of another role, the closest pair first (`COLUMNS`).

    ``suspicious`` tells whether the distance lies below what is usual within a role: so small that among so many pairs of
    groups without a relation one as close is expected `FALSE_ALARM` times. How fast small distances get rare is the tail
    index of the smallest fifth of those within roles (Hill 1975, "A simple general approach to inference about the tail
    of a distribution").

    Args:
        frame: columns group_id and split (a role); a row per picture.
        prints: fingerprint of each row, or None.
        seed: seeds the sample of pairs within roles.

    Returns:
        An empty table where groups are too few, or hold too few pictures.
    """
    from sklearn.neighbors import NearestNeighbors

    known = np.array([found is not None for found in prints], dtype=bool)
    thumbnails = np.array([found.thumbnail for found in prints if found is not None])
    rows = frame[known].reset_index(drop=True)
    parts = {key: at for key, at in rows.groupby("group_id").indices.items() if len(at) >= FEWEST_PICTURES}
    empty = pd.DataFrame(columns=COLUMNS)
    if len(parts) < 2:
        return empty
    names = np.array(list(parts), dtype=object)
    roles = np.array([rows["split"].iloc[at[0]] for at in parts.values()], dtype=object)
    colours = np.stack([colour_histogram(thumbnails[at]) for at in parts.values()])
    usual = _usual_distances(colours, roles, seed=seed)
    if len(usual) < FEWEST_PAIRS:
        return empty
    found = []
    for role in sorted(set(roles)):
        here, there = np.flatnonzero(roles == role), np.flatnonzero(roles != role)
        if len(there) == 0:
            return empty
        distances, nearest = (
            NearestNeighbors(n_neighbors=1, algorithm="brute").fit(colours[there]).kneighbors(colours[here])
        )
        for left, right, distance in zip(here, there[nearest[:, 0]], distances[:, 0], strict=True):
            pair = sorted([(names[left], roles[left]), (names[right], roles[right])])
            found.append((*pair[0], *pair[1], float(distance)))
    table = pd.DataFrame(found, columns=COLUMNS[:-1]).drop_duplicates(["group", "other_group"])
    table = table.sort_values("distance", kind="stable").reset_index(drop=True)
    _, sizes = np.unique(roles, return_counts=True)
    num_pairs = (sizes.sum() ** 2 - (sizes**2).sum()) / 2
    return table.assign(suspicious=table["distance"] < _limit(np.sort(usual), num_pairs))


def _limit(usual: np.ndarray, num_pairs: float) -> float:
    """The distance below which `FALSE_ALARM` of ``num_pairs`` are expected; ``usual`` are sorted distances."""
    size = max(10, round(TAIL * len(usual)))
    tail = np.maximum(usual[: size + 1], 1e-9)
    index = (size - 1) / np.log(tail[-1] / tail[:-1]).sum()
    return float(tail[-1] * (FALSE_ALARM * len(usual) / (size * num_pairs)) ** (1.0 / index))


def _usual_distances(colours: np.ndarray, roles: np.ndarray, *, seed: int) -> np.ndarray:
    """Distances of pairs of groups that share a role, float64 [pairs]; a random sample where there are many."""
    rng = np.random.default_rng(seed)
    if len(roles) * (len(roles) - 1) // 2 <= 4 * MOST_PAIRS:
        left, right = np.triu_indices(len(roles), 1)
    else:
        left, right = rng.integers(len(roles), size=(2, 8 * MOST_PAIRS))
    within = np.flatnonzero((roles[left] == roles[right]) & (left != right))
    within = rng.permutation(within)[:MOST_PAIRS]
    return np.linalg.norm(colours[left[within]] - colours[right[within]], axis=1)


def in_words(pairs: pd.DataFrame, *, shown: int = 5) -> str:
    """The suspicious pairs as a warning; empty if there are none."""
    found = pairs[pairs["suspicious"]] if len(pairs) else pairs
    if found.empty:
        return ""
    listed = "; ".join(
        f"{row.group} ({row.role}) and {row.other_group} ({row.other_role}), distance {row.distance:.2f}"
        for row in found.head(shown).itertuples()
    )
    return (
        f"{len(found)} pair(s) of groups in different roles have closer colours than groups of one role usually have: "
        f"{listed}. Look at them: if they show one scene, or one photographer's room, give them one group "
        "(data/processed/audit.json lists the closest pairs)"
    )
