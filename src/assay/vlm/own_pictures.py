"""Where the images of the user's file lie, and which of them can be used."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

from assay.core.io import inside, sha256_bytes, sha256_file
from assay.core.parallel import Ended, Workers
from assay.data.decode import ImageInfo, ImageRejected
from assay.data.decoders import PictureLimits, rejection
from assay.data.path_text import URL
from assay.vlm.own_forms import Picture, Reason, RowRejected

# The processor of Qwen2-VL and Qwen2.5-VL refuses (smart_resize) an image whose sides differ by more than this factor.
ASPECT = 200
OUTSIDE = "the path has '..' or leads out of the file's folder, as it stands there or by a link"


class Pictures:
    """The images that stand in a file's folder or below, or in the file itself."""

    def __init__(
        self, folder: Path, *, unpacked: Path, readers: Workers[ImageInfo | ImageRejected], limits: PictureLimits
    ) -> None:
        """Images are decoded by ``readers``, which call `assay.data.decoders.header_or_reason`; those that the file holds as
        bytes are written to the folder ``unpacked``, and don't stay there if they can't be used.
        """
        self._folder, self._unpacked = folder, unpacked
        self._readers, self._limits = readers, limits
        self._digests: dict[Path, str | RowRejected] = {}
        self._listed: dict[Path, dict[str, list[str]]] = {}

    def find(self, picture: Picture) -> tuple[str, Path, str]:
        """Name (relative to the folder, with /), file and SHA-256 of an image that can be used.

        Bytes are written to a file named by their hash; the name that stands beside them is a name only.

        Raises:
            RowRejected: there is none, or it can't be used; no detail names the folder.
        """
        if picture.content is not None:
            return self._unpack(picture.name, picture.content)
        name = self._relative(picture.name)
        path = self._existing(name)
        if path not in self._digests:
            self._digests[path] = self._check(path)
        if isinstance(digest := self._digests[path], RowRejected):
            raise digest.with_traceback(None)
        return name, path, digest

    def _relative(self, name: str) -> str:
        """A path as the file spells it, as one relative to the folder; what does not lead below it is refused."""
        # Lists are written with spaces after their commas, but a name may have them, too.
        if not os.path.exists(self._folder / name):
            name = name.strip()
        if URL.match(name):
            scheme = name.partition(":")[0].lower()
            raise RowRejected(
                Reason.URL, f"{scheme}: nothing is fetched; save the image beside the file, give its path"
            )
        try:
            # A name may hold a backslash where folders are parted by /.
            if "\\" in name and not os.path.exists(self._folder / name):
                name = name.replace("\\", "/")
            path = Path(name)
            if path.is_absolute():
                path = self._below(path)
            inside(self._folder, path.as_posix())
        except ValueError:
            drive = PureWindowsPath(name).drive if os.name != "nt" else ""
            raise RowRejected(Reason.OUTSIDE, f"{drive} is a drive of Windows" if drive else OUTSIDE) from None
        return PurePosixPath(path).as_posix()

    def _below(self, path: Path) -> Path:
        """An absolute path relative to the folder, which may be reached by links; ValueError if it is not below it."""
        home = Path(os.path.abspath(self._folder))
        if path.is_relative_to(home):
            return path.relative_to(home)
        return path.resolve().relative_to(home.resolve())

    def _existing(self, name: str) -> Path:
        """The file of a relative name, also where its accents are composed in one and not in the other (macOS)."""
        path = self._folder
        if os.path.exists(path / name):  # unlike Path.exists, also for a name too long for any file
            return path / name
        for part in PurePosixPath(name).parts:
            if os.path.exists(path / part):
                path /= part
                continue
            # A link to nowhere is listed, too, under the very name.
            found = [name for name in self._names(path).get(unicodedata.normalize("NFC", part), []) if name != part]
            if len(found) > 1:
                raise RowRejected(Reason.SEVERAL_FILES, f"{len(found)} files have this name but for its Unicode form")
            if not found:
                raise RowRejected(Reason.MISSING_PICTURE, f"no such file beside the table{self._hint(path, part)}")
            path /= found[0]
        try:
            return inside(self._folder, path.relative_to(self._folder).as_posix())
        except ValueError:
            raise RowRejected(Reason.OUTSIDE, OUTSIDE) from None

    def _names(self, folder: Path) -> dict[str, list[str]]:
        """What a folder holds, by its composed (NFC) names; nothing if it is none, or can't be read."""
        if folder not in self._listed:
            try:
                found = sorted(os.listdir(folder))
            except OSError:
                found = []
            names: dict[str, list[str]] = {}
            for name in found:
                names.setdefault(unicodedata.normalize("NFC", name), []).append(name)
            self._listed[folder] = names
        return self._listed[folder]

    def _hint(self, folder: Path, part: str) -> str:
        wanted = unicodedata.normalize("NFC", part).casefold()
        similar = next((name for name in self._names(folder) if name != part and name.casefold() == wanted), None)
        return f"; {similar} differs in upper and lower case" if similar else ""

    def _unpack(self, name: str, content: bytes) -> tuple[str, Path, str]:
        digest = sha256_bytes(content)
        path = self._unpacked / digest
        if path not in self._digests:
            path.write_bytes(content)
            self._digests[path] = self._check(path)
        if isinstance(found := self._digests[path], RowRejected):
            path.unlink(missing_ok=True)
            raise found.with_traceback(None)
        return PurePosixPath(name.replace("\\", "/")).as_posix() if name.strip() else digest, path, digest

    def _check(self, path: Path) -> str | RowRejected:
        """SHA-256 of a file, or why it can't be used."""
        found = self._readers.call(path, limits=self._limits, whole=True)
        found = rejection(found) if isinstance(found, Ended) else found
        if isinstance(found, ImageRejected):
            return RowRejected(found.reason, found.detail)
        height, width = found.height, found.width
        if max(height, width) > ASPECT * min(height, width):
            return RowRejected(
                Reason.TOO_NARROW, f"{width}x{height} pixels; one side may be {ASPECT} times the other at most"
            )
        return sha256_file(path)
