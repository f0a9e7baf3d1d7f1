"""What counts as a stage's code, and the refusal to run other code than the file says."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from assay.closure import import_closure, locked_versions, parsed, stage_code

LIBRARY = {
    "src/assay/__init__.py": "",
    "src/assay/lazy.py": "from assay.deep import value\n",
    "src/assay/deep.py": '"""Deep."""\n\nimport numpy as np\n\nvalue = np.array(1)\n',
    "src/assay/typed.py": "class Thing: ...\n",
    "src/assay/empty.py": '"""Nothing runs here."""\n\nfrom __future__ import annotations\n',
    "src/assay/params/one.py": "epochs = 3\n",
    "src/assay/stages/__init__.py": "",
    "src/assay/stages/one.py": (
        "from typing import TYPE_CHECKING\nfrom assay import empty\nfrom assay.params import one\n"
        "if TYPE_CHECKING:\n    from assay.typed import Thing\n"
        "def main():\n    from assay import lazy\n    return lazy\n"
    ),
    "requirements.lock": 'numpy==2.4.6+local ; python_version >= "3.11" \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n'
    'numpy==1.0 ; python_version < "3.11"\ntqdm==4.0\n',
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """One stage; a module imported inside a function, one for type checkers, one of parameters, an empty one."""
    for name, text in LIBRARY.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_the_code_of_a_stage(project: Path) -> None:
    code = stage_code("one", root=project)
    assert set(code["modules"]) == {"assay/stages/one.py", "assay/lazy.py", "assay/deep.py"}
    assert code["packages"] == {"numpy": "2.4.6"}


def test_an_unknown_stage_and_a_relative_import_are_errors(project: Path) -> None:
    with pytest.raises(ValueError, match=r"assay\.stages\.nothing"):
        import_closure("assay.stages.nothing", src=project / "src")
    (project / "src/assay/deep.py").write_text("from . import lazy\n")
    with pytest.raises(ValueError, match="relative import in line 1"):
        stage_code("one", root=project)


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ('def f():\n    """Old."""\n    return 1\n', 'def f():\n    """New."""\n    return 1  # one\n', True),
        ("value = 1\n", "# A comment.\n\n\nvalue = (\n    1\n)\n", True),
        ("value = 1\n", "value = 2\n", False),
        ("def f(a, b=1): ...\n", "def f(a, *, b=1): ...\n", False),
        ("def f():\n    return 1\n    'not a docstring'\n", "def f():\n    return 1\n", False),
    ],
)
def test_the_digest_is_of_what_runs(tmp_path: Path, before: str, after: str, same: bool) -> None:
    (tmp_path / "one.py").write_text(before)
    (tmp_path / "two.py").write_text(after)
    assert (parsed(tmp_path / "one.py")[0] == parsed(tmp_path / "two.py")[0]) == same


def test_a_lock_line_without_a_version_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("# words\nnumpy>=2\n")
    with pytest.raises(ValueError, match="numpy>=2"):
        locked_versions(tmp_path / "requirements.lock")


def test_a_decisive_package_that_is_not_locked_is_an_error(project: Path) -> None:
    (project / "requirements.lock").write_text("tqdm==4.0\n")
    with pytest.raises(ValueError, match=r"no version of numpy, which stage one runs: make lock"):
        stage_code("one", root=project)


ROOT = Path(__file__).parent.parent
# A stage of the real harness, on a copy of the package in which it is the only one.
STAGE = '''\
"""greet: a stage that writes what its library says."""

from pathlib import Path

from assay.core.params import read_yaml
from assay.core.stage import run
from assay.word import WORD


def main() -> None:
    Path("out.txt").write_text(WORD * read_yaml(Path("params.yaml"))["times"])


if __name__ == "__main__":
    run(main)
'''
PIPELINE = """\
stages:
  code:
    cmd: python -m assay.closure
    deps: [src/assay, requirements.lock]
    outs: [code: {cache: false}]
  greet:
    cmd: python -m assay.stages.greet
    params: [times]
    deps: [code/greet.json]
    outs: [out.txt]
"""


class Small:
    """A project of one stage, run by the real dvc."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "PYTHONPATH": str(folder / "src"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
        }

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command, options = [sys.executable, "-m", "dvc", *arguments], {"cwd": self.folder, "env": self.environment}
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)

    def repro(self, *arguments: str) -> str:
        done = self.dvc("repro", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That project, run once."""
    found = Small(tmp_path_factory.mktemp("small"))
    package = [
        f"src/assay/{name}.py"
        for name in ("closure", "core/dvc_links", "core/io", "core/params", "core/stage", "__init__")
    ]
    files = {name: (ROOT / name).read_text() for name in [*package, "src/assay/core/__init__.py"]} | {
        "src/assay/stages/__init__.py": "",
        "src/assay/stages/greet.py": STAGE,
        "src/assay/word.py": 'WORD = "good"\n',
        "requirements.lock": "tqdm==4.0\n",
        "params.yaml": "times: 1\n",
        "dvc.yaml": PIPELINE,
        ".dvcignore": "__pycache__/\n*.pyc\n",
        ".dvc/config": "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n",
    }
    for name, text in files.items():
        found.write(name, text)
    found.repro()
    assert found.read("out.txt") == "good"
    return found.folder


@pytest.fixture
def small(finished: Path, tmp_path: Path) -> Small:
    """A copy of it."""
    return Small(Path(shutil.copytree(finished, tmp_path / "small")))


def test_the_run_cache_cannot_be_poisoned(small: Small) -> None:
    """Code edited, parameter changed, ``repro -s`` (which skips ``code``), code reverted: no wrong result comes back."""
    small.write("src/assay/word.py", 'WORD = "bad"\n')
    small.write("params.yaml", "times: 2\n")
    refused = small.dvc("repro", "-s", "greet")
    assert refused.returncode != 0
    assert "greet: the code differs from code/greet.json: src/assay/word.py; run: dvc repro code" in refused.stderr
    small.write("src/assay/word.py", 'WORD = "good"\n')
    small.repro()
    assert small.read("out.txt") == "goodgood"
    small.write("src/assay/word.py", 'WORD = "bad"\n')
    small.repro("code")
    small.repro("-s", "greet")
    assert small.read("out.txt") == "badbad"


def test_a_docstring_reruns_the_code_stage_alone(small: Small) -> None:
    small.write("src/assay/word.py", '"""The word."""\n\n# It is said once.\nWORD = "good"\n')
    assert set(re.findall(r"Running stage '(\w+)'", small.repro())) == {"code"}


def test_another_version_of_a_package_is_refused(small: Small) -> None:
    small.write("src/assay/word.py", 'import numpy as np\n\nWORD = "good" * np.int64(1)\n')
    small.write("requirements.lock", "numpy==1.0\n")
    done = small.dvc("repro")
    assert done.returncode != 0
    assert re.search(r"greet: numpy [\d.]+ is installed, requirements.lock pins 1.0", done.stderr)
    told = json.loads(small.read("code/greet.json"))
    assert told["packages"] == {"numpy": "1.0"}
    small.write("code/greet.json", json.dumps(told | {"packages": {"no-such-package": "1.0"}}))
    done = small.dvc("repro", "-s", "greet")
    assert "greet: no-such-package is not installed, requirements.lock pins 1.0: make setup" in done.stderr


def test_what_is_imported_by_another_way_is_refused(small: Small) -> None:
    small.write("src/assay/hidden.py", 'VALUE = "good"\n')
    small.write("src/assay/word.py", 'import importlib\n\nWORD = importlib.import_module("assay.hidden").VALUE\n')
    done = small.dvc("repro")
    assert done.returncode != 0
    assert "src/assay/hidden.py" in done.stderr
