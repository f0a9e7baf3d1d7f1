"""Which images a metric is about."""

from __future__ import annotations

import numpy as np


def family_slices(labels: np.ndarray, generators: np.ndarray, *, seen: set[str]) -> dict[str, np.ndarray]:
    """Masks [n] of the slices that are reported: all real images, with some of the forged.

    ``test``: families that training saw (``seen``); ``unseen``: families that it did not (absent if there is none);
    ``family.<name>``: one family each.
    """
    real = labels == 0
    known = np.isin(generators, sorted(seen))
    masks = {"test": real | known}
    if (~real & ~known).any():
        masks["unseen"] = real | ~known
    return masks | {f"family.{name}": real | (generators == name) for name in sorted(set(generators[~real]))}
