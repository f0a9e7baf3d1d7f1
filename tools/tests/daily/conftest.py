"""What tests of daily use share: clones of the project as it stands, on params/tiny.yaml, driven by the real dvc.

A clone holds what is committed with the work tree's files laid over it, so that the tests hold for the code at hand.
Stages import the clone's own package. The whole pipeline runs once for all tests (``finished``), in two clones side by
side; the tests work in clones of these, whose dvc.lock and cache are cut down to what shall have run.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from assay.params.schema import overlaid_text

ROOT = Path(__file__).parents[3]
DOWNLOADS = ".assay/downloads"
LINES = {
    "images": ["evaluate", "evaluate_alignment", "evaluate_cascade"],
    "others": ["evaluate_counts", "evaluate_text", "vlm_predict"],
}
# Python imports this at its start. It is idle but in the first Python process of a stage that dvc runs.
HOOK = """
import os, signal, sys

def watch():
    stage = os.environ["DVC_STAGE"]
    folder, kill = os.environ["WATCH_EVENTS"], os.environ.get("WATCH_KILL", "").split()
    log = os.open(os.path.join(folder, stage), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    root, me, seen = os.getcwd(), os.getpid(), [0]

    def hook(event, arguments):
        if event == "open":
            path, mode, flags = arguments
            if not isinstance(path, (str, os.PathLike)) or not flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif event == "os.rename":
            path = arguments[1]
        else:
            return
        place = os.path.relpath(os.path.join(root, os.fspath(path)), root)
        if os.getpid() != me or not place.startswith(("data/", "models/", "metrics/", "plots/", ".assay/resume/")):
            return
        if kill and kill[0] == stage and int(kill[1]) == seen[0]:
            os.write(log, b"KILLED before " + place.encode() + b"\\n")
            os.killpg(os.getpgrp(), signal.SIGKILL) if kill[2] == "group" else os.kill(me, signal.SIGKILL)
        seen[0] += 1
        os.write(log, place.encode() + b"\\n")

    sys.addaudithook(hook)

if "DVC_STAGE" in os.environ and "WATCH_EVENTS" in os.environ and "WATCHED" not in os.environ:
    os.environ["WATCHED"] = "1"
    watch()
"""


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

    def watched_repro(self, *targets: str, kill: str = "") -> subprocess.CompletedProcess[str]:
        """``dvc repro`` under ``HOOK``; ``kill``: stage, number of the event before which it dies, and group or process."""
        hook, events = (self.path.with_name(f"{self.path.name}-{name}") for name in ("hook", "events"))
        for folder in (hook, events):
            folder.mkdir(exist_ok=True)
        (hook / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
        path = f"{hook}{os.pathsep}{self.path / 'src'}"
        return self.start("repro", *targets, WATCH_EVENTS=str(events), WATCH_KILL=kill, PYTHONPATH=path)

    def events(self) -> dict[str, list[str]]:
        """By stage, the files that it opened for writing or renamed in its last watched run."""
        folder = self.path.with_name(f"{self.path.name}-events")
        return {path.name: path.read_text(encoding="utf-8").splitlines() for path in folder.iterdir()}

    @property
    def lock(self) -> bytes:
        path = self.path / "dvc.lock"
        return path.read_bytes() if path.is_file() else b""

    def stages(self) -> dict[str, Any]:
        """The stages of dvc.lock, in its order."""
        return dict(YAML(typ="safe").load(self.lock)["stages"]) if self.lock else {}

    def forget(self, stages: Collection[str]) -> None:
        """Take these stages out of dvc.lock, as if they had never run."""
        yaml, path = YAML(), self.path / "dvc.lock"
        content = yaml.load(path.read_text(encoding="utf-8"))
        for stage in stages:
            del content["stages"][stage]
        with path.open("w", encoding="utf-8") as stream:
            yaml.dump(content, stream)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

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


def set_up_git(clone: Clone) -> None:
    clone.git("config", "user.name", "tests")
    clone.git("config", "user.email", "tests@localhost")
    clone.git("checkout", "--quiet", "-B", "main")


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
    set_up_git(clone)
    clone.commit("tiny")
    return clone


def run_line(targets: Collection[str], folder: Path) -> Clone:
    """The project, run up to these stages with nothing disturbing it, and committed."""
    clone = clone_project(folder)
    done = clone.watched_repro(*targets)
    assert done.returncode == 0, done.stdout
    clone.commit("run")
    return clone


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Clone]]]:
    """Both lines, run at once: most of the time is Python starting, which takes one core."""
    folder = tmp_path_factory.mktemp("finished")
    with ThreadPoolExecutor() as pool:
        yield {line: pool.submit(run_line, targets, folder / line) for line, targets in LINES.items()}


def cached_files(project: Path, stages: Mapping[str, Any]) -> Iterator[str]:
    """Files of dvc's cache that hold the outputs of these entries of dvc.lock; those that git keeps have none."""
    for out in [out for entry in stages.values() for out in entry.get("outs", ())]:
        name = f".dvc/cache/files/md5/{out['md5'][:2]}/{out['md5'][2:]}"
        if not (project / name).is_file():
            continue
        yield name
        if name.endswith(".dir"):
            for row in json.loads((project / name).read_text(encoding="utf-8")):
                yield f".dvc/cache/files/md5/{row['md5'][:2]}/{row['md5'][2:]}"


def clone_clone(source: Clone, folder: Path, *, stages: Collection[str] | None = None) -> Clone:
    """A git clone of a clone, with what it has in dvc's cache checked out.

    Args:
        stages: it is as if these alone had run: the clone has a cache of its own with what they made, and no run-cache,
            so that neither finds what the other runs later. None: all, with the same cache.
    """
    clone = Clone(folder)
    source.git("clone", "--quiet", str(source.path), str(folder))
    set_up_git(clone)
    if stages is None:
        clone.dvc("config", "--local", "cache.dir", str(source.path / ".dvc/cache"))
    else:
        clone.forget(set(clone.stages()) - set(stages))
        for name in cached_files(source.path, clone.stages()):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source.path / name, folder / name)
    clone.check_out()
    return clone


@pytest.fixture(scope="session")
def copy_clone() -> Callable[..., Clone]:
    return clone_clone
