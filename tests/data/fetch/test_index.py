"""Fetching from real indexes on this machine, honest ones and others, without ever running what comes."""

import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from assay.core.io import sha256_bytes, sha256_file
from assay.data.fetch.archives import unpack
from assay.data.fetch.index import download, read_settings
from assay.data.fetch.registry import Pin, fetch

FILENAME = "tiny-data-1.0.tar.gz"
PAGE = "simple/tiny-data/index.html"


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, notes the paths, and calls a .tar.gz a gzip-encoded .tar, as some servers do."""

    paths: list[str]
    elsewhere: dict[str, str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        for beginning, target in self.elsewhere.items():
            if self.path.startswith(beginning):
                self.send_response(302)
                self.send_header("Location", target + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        super().do_GET()

    def end_headers(self) -> None:
        if self.path.endswith(".gz") and "gzip" in self.headers.get("Accept-Encoding", ""):
            self.send_header("Content-Encoding", "gzip")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Index:
    """A package index: its folder, its address, the paths that were asked for, and where it sends whoever asks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        handler = type("Noting", (Handler,), {"paths": [], "elsewhere": {}})
        self.paths: list[str] = handler.paths
        self.elsewhere: dict[str, str] = handler.elsewhere
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}/simple"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def list_file(self, sha256: str | None, *, more: str = "") -> None:
        fragment = "" if sha256 is None else f"#sha256={sha256}"
        page = self.folder / PAGE
        page.parent.mkdir(parents=True, exist_ok=True)
        others = '<a href="../../files/tiny_data-1.0-py3-none-any.whl">tiny_data-1.0-py3-none-any.whl</a>'
        link = f'<a href="../../files/{FILENAME}{fragment}" data-requires-python="&gt;=9"{more}>{FILENAME}</a>'
        page.write_text(f"<!DOCTYPE html><html><body>{others}<br>{link}</body></html>")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_pip_settings: None) -> Iterator[Index]:
    """An index without a page yet; pip is told to use it and nothing else."""
    index = Index(tmp_path / "index")
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("PIP_RETRIES", "0")
    yield index
    index.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Index]:
    """A second index with a package of the same name and file name, and other bytes."""
    other = Index(tmp_path / "other")
    (other.folder / "files").mkdir(parents=True)
    (other.folder / "files" / FILENAME).write_bytes(b"other")
    yield other
    other.close()


@pytest.fixture
def pin(index: Index, tiny_sdist: Callable[[Path], Pin]) -> Pin:
    """An sdist that the index has and lists."""
    pin = tiny_sdist(index.folder / "files" / FILENAME)
    index.list_file(pin.sha256)
    return pin


def get(pin: Pin, folder: Path, *places: str) -> Path:
    """Download `pin` as pip's settings `places` say, each a line as pip lists it."""
    settings = read_settings("\n".join((*places, "global.retries='0'")))
    download(pin.package, pin.filename, sha256=pin.sha256, folder=folder, settings=settings)
    return folder / pin.filename


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_sdist_is_fetched_and_unpacked_and_nothing_of_it_is_run(tmp_path: Path, index: Index, pin: Pin) -> None:
    archive = fetch(pin, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == [archive] == [tmp_path / "cache" / FILENAME]
    assert sha256_file(archive) == pin.sha256
    wanted = ["tiny-data-1.0/tiny_data/words.txt", "tiny-data-1.0/setup.py"]
    words, setup = unpack(archive, tmp_path / "out", members=wanted, max_bytes=2**20)
    assert words.read_text() == "good and bad"
    ran = index.folder / "files" / "ran"
    assert not ran.exists()
    subprocess.run([sys.executable, setup], capture_output=True, check=False)
    assert ran.exists(), "the build code is not dangerous, so this test shows nothing"


def test_a_file_with_another_hash_is_rejected_before_the_download(tmp_path: Path, index: Index, pin: Pin) -> None:
    wrong = Pin("tiny-data", "1.0", "0" * 64, FILENAME)
    with pytest.raises(RuntimeError, match=rf"tiny-data==1\.0(.|\n)*{pin.sha256}(.|\n)*by hand"):
        fetch(wrong, cache_dir=tmp_path / "cache")
    assert index.paths == ["/simple/tiny-data/"]
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("says_hash", [True, False])
def test_the_bytes_that_come_are_checked_whatever_the_index_says(tmp_path, index, pin, says_hash):
    (index.folder / "files" / FILENAME).write_bytes(b"other")
    index.list_file(pin.sha256 if says_hash else None)
    with pytest.raises(RuntimeError, match=rf"the file that came has sha256 {sha256_bytes(b'other')}(.|\n)*by hand"):
        fetch(pin, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("told", [None, sha256_bytes(b"other"), "the pin's"])
@pytest.mark.parametrize("first", [True, False])
def test_a_package_of_the_same_name_on_a_second_index_is_not_taken(tmp_path, index, pin, other, told, first):
    """Whatever that index says of it, and in whatever order they are asked; alone it is refused."""
    other.list_file(pin.sha256 if told == "the pin's" else told)
    places = [other.url, index.url] if first else [index.url, other.url]
    settings = [f"global.index-url='{places[0]}'", f"global.extra-index-url='{places[1]}'"]
    assert sha256_file(get(pin, tmp_path, *settings)) == pin.sha256
    (tmp_path / FILENAME).unlink()
    with pytest.raises(RuntimeError, match=rf"{other.url}: .*{sha256_bytes(b'other')}"):
        get(pin, tmp_path, f"global.index-url='{other.url}'")
    assert not (tmp_path / FILENAME).exists()


@pytest.mark.parametrize("reason", ["", "stolen keys"])
def test_a_withdrawn_file_is_refused(tmp_path, index, pin, reason):
    index.list_file(pin.sha256, more=f' data-yanked="{reason}"')
    with pytest.raises(RuntimeError, match=rf"has withdrawn {FILENAME}: {reason or 'no reason is given'}"):
        get(pin, tmp_path, f"global.index-url='{index.url}'")
    assert index.paths == ["/simple/tiny-data/"]


@pytest.mark.parametrize("beginning", ["/simple", "/files"])
def test_a_redirect_to_another_host_is_not_followed(tmp_path, index, pin, other, beginning):
    """To the same files, even; one that stays on its host is followed."""
    port = other.host.rpartition(":")[2]
    shutil.copytree(index.folder, other.folder, dirs_exist_ok=True)
    index.elsewhere[beginning] = f"http://localhost:{port}"
    with pytest.raises(RuntimeError, match=rf"redirects to http://localhost:{port}, and is not followed"):
        get(pin, tmp_path, f"global.index-url='{index.url}'")
    assert other.paths == []
    index.elsewhere[beginning] = f"http://127.0.0.1:{port}"
    assert sha256_file(get(pin, tmp_path, f"global.index-url='{index.url}'")) == pin.sha256
    assert other.paths


def test_a_line_of_the_lock_file_takes_no_other_bytes(tmp_path, index, other, make_wheel):
    """As make setup has pip do it: an index that changed the file, a second one with the name."""
    name = "tiny_data-1.0-py3-none-any.whl"
    metadata = {"METADATA": "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n", "RECORD": ""}
    members = {f"tiny_data-1.0.dist-info/{key}": text for key, text in metadata.items()}
    members["tiny_data-1.0.dist-info/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
    digest = make_wheel(index.folder / "files" / name, members)
    make_wheel(other.folder / "files" / name, members | {"tiny_data/more.py": "else"})
    for place in (index, other):
        place.list_file(None)
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"tiny-data==1.0 \\\n    --hash=sha256:{digest}\n")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--require-hashes",
        "--no-cache-dir",
        "-r",
        str(lock),
    ]

    def ask(place: Index, folder: Path) -> subprocess.CompletedProcess[str]:
        words = [*command, "--index-url", place.url, "--dest", str(folder)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    assert ask(index, tmp_path / "right").returncode == 0
    assert sha256_file(tmp_path / "right" / name) == digest
    done = ask(other, tmp_path / "wrong")
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "wrong" / name).exists()


def test_a_missing_project_and_a_missing_file_are_named(tmp_path: Path, index: Index, pin: Pin) -> None:
    place = f"global.index-url='{index.url}'"
    with pytest.raises(RuntimeError, match=r"lists no tiny-data-1\.1\.tar\.gz among 2 files"):
        get(Pin("tiny-data", "1.1", "0" * 64, "tiny-data-1.1.tar.gz"), tmp_path, place)
    (index.folder / "files" / FILENAME).unlink()
    with pytest.raises(RuntimeError, match="404"):
        get(pin, tmp_path, place)
    (index.folder / PAGE).unlink()
    (index.folder / PAGE).parent.rmdir()
    with pytest.raises(RuntimeError, match="No details about project 'tiny-data'"):
        get(pin, tmp_path, place)


@pytest.mark.parametrize(("limit", "what"), [("MAX_PAGE_BYTES", "simple/tiny-data/"), ("MAX_FILE_BYTES", FILENAME)])
def test_an_answer_without_end_is_not_taken_in(tmp_path, index, pin, monkeypatch, limit, what):
    """Of what the server sends no more than the limit is read."""
    monkeypatch.setattr(f"assay.data.fetch.index.{limit}", 100)
    with pytest.raises(RuntimeError, match=rf"sends more than 100 bytes for http://.*{re.escape(what)}"):
        fetch(pin, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "page", "told"),
    [
        ("text/html", f"<a href='file:///dev/zero'>{FILENAME}</a>", f"names a file of this machine for {FILENAME}"),
        ("application/json", "[" * 100_000, "recursion"),
    ],
)
def test_a_page_that_leads_astray_is_passed_over(tmp_path, index, pin, monkeypatch, kind, page, told):
    monkeypatch.setitem(Handler.extensions_map, ".html", kind)
    (index.folder / PAGE).write_text(page)
    with pytest.raises(RuntimeError, match=told):
        fetch(pin, cache_dir=tmp_path / "cache")


def test_the_next_index_serves_where_the_first_is_away(tmp_path: Path, index: Index, pin: Pin) -> None:
    away = f"global.index-url='http://user:secret@127.0.0.1:{closed_port()}/simple'"
    with pytest.raises(RuntimeError, match="refused") as caught:
        get(pin, tmp_path, away)
    assert "secret" not in str(caught.value)
    assert sha256_file(get(pin, tmp_path, away, f"global.extra-index-url='{index.url}'")) == pin.sha256


def test_local_folders_and_local_indexes_serve_too(tmp_path: Path, index: Index, pin: Pin) -> None:
    place = f"global.index-url='{(index.folder / 'simple').as_uri()}'"
    assert sha256_file(get(pin, tmp_path, place)) == pin.sha256
    nothing = "global.no-index='1'"
    with pytest.raises(RuntimeError, match="no-index"):
        get(pin, tmp_path, place, nothing)
    folder = f"global.find-links='{index.folder / 'files'}'"
    assert sha256_file(get(pin, tmp_path, nothing, folder)) == pin.sha256
    with pytest.raises(RuntimeError, match="another sha256"):
        get(Pin("tiny-data", "1.0", "0" * 64, FILENAME), tmp_path, nothing, folder)
    assert index.paths == []


def test_settings_are_read_as_pip_orders_them() -> None:
    listing = """
:env:.default-timeout='7'
:env:.index-url=''
global.index-url='http://one/simple'
download.index-url='http://two/simple'
install.index-url='http://three/simple'
global.timeout='60'
global.extra-index-url='\\nhttp://four/simple\\nfile:///five%20six/simple'
global.find-links='/seven http://eight/page.html file:///nine'
:env:.cert='/it\\'s.pem'
global.client-cert='/eleven.pem'
global.trusted-host='twelve thirteen:8080'
global.proxy="http://ten:3128"
"""
    settings = read_settings(listing)
    assert settings.indexes == ("http://two/simple", "http://four/simple", "file:///five%20six/simple")
    assert settings.folders == (Path("/seven"), Path("/nine"))
    assert (settings.cert, settings.proxy, settings.client_cert) == ("/it's.pem", "http://ten:3128", "/eleven.pem")
    assert settings.trusted == {"twelve", "thirteen:8080"}
    assert (settings.timeout, settings.retries) == (7.0, 5)
    assert len(read_settings("").indexes) == 1
    with pytest.raises(RuntimeError, match="'soon'"):
        read_settings("global.timeout='soon'")


@pytest.mark.parametrize("environment", [False, True])
def test_certificates_proxy_and_timeout_reach_the_connection(tmp_path, monkeypatch, no_pip_settings, environment):
    """pip's own settings go before the environment's; where pip has none, the environment's are used."""
    seen: list[dict[str, Any]] = []

    def send(self: HTTPAdapter, request: object, **kwargs: Any) -> None:
        seen.append(kwargs | {"retries": self.max_retries.total})
        raise requests.ConnectionError("not sent")

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", send)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/environment.pem")
    monkeypatch.setenv("HTTPS_PROXY", "http://environment:1")
    listing = "global.index-url='https://index.invalid/simple'\nglobal.timeout='7'\nglobal.retries='3'\n"
    if not environment:
        listing += "global.cert='/pip.pem'\nglobal.proxy='http://pip:2'\nglobal.client-cert='/me.pem'\n"
    with pytest.raises(RuntimeError, match="not sent"):
        download("tiny-data", FILENAME, sha256="0" * 64, folder=tmp_path, settings=read_settings(listing))
    (sent,) = seen
    assert (sent["timeout"], sent["retries"]) == (7, 3)
    assert sent["verify"] == ("/environment.pem" if environment else "/pip.pem")
    assert sent["cert"] == (None if environment else "/me.pem")
    assert sent["proxies"]["https"] == ("http://environment:1" if environment else "http://pip:2")
    settings = read_settings(f"{listing}global.trusted-host='index.invalid'\n")
    with pytest.raises(RuntimeError, match="not sent"):
        download("tiny-data", FILENAME, sha256="0" * 64, folder=tmp_path, settings=settings)
    assert seen[1]["verify"] is False
