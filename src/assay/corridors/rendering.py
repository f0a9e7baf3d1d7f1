"""Images of scenes, drawn by miniworld without a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from assay.corridors.scenes import Scene

if TYPE_CHECKING:
    from assay.corridors.gl_world import SceneWorld

# libfreetype6 for a label that miniworld makes and never shows here.
PACKAGES = "libegl1 libgl1 libgl1-mesa-dri libglu1-mesa libfreetype6"
_BLANK = Scene("room", 4.0, 4.0, 2.6, "drywall_1", "concrete_3", "drywall_1", (), (1.0, 1.5, 0.0), 0.0, 0.0)


class Renderer:
    """Draws scenes at one size: `with Renderer((160, 120)) as renderer: pixels = renderer.render(scene)`.

    `size` is (width, height) in pixels; scenes are composed for 4 to 3. The same scene gives the same bytes, whatever
    was drawn before and in any process, on one machine with one driver; another driver may round otherwise.

    Raises:
        ValueError: a size that is not two whole numbers from 1.
        RuntimeError: on entry, where the system lacks OpenGL's libraries.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        if len(size) != 2 or any(not isinstance(side, int) or side < 1 for side in size):
            raise ValueError(f"size: got {size}; give (width, height) in pixels, whole numbers from 1")
        self.size = size
        self._world: SceneWorld | None = None

    def __enter__(self) -> Self:
        self._world = _open_world(self.size)
        return self

    def __exit__(self, *error: object) -> None:
        if self._world is not None:
            self._world.close()
            self._world = None

    def render(self, scene: Scene) -> np.ndarray:
        """The scene as its camera sees it, uint8 [height, width, 3]. RuntimeError outside the `with` block."""
        if self._world is None:
            raise RuntimeError("the renderer is closed; draw inside `with Renderer(size) as renderer:`")
        return self._world.show(scene)


def _open_world(size: tuple[int, int]) -> SceneWorld:
    """The environment that draws. Raises RuntimeError, with the packages to install, where OpenGL is missing."""
    import pyglet

    # Before anything of pyglet that looks for a screen. Its hidden window at import would fail in a class of error
    # that cannot be named before the import is done; gl_world opens one of its own.
    pyglet.options["headless"] = True
    pyglet.options["shadow_window"] = False
    try:
        from pyglet.window import WindowException
    except ImportError as error:
        raise _no_gl(error) from error
    try:
        from assay.corridors.gl_world import SceneWorld

        return SceneWorld(_BLANK, size)
    except (ImportError, WindowException) as error:
        raise _no_gl(error) from error


def _no_gl(error: Exception) -> RuntimeError:
    found = f"{type(error).__name__}: {error}"
    return RuntimeError(
        f"corridor images need OpenGL, which this system lacks ({found}); "
        f"on Debian install it: apt-get install {PACKAGES}"
    )
