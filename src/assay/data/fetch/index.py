"""Get one named file of a package from the package index, and no other bytes than those that were pinned.

The user's own pip settings hold: index-url, extra-index-url, no-index, find-links that are local folders, cert,
client-cert, trusted-host, proxy, timeout and retries; find-links that are pages are not read. A place that has the file with
another hash, that has withdrawn it (PEP 592) or that redirects to another host is passed over.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

import requests
from pypi_simple import (
    PYPI_SIMPLE_ENDPOINT,
    DistributionPackage,
    NoSuchProjectError,
    ProjectPage,
    PyPISimple,
    UnsupportedRepoVersionError,
)
from requests.adapters import HTTPAdapter

from assay.core.io import sha256_file

# Raised for an index that is away, lacks the file or answers nonsense; what requests raises is an OSError.
_ERRORS = (OSError, ValueError, RecursionError, NoSuchProjectError, UnsupportedRepoVersionError)
# Of an index page, and of a file: far more than any has.
MAX_PAGE_BYTES, MAX_FILE_BYTES = 2**26, 2**32
# Some servers call a .tar.gz a gzip-encoded .tar, and requests would unpack it on the way.
_HEADERS = {"Accept-Encoding": "identity"}
_ALIASES = {"default-timeout": "timeout", "pypi-url": "index-url"}


@dataclass(frozen=True)
class Settings:
    """Where to look, `folders` before `indexes`; `timeout` in seconds; None where requests decides."""

    indexes: tuple[str, ...]
    folders: tuple[Path, ...]
    cert: str | None
    client_cert: str | None
    trusted: frozenset[str]
    proxy: str | None
    timeout: float
    retries: int


def read_settings(listing: str) -> Settings:
    """The settings in what ``pip config list`` prints, defaults as pip has them.

    Of a name in several sections, the environment's counts first, then ``[download]``, then ``[global]``, as for
    ``pip download``. Raises RuntimeError for a timeout or retries that is not a number.
    """
    found: dict[str, str] = {}
    for section in ("global", "download", ":env:"):
        for line in listing.splitlines():
            key, _, value = line.partition("=")
            place, _, name = key.partition(".")
            if place == section and (text := ast.literal_eval(value)):
                found[_ALIASES.get(name, name)] = text
    try:
        timeout, retries = float(found.get("timeout", 15)), int(found.get("retries", 5))
    except ValueError as error:
        raise RuntimeError(f"pip's timeout or retries is not a number ({error})") from error
    indexes = [found.get("index-url", PYPI_SIMPLE_ENDPOINT), *found.get("extra-index-url", "").split()]
    if found.get("no-index", "").lower() in ("1", "true", "t", "yes", "y", "on"):
        indexes = []
    links = [link for link in found.get("find-links", "").split() if link.startswith("file:") or "://" not in link]
    return Settings(
        # pip takes a bare path for an index too.
        indexes=tuple(index if "://" in index else _local(index).resolve().as_uri() for index in indexes),
        folders=tuple(_local(link) for link in links),
        cert=str(_local(found["cert"])) if "cert" in found else None,
        client_cert=str(_local(found["client-cert"])) if "client-cert" in found else None,
        trusted=frozenset(found.get("trusted-host", "").split()),
        proxy=found.get("proxy"),
        timeout=timeout,
        retries=retries,
    )


def _local(text: str) -> Path:
    """The path that a ``file:`` address or a path as users write it names."""
    return Path(url2pathname(urlsplit(text).path)) if text.startswith("file:") else Path(text).expanduser()


def download(package: str, filename: str, *, sha256: str, folder: Path, settings: Settings) -> None:
    """Put the file `filename` of `package` into `folder`, from the first place that gives it with this `sha256`.

    Raises RuntimeError that says, for each place, why the file could not be had there.
    """
    arrived = folder / filename
    faults: list[str] = []
    for place in settings.folders:
        if (place / filename).is_file():
            if sha256_file(place / filename) == sha256:
                shutil.copyfile(place / filename, arrived)
                return
            faults.append(f"{place}: has the file with another sha256")
    with _session(settings) as session:
        for index in settings.indexes:
            client = PyPISimple(index, session=session)
            try:
                link = _find(client, package, filename, sha256=sha256, timeout=settings.timeout)
                if link.url.startswith("file:"):
                    shutil.copyfile(_local(link.url), arrived)
                else:
                    with session.get(link.url, stream=True, timeout=settings.timeout, headers=_HEADERS) as answer:
                        answer.raise_for_status()
                        with arrived.open("wb") as file:
                            file.writelines(_limited(answer, MAX_FILE_BYTES))
                if (digest := sha256_file(arrived)) == sha256:
                    return
                arrived.unlink()
                faults.append(f"{index}: the file that came has sha256 {digest}")
            except _ERRORS as error:
                faults.append(f"{index}: {error}")
    # Addresses of private indexes may hold a password.
    reasons = re.sub(r"://[^/@\s]+@", "://***@", "\n".join(faults))
    raise RuntimeError(reasons or "pip's settings name no index (no-index), and no folder of find-links has the file")


def _find(client: PyPISimple, package: str, filename: str, *, sha256: str, timeout: float) -> DistributionPackage:
    """The file's entry on the project's page; ValueError if it is not there, withdrawn, or has another hash."""
    address = client.get_project_url(package)
    if address.startswith("file:"):
        page = ProjectPage.from_html(package, (_local(address) / "index.html").read_bytes(), base_url=address)
    else:
        page = _page(client, package, address, timeout=timeout)
    found = [link for link in page.packages if link.filename == filename]
    if not found:
        raise ValueError(f"lists no {filename} among {len(page.packages)} files of {package}")
    listed = found[0].digests.get("sha256", sha256).lower()
    if listed != sha256:
        raise ValueError(f"has {filename} with sha256 {listed}, which is not the one pinned")
    if found[0].is_yanked:
        raise ValueError(f"has withdrawn {filename}: {found[0].yanked_reason or 'no reason is given'}")
    if found[0].url.startswith("file:") and not address.startswith("file:"):
        raise ValueError(f"names a file of this machine for {filename}")
    return found[0]


def _page(client: PyPISimple, package: str, address: str, *, timeout: float) -> ProjectPage:
    """The project's page, of at most `MAX_PAGE_BYTES`: the client itself would take in whatever comes."""
    with client.s.get(address, stream=True, timeout=timeout, headers={"Accept": client.accept}) as answer:
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise NoSuchProjectError(package, address)
        answer.raise_for_status()
        body = b"".join(_limited(answer, MAX_PAGE_BYTES))
        kind = answer.headers.get("content-type", "text/html").lower()
        if "json" in kind:
            return ProjectPage.from_json_data(json.loads(body), answer.url)
        if "html" not in kind:
            raise ValueError(f"answers for {package} with {kind[:80]}, which is no index page")
        # Without a charset requests would guess one.
        encoding = answer.encoding if "charset" in kind else None
        return ProjectPage.from_html(package, body, base_url=answer.url, from_encoding=encoding)


def _limited(answer: requests.Response, most: int) -> Iterator[bytes]:
    """The parts of an answer; ValueError where they are more than ``most`` bytes."""
    total = 0
    for part in answer.iter_content(2**16):
        total += len(part)
        if total > most:
            raise ValueError(f"sends more than {most} bytes for {answer.url}")
        yield part


class _Session(requests.Session):
    """A session whose own proxy and certificates go before those of the environment, as pip has it.

    It stays on the host that it was sent to.
    """

    trusted: frozenset[str] = frozenset()

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None:
            here, there = urlsplit(resp.url), urlsplit(urljoin(resp.url, target))
            if there.hostname != here.hostname or (here.scheme, there.scheme) == ("https", "http"):
                raise requests.exceptions.InvalidURL(
                    f"redirects to {there.scheme}://{there.netloc}, and is not followed"
                )
        return target

    def merge_environment_settings(self, url: str, proxies: Any, stream: Any, verify: Any, cert: Any) -> dict[str, Any]:
        proxies = {**self.proxies, **(proxies or {})}
        verify = self.verify if verify is None else verify
        if self.trusted & {urlsplit(url).netloc, urlsplit(url).hostname}:
            verify = False
        return super().merge_environment_settings(url, proxies, stream, verify, cert)


def _session(settings: Settings) -> _Session:
    session = _Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=settings.retries))
    session.trusted, session.cert = settings.trusted, settings.client_cert
    if settings.cert:
        session.verify = settings.cert
    if settings.proxy:
        session.proxies = {"http": settings.proxy, "https": settings.proxy}
    return session
