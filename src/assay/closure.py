"""code: what each stage runs, as data: digests of the project's modules and versions of the packages that decide a result.

    python -m assay.closure

DVC follows no imports. This stage does, and writes ``code/<stage>.json`` for every module of ``assay.stages``; each stage
depends on its own file and on no source file. So a comment, a docstring or a module that a stage does not import reruns
nothing, and an edit that counts reruns the stages that import it. docs/gates.md says what counts.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from assay.core.io import atomic_path

PACKAGE, STAGES = "assay", "assay.stages"
OUTPUT = Path("code")
LOCK = Path("requirements.lock")
# Around a stage's work, not of it. The values of its parameters stand under `params:` of dvc.yaml.
HARNESS = ("assay.params", "assay.closure", "assay.core.params", "assay.core.progress", "assay.core.stage")
# They hold a version, how OpenMP's threads wait, and a setting of Python's garbage collector.
PACKAGES = ("assay", "assay.stages")
# Top-level names of packages whose version can change a stage's result, and the names under which they are distributed.
DECISIVE = {
    "PIL": "pillow",
    "accelerate": "accelerate",
    "coral_pytorch": "coral-pytorch",
    "cv2": "opencv-python-headless",
    "datasketch": "datasketch",
    "faiss": "faiss-cpu",
    "gguf": "gguf",
    "imagehash": "imagehash",
    "jieba": "jieba",
    "lightgbm": "lightgbm",
    "matplotlib": "matplotlib",
    "miniworld": "miniworld",
    "numpy": "numpy",
    "pandas": "pandas",
    "patchmatch": "pypatchmatch",
    "peft": "peft",
    "pillow_heif": "pillow-heif",
    "pyarrow": "pyarrow",
    "pyglet": "pyglet",
    "pyjpegxl": "pyjpegxl",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "timm": "timm",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "torchvision": "torchvision",
    "transformers": "transformers",
}
# The others that the package imports: they fetch, check, print or measure, and what they hand over is checked elsewhere.
NEUTRAL = {
    *("annotated_types", "cycler", "dvc", "dvclive", "huggingface_hub", "jinja2", "markdown_it", "networkx"),
    *("omegaconf", "packaging", "psutil", "pydantic", "pypi_simple", "requests", "rich", "ruamel", "scmrepo"),
    *("threadpoolctl", "tqdm"),
}
# pandas imports it only where a table is written, and asks for it only as an extra.
BROUGHT = {"pandas": ("pyarrow",)}


def module_path(name: str, *, src: Path) -> Path | None:
    """The file of a dotted module name of this project, or None if it names no file (an attribute, say)."""
    base = src.joinpath(*name.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


class _Reader:
    """Writes a syntax tree as text, without positions and what has no effect, and collects the imports on the way.

    Left out are docstrings, imports for type checkers alone, and empty fields: new Python versions add such fields.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.imports: set[str] = set()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        self.text = self._text(tree)
        self.is_empty = all(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)

    def _text(self, value: Any) -> str:
        if isinstance(value, list):
            return ",".join(map(self._text, value))
        if not isinstance(value, ast.AST):
            return repr(value)
        if isinstance(value, ast.If) and ast.unparse(value.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            return ""
        if isinstance(value, ast.Import | ast.ImportFrom):
            self._collect(value)
        if isinstance(value, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = value.body[0] if value.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                value.body = value.body[1:]
        fields = [f"{name}=[{self._text(field)}]" for name, field in ast.iter_fields(value) if field not in (None, [])]
        return f"{type(value).__name__}({';'.join(fields)})"

    def _collect(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            self.imports.update(alias.name for alias in node.names)
        elif node.level:
            raise ValueError(
                f"{self.path}: relative import in line {node.lineno}; import from {PACKAGE} by its full name"
            )
        elif node.module:
            self.imports.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])


@cache
def _parsed(path: Path, modified_ns: int) -> tuple[str, frozenset[str], frozenset[str]]:
    reader = _Reader(path)
    own = frozenset(name for name in reader.imports if name.split(".")[0] == PACKAGE)
    others = frozenset(name.split(".")[0] for name in reader.imports - own) - sys.stdlib_module_names
    return "" if reader.is_empty else hashlib.sha256(reader.text.encode()).hexdigest()[:16], own, others


def parsed(path: Path) -> tuple[str, frozenset[str], frozenset[str]]:
    """Digest of a file's syntax tree, and the dotted names of this project and the other packages that it imports.

    Imports inside functions count; docstrings, comments and what stands under ``if TYPE_CHECKING:`` do not. The digest is
    "" where nothing is left. ``from a import b`` gives both ``a`` and ``a.b``.

    Raises:
        ValueError: a relative import.
    """
    return _parsed(path, path.stat().st_mtime_ns)


def is_harness(module: str) -> bool:
    """Whether a module stands around the stages' work and is not counted as their code."""
    return module in PACKAGES or any(module == name or module.startswith(f"{name}.") for name in HARNESS)


def _with_packages(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def import_closure(module: str, *, src: Path = Path("src"), with_harness: bool = False) -> dict[str, Path]:
    """The modules of this project that running ``module`` can touch, empty files apart: name -> file.

    The harness, and what it alone imports, is left out unless it is asked for.

    Raises:
        ValueError: no such module.
    """
    if module_path(module, src=src) is None:
        raise ValueError(f"no module {module} under {src}")
    found: dict[str, Path] = {}
    seen: set[str] = set()
    waiting = list(_with_packages(module))
    while waiting:
        name = waiting.pop()
        path = module_path(name, src=src)
        if name in seen or path is None or (is_harness(name) and not with_harness):
            continue
        seen.add(name)
        digest, own, _ = parsed(path)
        if digest:
            found[name] = path
        waiting.extend(parent for other in own for parent in _with_packages(other))
    return found


def locked_versions(path: Path = LOCK) -> dict[str, str]:
    """Distribution -> version that the lock file pins for this interpreter and system, without a build's local part.

    Raises:
        ValueError: a line that is not ``name==version``, with a marker or without.
    """
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        # Lines of hashes follow a pin, whose own line then ends in a backslash.
        text = line.split("#")[0].rstrip(" \\").lstrip()
        if not text or text.startswith("-"):
            continue
        requirement = Requirement(text)
        (pin,) = requirement.specifier if len(requirement.specifier) == 1 else (None,)
        if pin is None or pin.operator != "==":
            raise ValueError(f"{path}: {text!r} pins no version; write name==version")
        if requirement.marker is None or requirement.marker.evaluate():
            found[canonicalize_name(requirement.name)] = Version(pin.version).public
    return found


@cache
def _needed(distribution: str) -> frozenset[str]:
    """Decisive distributions that this one asks for, extras apart."""
    try:
        lines = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return frozenset()
    asked = (Requirement(line) for line in lines)
    names = {canonicalize_name(one.name) for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})}
    return frozenset(names & set(DECISIVE.values()))


def decisive_packages(modules: dict[str, Path]) -> set[str]:
    """The distributions that decide what these modules compute: those they import, and what those need that matters."""
    waiting = [DECISIVE[name] for path in modules.values() for name in parsed(path)[2] if name in DECISIVE]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [*_needed(name), *BROUGHT.get(name, ())]
    return found


def stage_code(stage: str, *, root: Path = Path()) -> dict[str, Any]:
    """The content of ``code/<stage>.json``: digests of modules by file name below src, versions of packages.

    Raises:
        ValueError: no such stage, or a decisive package that the lock file does not pin.
    """
    src, locked = root / "src", locked_versions(root / LOCK)
    modules = import_closure(f"{STAGES}.{stage}", src=src)
    packages = sorted(decisive_packages(modules))
    missing = [name for name in packages if name not in locked]
    if missing:
        raise ValueError(f"{LOCK} pins no version of {', '.join(missing)}, which stage {stage} runs: make lock")
    return {
        "modules": {path.relative_to(src).as_posix(): parsed(path)[0] for _, path in sorted(modules.items())},
        "packages": {name: locked[name] for name in packages},
    }


def code_text(stage: str, *, root: Path = Path()) -> str:
    """``stage_code`` as it is written."""
    return json.dumps(stage_code(stage, root=root), indent=1, sort_keys=True) + "\n"


def stage_names(root: Path = Path()) -> list[str]:
    """Every module of ``assay.stages``."""
    folder = root.joinpath("src", *STAGES.split("."))
    return sorted(path.stem for path in folder.glob("*.py") if path.name != "__init__.py")


def check_code(stage: str, *, root: Path) -> None:
    """Refuse to run a stage whose code is not what ``code/<stage>.json`` says.

    ``dvc repro -s`` skips the stage ``code``: then a result would be recorded, in dvc.lock and in the run-cache, under the
    digests of other code, and be taken for that code's result later.

    Args:
        stage: its module's name.
        root: the project that the stage runs for.

    Raises:
        ValueError: naming the files and packages that differ and the command that mends it.
    """
    path = root / OUTPUT / f"{stage}.json"
    mend = "run: dvc repro code"
    if not path.is_file():
        raise ValueError(f"{path.relative_to(root)} is missing; {mend}")
    told = json.loads(path.read_text(encoding="utf-8"))
    source = Path(__file__).parents[1]
    # An experiment in a folder of its own (dvc exp run --temp) imports the package that is installed; equal code will do.
    elsewhere = "" if source.resolve() == (root / "src").resolve() else f"; the code that runs lies in {source}"
    real = import_closure(f"{STAGES}.{stage}", src=source)
    # What was imported by another way than a statement (importlib, say).
    foreseen = import_closure(f"{STAGES}.{stage}", src=source, with_harness=True)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name.split(".")[0] == PACKAGE and name not in foreseen and parsed(Path(file))[0]:
            real[name] = Path(file)
    digests = {path.relative_to(source).as_posix(): parsed(path)[0] for path in real.values()}
    listed: dict[str, str] = told["modules"]
    names = sorted(digests.keys() | listed.keys())
    differing = [f"src/{name}" for name in names if digests.get(name) != listed.get(name)]
    if differing:
        raise ValueError(f"the code differs from {path.relative_to(root)}: {', '.join(differing)}; {mend}{elsewhere}")
    for name, version in told["packages"].items():
        try:
            installed = Version(metadata.version(name)).public
        except metadata.PackageNotFoundError:  # some are imported only for the files that need them
            installed = ""
        if installed != version:
            said = f"{name} {installed} is installed" if installed else f"{name} is not installed"
            raise ValueError(f"{said}, {LOCK} pins {version}: make setup, or make lock and {mend}")


def main() -> None:
    """Write a file per stage."""
    OUTPUT.mkdir(exist_ok=True)
    names = stage_names()
    for path in OUTPUT.glob("*.json"):
        if path.stem not in names:
            path.unlink()
    for name in names:
        with atomic_path(OUTPUT / f"{name}.json") as temporary:
            temporary.write_text(code_text(name), encoding="utf-8")
    print(f"{len(names)} stages in {OUTPUT}/")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, SyntaxError) as error:
        sys.exit(f"code: {error}")
