"""What tests of daily use share: clones of the project as it stands, on params/tiny.yaml, driven by the real dvc.

A clone holds what is committed with the work tree's files laid over it, so that the tests hold for the code at hand.
Stages import the clone's own package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from assay.params.schema import overlaid_text

ROOT = Path(__file__).parents[3]
DOWNLOADS = ".assay/downloads"


@dataclass(frozen=True)
class Clone:
    """One clone: its folder, and the tools in it."""

    path: Path

    def environment(self, **more: str) -> dict[str, str]:
        """For processes that work here."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        own = {"DVC_NO_ANALYTICS": "1", "TQDM_DISABLE": "1", "PATH": path, "PYTHONPATH": str(self.path / "src")}
        # Where the tests run as a stage or from a git hook, dvc and git must not look there.
        outer = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))}
        # dvc runs the targets that it is given in the order of a set: with this it is the same order each time.
        return outer | own | {"PYTHONHASHSEED": "0"} | more

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """The real dvc, to its end, in a process group of its own; stderr stands in stdout, as on a screen."""
        return subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.path,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            start_new_session=True,
        )

    def dvc(self, *arguments: str, **more: str) -> str:
        """What dvc printed; it must have ended well."""
        done = self.start(*arguments, **more)
        assert done.returncode == 0, done.stdout
        return done.stdout

    @property
    def lock(self) -> bytes:
        path = self.path / "dvc.lock"
        return path.read_bytes() if path.is_file() else b""

    def stages(self) -> dict[str, Any]:
        """The stages of dvc.lock, in its order."""
        return dict(YAML(typ="safe").load(self.lock)["stages"]) if self.lock else {}

    def check_out(self) -> None:
        """The outputs that dvc.lock names, from the cache; without their stages dvc would ask for all others too."""
        self.dvc("checkout", *self.stages())

    def params(self) -> dict[str, Any]:
        return YAML(typ="safe").load((self.path / "params.yaml").read_text(encoding="utf-8"))

    def edit(self, values: Mapping[str, object]) -> None:
        """Change params.yaml; keys are like ``train_stage1.lr``."""
        yaml, path = YAML(), self.path / "params.yaml"
        params = yaml.load(path.read_text(encoding="utf-8"))
        for key, value in values.items():
            *sections, name = key.split(".")
            section = params
            for part in sections:
                section = section[part]
            assert section[name] != value, f"{key} is {value} already: the edit would change nothing"
            section[name] = value
        with path.open("w", encoding="utf-8") as stream:
            yaml.dump(params, stream)


def set_up_git(clone: Clone) -> Clone:
    clone.git("config", "user.name", "tests")
    clone.git("config", "user.email", "tests@localhost")
    clone.git("checkout", "--quiet", "-B", "main")
    return clone


def clone_project(folder: Path) -> Clone:
    """A git clone of the project with the work tree's files, on params/tiny.yaml, with nothing run: all committed."""
    project, clone = Clone(ROOT), Clone(folder)
    project.git("clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder))
    for name in clone.git("ls-files", "-z").split("\0")[:-1]:
        (folder / name).unlink()
    for name in project.git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")[:-1]:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    text = overlaid_text(ROOT / "params/tiny.yaml", base=ROOT / "params.yaml")
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    (folder / "dvc.lock").unlink(missing_ok=True)
    # What the fetching stages have downloaded before, they find; they check its hash.
    if (ROOT / DOWNLOADS).is_dir():
        shutil.copytree(ROOT / DOWNLOADS, folder / DOWNLOADS)
    set_up_git(clone).git("add", "--all")
    clone.git("commit", "--quiet", "--message", "tiny")
    return clone


def clone_clone(source: Clone, folder: Path, *, own_cache: bool = False) -> Clone:
    """A git clone of a clone, with what it has in dvc's cache checked out.

    Args:
        own_cache: a copy of that cache, so that neither finds what the other runs later; else the same one.
    """
    clone = Clone(folder)
    source.git("clone", "--quiet", str(source.path), str(folder))
    if own_cache:
        shutil.copytree(source.path / ".dvc/cache", folder / ".dvc/cache")
    else:
        clone.dvc("config", "--local", "cache.dir", str(source.path / ".dvc/cache"))
    clone.check_out()
    return set_up_git(clone)


@pytest.fixture(scope="session")
def new_clone() -> Callable[[Path], Clone]:
    return clone_project


@pytest.fixture(scope="session")
def copy_clone() -> Callable[..., Clone]:
    return clone_clone
