"""Photographs decoded for forging, in processes that can be ended: they come from the user's folder as they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from assay.core.io import write_npy
from assay.core.parallel import Ended
from assay.core.worker import reserve
from assay.data.decode import ImageRejected, Reason, decode_rgb
from assay.data.decoders import decoders, rejection
from assay.images.duplicates import Fingerprint, fingerprint
from assay.images.forge.families import scale_to_short_side
from assay.params.images import Images

Task = tuple[Path, Path]


def decode_photo(
    task: Task, *, short_side: Sequence[float], max_pixels: int, max_bytes: int, hash_side: int
) -> Fingerprint | ImageRejected | None:
    """Decode the photograph ``task[0]`` into ``task[1]``; its fingerprint (None for a flat one), or why it can't be used."""
    source, target = task
    try:
        # Crops are cut from photographs made smaller, never larger.
        side = math.ceil(short_side[0])
        limits = {"max_pixels": max_pixels, "min_side": side, "max_bytes": max_bytes}
        pixels = decode_rgb(source, **limits, reserve=reserve)
        write_npy(target, scale_to_short_side(pixels, short_side[1]))
        return fingerprint(pixels, hash_side=hash_side)
    except ImageRejected as error:
        return error
    except MemoryError as error:
        return ImageRejected(Reason.TOO_MUCH_MEMORY, type(error).__name__)


def decode_photos(tasks: Sequence[Task], params: Images) -> Iterator[Fingerprint | ImageRejected | None]:
    """What `decode_photo` says of each photograph, in order."""
    limit, limits = params.fetch_photos.max_pixels, params.limits
    options: dict[str, Any] = {
        "short_side": params.forge.short_side,
        "max_pixels": limit,
        "max_bytes": limits.picture_bytes,
        "hash_side": params.prepare.near_duplicates.hash_side,
    }
    count, seconds = params.runtime.workers, limits.picture_seconds
    with decoders(decode_photo, count=count, max_pixels=limit, seconds=seconds) as readers:
        for _, result in readers.map(tasks, **options):
            yield rejection(result) if isinstance(result, Ended) else result
