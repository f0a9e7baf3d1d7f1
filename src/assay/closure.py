"""Which project files a module runs: DVC does not follow imports, so every stage's ``deps`` must name them.

Imports are read from the source (``ast``), also those inside functions, so nothing is imported to find out. Imports
under ``if TYPE_CHECKING:`` run nothing and are left out.
"""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = "assay"


def module_path(name: str, *, src: Path) -> Path | None:
    """The file of a dotted module name of this project, or None if it names no file (an attribute, say)."""
    base = src.joinpath(*name.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imported_names(path: Path) -> set[str]:
    """Dotted names of this project that a file imports; ``from a import b`` gives both ``a`` and ``a.b``."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.stmt) and _is_type_checking(node):
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise ValueError(f"{path}: relative import in line {node.lineno}; import from {PACKAGE} by its full name")
        waiting.extend(ast.iter_child_nodes(node))
    return {name for name in names if name.split(".")[0] == PACKAGE}


def import_closure(module: str, *, src: Path = Path("src")) -> set[Path]:
    """Every file of this project that importing and running ``module`` can touch.

    Empty ``__init__`` files run nothing and are left out, so that a stage's deps stay short.

    Raises:
        ValueError: no such module.
    """
    start = module_path(module, src=src)
    if start is None:
        raise ValueError(f"no module {module} under {src}")
    found: set[Path] = set()
    parts = module.split(".")
    packages = [module_path(".".join(parts[:length]), src=src) for length in range(1, len(parts))]
    waiting = [start, *filter(None, packages)]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in imported_names(path):
            parts = name.split(".")
            for length in range(1, len(parts) + 1):
                target = module_path(".".join(parts[:length]), src=src)
                if target is not None:
                    waiting.append(target)
    return {path for path in found if path.name != "__init__.py" or path.read_text(encoding="utf-8").strip()}
