"""Links in Markdown: planted faults are named with page and line, and what is right is let through."""

import subprocess
from pathlib import Path

import pytest

from assay_tools.links import Page, broken_links, slug

README = """\
# A *small* `assay` project

See [the guide](docs/guide.md), [its end](docs/guide.md#the-end-1), [here](#a-small-assay-project),
[a folder](docs), [an address](https://example.invalid/nothing) and [mail](mailto:a@example.invalid).
[With a blank](docs/with%20blank.md "title"), [by reference][guide], ![picture](plots/one.png), `src/assay/core/io.py`,
`src/assay/core/*.py`, `docs/<page>.md`, `params/made_by_a_run.yaml`, `docs/`, <a href="docs/guide.md#custom">raw</a>.

    [in code](docs/nothing.md) `src/nothing.py`

[guide]: docs/guide.md
"""
GUIDE = """\
# Guide

<a id="custom"></a>

## The end

## The end

[back](../README.md#a-small-assay-project), [from the root](/README.md), [itself](guide.md), `guide.md`
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git checkout whose links are all right."""
    files = {
        "README.md": README,
        "docs/guide.md": GUIDE,
        "docs/with blank.md": "# Blank\n",
        "plots/one.png": "",
        "src/assay/core/io.py": "",
        "CHANGELOG.md": "# Changes\n\n`src/assay/gone.py` went.\n",
        "data/own/photos/README.md": "[up](../../../README.md)\n",
        ".gitignore": "/params/made_by_a_run.yaml\n/models/\n",
        "models/local.md": "# Only here\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def test_what_is_right_is_let_through(project: Path) -> None:
    assert broken_links(project) == []


@pytest.mark.parametrize(
    ("page", "text", "wanted"),
    [
        ("README.md", "a\n[x](docs/nothing.md)", "README.md:2: link to docs/nothing.md does not exist"),
        ("README.md", "[x](#nowhere)", "README.md:1: link to #nowhere names no heading of README.md"),
        ("README.md", "[x](docs/guide.md#the-end-2)", "names no heading of docs/guide.md"),
        ("README.md", "![x](plots/two.png)", "link to plots/two.png does not exist"),
        ("README.md", '<img src="plots/two.png">', "link to plots/two.png does not exist"),
        ("README.md", "[x](../elsewhere/y.md)", "leads out of the project"),
        ("README.md", "[x](models/local.md)", "is ignored by git, so others do not have it"),
        ("README.md", "[x][guide]\n\n[guide]: docs/gide.md", "link to docs/gide.md does not exist"),
        ("docs/guide.md", "[x](docs/guide.md)", "docs/guide.md:1: link to docs/guide.md does not exist"),
        ("docs/guide.md", "- one\n- `tests/test_gone.py`", "docs/guide.md:2: `tests/test_gone.py` does not exist"),
        ("docs/guide.md", "| a |\n|---|\n| `src/assay/gone.py` |", ":3: `src/assay/gone.py` does not exist"),
        ("docs/guide.md", "`src/assay/*.txt`", "`src/assay/*.txt` does not exist"),
        ("data/own/photos/README.md", "[x](../../README.md)", "link to ../../README.md does not exist"),
        ("CHANGELOG.md", "[x](docs/gone.md)", "CHANGELOG.md:1: link to docs/gone.md does not exist"),
    ],
)
def test_a_fault_is_named_with_its_line(project: Path, page: str, text: str, wanted: str) -> None:
    (project / page).write_text(f"{text}\n\n# A small assay project\n" + ("\n## The end\n" * 2))
    found = [line for line in broken_links(project) if line.startswith(page) and wanted in line]
    assert len(found) == 1, broken_links(project)


@pytest.mark.parametrize(
    ("heading", "wanted"),
    [
        ("Two commands", "two-commands"),
        ("`assay why STAGE`: what changed?", "assay-why-stage-what-changed"),
        ("A - b", "a---b"),
        ("snake_case & more", "snake_case--more"),
        ("Größe 中文", "größe-中文"),
    ],
)
def test_slugs_are_those_of_github(heading: str, wanted: str) -> None:
    assert Page(f"## {heading}\n").anchors == {wanted}
    assert slug(heading) == wanted


def test_outside_of_git_the_reason_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a git repository"):
        broken_links(tmp_path)
