"""Groups from paths: the frames of a video, the shots of one place, that must not be parted.

A rule is ``file`` (each file by itself, a forged one with its original of the same name), ``folder`` (the file's parent
folder) or a regular expression that is searched in the path. What it captures names the group; the whole match does
where it captures nothing. Files that share one of several captures are one group: ``(\\d{3})_(\\d{3})`` joins the
video 000_003 with all of 000 and of 003.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np

from assay.data.groups import join_groups
from assay.data.roles import role_named

# So many folders or stems, of so many files each, look like videos or shoots.
FEWEST_BUNDLES = 3
FEWEST_FILES = 3


def stem_of(path: str) -> str:
    """A path without its suffix, composed: names that look alike are one."""
    return unicodedata.normalize("NFC", posixpath.splitext(path)[0])


def _captures(path: str, plain: str, rule: str) -> list[str]:
    if rule == "folder":
        parent = unicodedata.normalize("NFC", posixpath.dirname(plain))
        return [parent] if parent else []
    match = re.search(rule, path)
    if match is None:
        return []
    return [text for text in match.groups() if text] if match.re.groups else [match.group()]


def group_names(paths: Sequence[str], plain: Sequence[str], *, rule: str, field: str) -> list[str]:
    """The group of every file. One that the rule gives none is a group by itself, and a warning counts those.

    Args:
        paths: relative paths, in which a regular expression is searched.
        plain: the same without the folders that name a class, so that a forged file meets its original.
        rule: ``file``, ``folder`` or a regular expression.
        field: the parameter, for the warning.
    """
    if rule == "file":
        return [stem_of(path) for path in plain]
    captured = [_captures(path, without, rule) for path, without in zip(paths, plain, strict=True)]
    alone = [path for path, found in zip(paths, captured, strict=True) if not found]
    if alone:
        why = "lie in no folder of their own" if rule == "folder" else "don't match"
        warnings.warn(
            f"{field} {rule!r}: {len(alone)} of {len(paths)} files {why} (e.g. {alone[0]!r}); each of them is a group "
            "by itself",
            stacklevel=2,
        )
    entries = [(number, text) for number, found in enumerate(captured) for text in (found or [stem_of(plain[number])])]
    joined = join_groups([text for _, text in entries], np.array([number for number, _ in entries], dtype=np.int64))
    names = {number: name for (number, _), name in zip(entries, joined, strict=True)}
    return [names[number] for number in range(len(paths))]


def warn_if_bundled(below: Sequence[str], *, field: str) -> None:
    """Warn when many files share a folder, or all but the number of their name, and no group is declared.

    Args:
        below: paths below the folder that names the class; folders of roles are no bundles.
        field: the parameter that would say it.
    """
    folders, stems = Counter[str](), Counter[str]()
    for path in below:
        folder, name = posixpath.split(path)
        if folder and role_named(posixpath.basename(folder)) is None:
            folders[folder] += 1
        elif numberless := re.sub(r"[\W_]*\d+$", "", posixpath.splitext(name)[0]):
            stems[posixpath.join(folder, numberless)] += 1
    for bundles, what in ((folders, "folders"), (stems, "beginnings of names")):
        large = {name: count for name, count in bundles.most_common() if count >= FEWEST_FILES}
        if len(large) < FEWEST_BUNDLES or 2 * sum(large.values()) < len(below):
            continue
        examples = ", ".join(f"{name!r} {count}" for name, count in list(large.items())[:3])
        warnings.warn(
            f"{sum(large.values())} of {len(below)} files share {len(large)} {what} ({examples} files), and no group is "
            "declared: frames of one video or shots of one place may stand in train and in test. Set "
            f"{field} to folder or to a regular expression that captures the video's name; to file if each file "
            "stands alone",
            stacklevel=3,
        )
        return
