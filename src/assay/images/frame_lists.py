"""Lists of video frames as DeepfakeBench writes them: JSON of data set, label, split, perhaps compression, and video.

{"FaceForensics++": {"FF-DF": {"train": {"c23": {"000_003": {"label": "FF-DF", "frames": ["...", ...]}}}}}}
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from assay.data.encodings import read_text
from assay.data.tables import UNREADABLE

# The labels of its lists that no folder is named by.
WORDS = {
    **dict.fromkeys(("ff-real", "dfd_real", "celebdfv1_real", "celebdfv2_real"), 0),
    **dict.fromkeys(("dfdcp_real", "dfdc_real", "df_real", "uadfv_real", "roop_real"), 0),
    **dict.fromkeys(("ff-df", "ff-f2f", "ff-fs", "ff-nt", "ff-fh", "faceshifter", "dfd_fake"), 1),
    **dict.fromkeys(("celebdfv1_fake", "celebdfv2_fake", "dfdcp_fakea", "dfdcp_fakeb", "dfdc_fake"), 1),
    **dict.fromkeys(("df_fake", "uadfv_fake", "roop_fake"), 1),
}


def _videos(node: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    if not isinstance(node, dict):
        raise ValueError(f"{' > '.join(keys) or 'the top level'} holds a {type(node).__name__}, no videos")
    if isinstance(node.get("frames"), list):
        if len(keys) not in (4, 5):
            raise ValueError(f"frames stand at {' > '.join(keys) or 'the top level'}")
        yield keys, node
        return
    for key, value in node.items():
        yield from _videos(value, (*keys, key))


def read_frame_list(path: Path, *, max_bytes: int) -> pd.DataFrame | None:
    """One row per frame: path, label, group (the video, whatever its label and compression), generator (the label), role.

    A video without frames is a row that says so (`UNREADABLE`). None for other JSON: an array, or an object per line.

    Raises:
        ValueError: nested as such a list, but with something else where videos are to be; or no text.
    """
    rows = []
    try:
        content = json.loads(read_text(path, max_bytes=max_bytes))
    except (json.JSONDecodeError, RecursionError):
        return None
    if not isinstance(content, dict) or not content or not all(isinstance(part, dict) for part in content.values()):
        return None
    try:
        for keys, body in _videos(content, ()):
            dataset, label, split, *_, video = keys
            problem = None if body["frames"] else f"{' > '.join(keys)} holds no frames"
            for frame in body["frames"] or [None]:
                # Lists made under Windows have its separators.
                name = frame.replace("\\", "/") if isinstance(frame, str) else frame
                rows.append((name, body.get("label", label), f"{dataset}/{video}", label, split, problem))
    except ValueError as error:
        raise ValueError(
            f"{error}; a list of frames is {{dataset: {{label: {{split: {{video: {{label, frames: [...]}}}}}}}}}}, with a "
            "compression above the videos if need be; any other list is JSON lines or an array of objects with path and "
            "label: to_json(orient='records')"
        ) from error
    return pd.DataFrame(rows, columns=["path", "label", "group", "generator", "role", UNREADABLE], dtype=object)
