"""Pictures that the prepared data hold, found again by what they show, whatever their files are called."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assay.images.duplicates import Fingerprint, fingerprint, near_duplicate_clusters
from assay.images.model.store import PixelStore
from assay.params.images import Prepare

# The hash of a picture's pixels as ``prepare`` stores them, and the fingerprint of these (None for a flat picture).
Form = tuple[bytes, Fingerprint | None]


def stored_form(pixels: np.ndarray, *, settings: Prepare) -> Form:
    """What a picture is known by; ``pixels``: uint8 [S, S, 3] as ``prepare`` would store them."""
    return hashlib.sha256(pixels.tobytes()).digest(), fingerprint(pixels, hash_side=settings.near_duplicates.hash_side)


@dataclass(frozen=True)
class SeenPictures:
    """Names and forms of pictures, one each."""

    names: Sequence[str]
    forms: Sequence[Form]

    @classmethod
    def of(cls, manifests: Iterable[pd.DataFrame], store: PixelStore, *, settings: Prepare) -> SeenPictures:
        """Every picture of the manifests (columns image_path, sample_id), whose pixels are in the store."""
        rows = pd.concat([manifest[["image_path", "sample_id"]] for manifest in manifests], ignore_index=True)
        at = store.rows_of(list(rows["sample_id"]))
        return cls(list(rows["image_path"]), [stored_form(store.pixels[row], settings=settings) for row in at])

    def twins(self, forms: Sequence[Form], *, settings: Prepare) -> list[str | None]:
        """The name of the seen picture that each of ``forms`` equals or nearly equals, or None.

        Equal in every stored pixel, or joined by the search for near-duplicates with its limits in ``prepare``.
        """
        equal = {digest: name for name, (digest, _) in zip(self.names, self.forms, strict=True)}
        limits = settings.near_duplicates
        prints = [found for _, found in (*self.forms, *forms)]
        clusters = near_duplicate_clusters(
            prints, max_distance=limits.max_distance, max_difference=limits.max_difference
        ).tolist()
        earlier, later = clusters[: len(self.names)], clusters[len(self.names) :]
        near = dict(zip(earlier, self.names, strict=True))
        return [equal.get(digest) or near.get(cluster) for (digest, _), cluster in zip(forms, later, strict=True)]
