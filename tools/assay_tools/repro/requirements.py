"""What stages need of the machine beyond the environment: said before anything runs, and the rest runs without them."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes.util import find_library
from pathlib import Path

from assay.core.params import PARAMS_FILE, read_yaml
from assay_tools.repro.graph import Stage

RENDERING = "render_corridors"
# What miniworld loads to draw without a screen: the library's name, and Debian's package.
LIBRARIES = {"EGL": "libegl1", "GL": "libgl1", "GLU": "libglu1-mesa", "freetype": "libfreetype6"}


def missing_libraries() -> list[str]:
    """Debian's packages whose libraries this machine lacks."""
    return [package for name, package in LIBRARIES.items() if find_library(name) is None]


def cannot_run(stages: Mapping[str, Stage], waiting: set[str], root: Path) -> dict[str, str]:
    """Stages among those ``waiting`` that can't run on this machine: name -> what is missing, and the command that helps."""
    if RENDERING not in waiting:
        return {}
    source = read_yaml(root / PARAMS_FILE).get(RENDERING, {}).get("source")
    missing = missing_libraries() if source == "render" else []
    if not missing:
        return {}
    return {RENDERING: f"OpenGL without a screen is missing ({', '.join(missing)}): make system, as root, installs it"}
