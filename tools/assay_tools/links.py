"""Links and paths in the project's Markdown lead somewhere: files, headings, images, source files in backticks.

What exists is what git would carry to somebody else: a link to an ignored file works here only. Addresses in the net are
not fetched.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

from assay_tools.workspace import git_files

PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "benchmarks/README.md", "data/own/**/README.md")
# Options of git ls-files: what is tracked, and what is new and not ignored.
CARRIED = ("--cached", "--others", "--exclude-standard")
# A changelog names files as they were; its links are checked, its paths in backticks are not.
HISTORY = "CHANGELOG.md"
PROJECT_PATH = re.compile(r"(?:src|docs|params|tests|benchmarks)/[\w./*-]+")


@dataclass(frozen=True)
class Mention:
    """A link's target, or a path in backticks (``is_code``), and the line it stands in."""

    line: int
    target: str
    is_code: bool


class _Attributes(HTMLParser):
    """Collects what raw HTML links to, and the anchors that it sets."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (tag, name) in {("a", "href"), ("img", "src")}:
                self.links.append(value)
            elif value and name in ("id", "name"):
                self.anchors.append(value)


def slug(heading: str) -> str:
    """GitHub's anchor of a heading: lower case, punctuation dropped, blanks to hyphens.

    Source: github/cmark-gfm and the TOC filter of gjtorikian/html-pipeline, ``PUNCTUATION_REGEXP = /[^\\p{Word}\\- ]/u``.
    """
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


class Page:
    """One Markdown file, parsed."""

    def __init__(self, text: str) -> None:
        self.tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)

    def _inline(self) -> Iterator[tuple[int, Token]]:
        for token in self.tokens:
            line = (token.map or [0])[0] + 1
            if token.type == "html_block":
                yield line, token
            for child in token.children or []:
                yield line, child
                if child.type in ("softbreak", "hardbreak"):
                    line += 1

    @cached_property
    def anchors(self) -> set[str]:
        """Every anchor: slugs of headings (the second of a name gets -1, the third -2), ids in raw HTML."""
        found: set[str] = set()
        counts: dict[str, int] = {}
        for before, token in zip(self.tokens, self.tokens[1:], strict=False):
            if before.type != "heading_open":
                continue
            words = [child.content for child in token.children or [] if child.type in ("text", "code_inline")]
            name = slug("".join(words))
            found.add(f"{name}-{counts[name]}" if name in counts else name)
            counts[name] = counts.get(name, 0) + 1
        for _, token in self._inline():
            if token.type in ("html_block", "html_inline"):
                found |= set(_Attributes(token.content).anchors)
        return found

    @cached_property
    def mentions(self) -> list[Mention]:
        """Every link, image and path of the project in backticks."""
        found = []
        for line, token in self._inline():
            if token.type == "link_open":
                found.append(Mention(line, str(token.attrs["href"]), False))
            elif token.type == "image":
                found.append(Mention(line, str(token.attrs["src"]), False))
            elif token.type == "code_inline" and PROJECT_PATH.fullmatch(token.content):
                found.append(Mention(line, token.content, True))
            elif token.type in ("html_block", "html_inline"):
                found += [Mention(line, link, False) for link in _Attributes(token.content).links]
        return found


class Tree:
    """The files that git would carry, their folders, and the Markdown among them, parsed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = git_files(root, *CARRIED)
        self.folders = {parent.as_posix() for name in self.files for parent in PurePosixPath(name).parents}
        self._pages: dict[str, Page] = {}

    def has(self, name: str) -> bool:
        """Whether a file or folder of that name is there; ``*`` stands for any part of a name."""
        if "*" in name:
            return any(PurePosixPath(file).match(name) for file in self.files)
        return name in self.files or name in self.folders

    def page(self, name: str) -> Page:
        """A Markdown file, parsed."""
        if name not in self._pages:
            self._pages[name] = Page((self.root / name).read_text(encoding="utf-8"))
        return self._pages[name]

    def is_ignored(self, name: str) -> bool:
        """Whether git leaves a file out on purpose."""
        command = ["git", "check-ignore", "--quiet", "--no-index", name]
        return subprocess.run(command, cwd=self.root, check=False).returncode == 0


def _joined(folder: PurePosixPath, target: str) -> str | None:
    """A relative target as a path from the root, or None if it leads out."""
    start = "" if target.startswith("/") else str(folder)
    path = posixpath.normpath(posixpath.join(start, target.lstrip("/")))
    return None if path.split("/")[0] == ".." else path


def fault_of_link(tree: Tree, page: str, target: str) -> str | None:
    """What is wrong with a link in ``page``, or None."""
    address = urlsplit(target)
    if address.scheme or address.netloc:
        return None
    name = page
    if address.path:
        joined = _joined(PurePosixPath(page).parent, unquote(address.path))
        if joined is None:
            return "leads out of the project"
        if not tree.has(joined):
            return "is ignored by git, so others do not have it" if (tree.root / joined).exists() else "does not exist"
        name = joined
    anchor = unquote(address.fragment)
    if anchor and name.endswith(".md") and anchor not in tree.page(name).anchors:
        return f"names no heading of {name}"
    return None


def fault_of_path(tree: Tree, page: str, target: str) -> str | None:
    """What is wrong with a path in backticks, seen from the root or from the page's folder, or None.

    A file that git ignores is one that a run makes: such a name is no fault.
    """
    near = (PurePosixPath(page).parent / target).as_posix()
    if any(tree.has(name.rstrip("/")) for name in (target, near)) or tree.is_ignored(target):
        return None
    return "does not exist"


def broken_links(root: Path) -> list[str]:
    """One line per link, image or path in backticks that leads nowhere.

    Raises:
        ValueError: ``root`` is no git checkout.
    """
    tree = Tree(root)
    found = []
    for name in sorted(git_files(root, *CARRIED, "--", *(f":(glob){page}" for page in PAGES))):
        for mention in tree.page(name).mentions:
            if mention.is_code and name == HISTORY:
                continue
            check = fault_of_path if mention.is_code else fault_of_link
            fault = check(tree, name, mention.target)
            if fault:
                shown = f"`{mention.target}`" if mention.is_code else f"link to {mention.target}"
                found.append(f"{name}:{mention.line}: {shown} {fault}")
    return found
