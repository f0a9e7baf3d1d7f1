"""What tests of the tools share: small projects under git and DVC, and waiting."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path, PosixPath

import pytest


def hear_ctrl_c():
    """A shell without a terminal has its background jobs ignore SIGINT, nohup SIGHUP, and they hand that on."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Project(PosixPath):
    """A folder, and the real tools at work in it."""

    def options(self):
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        own = {"DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull, "PATH": path}
        return {"cwd": self, "env": os.environ | own, "text": True}

    def attempt(self, *command):
        """A command that may fail."""
        return subprocess.run(command, capture_output=True, check=False, **self.options())

    def run(self, *command, wanted=0):
        done = self.attempt(*command)
        assert done.returncode == wanted, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def git(self, *arguments, wanted=0):
        return self.run("git", *arguments, wanted=wanted).strip()

    def dvc(self, *arguments):
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def assay(self, *arguments):
        return self.attempt(sys.executable, "-m", "assay.cli", *arguments)

    def start(self, module, *arguments, **options):
        """A module of Python that works beside the test."""
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.Popen(command, preexec_fn=hear_ctrl_c, **self.options(), **options)

    def commit(self):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--no-verify", "--message", "state")

    def write(self, files):
        for name, text in files.items():
            (self / name).parent.mkdir(parents=True, exist_ok=True)
            (self / name).write_text(text)

    def edit(self, name, old, new):
        text = (self / name).read_text()
        assert old in text
        (self / name).write_text(text.replace(old, new))

    def clone(self, folder, *options):
        self.git("clone", "--quiet", *options, self.as_uri(), str(folder))
        made = Project(folder)
        made.name_author()
        return made

    def name_author(self):
        self.git("config", "user.name", "t")
        self.git("config", "user.email", "t@example.invalid")


@pytest.fixture(scope="session")
def make_project(tmp_path_factory):
    """Makes a project of these files under git and DVC, with nothing committed."""

    def make(files):
        project = Project(tmp_path_factory.mktemp("made"))
        project.write(files)
        project.git("init", "--quiet", "--initial-branch=main")
        project.name_author()
        project.dvc("init", "--quiet")
        return project

    return make


@pytest.fixture(scope="session")
def this_project():
    """The checkout that the tests lie in."""
    return Project(Path(__file__).parents[2])


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the module's own ``finished``: every test makes its own mess."""
    return Project(shutil.copytree(finished, tmp_path / "project"))


@pytest.fixture(scope="session")
def until():
    """Waits for a condition; the bound only keeps a broken test from hanging."""

    def wait(condition, *, seconds=120):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.1)

    return wait
