"""miniworld's environment for one scene at a time, and shapes it does not have. Importing this needs OpenGL."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
from collections.abc import Sequence
from pathlib import Path

import miniworld
import numpy as np
import pyglet
from miniworld.entity import Entity, MeshEnt
from miniworld.miniworld import MiniWorldEnv
from miniworld.opengl import Texture
from miniworld.params import DEFAULT_PARAMS
from PIL import Image
from pyglet import gl
from pyglet.window import Window

from assay.corridors.scenes import MESHES, Scene
from assay.corridors.shapes import Face, faces_of
from assay.corridors.signs import SIGNS, sign_image

_TEXTURES = Path(miniworld.__file__).parent / "textures"
_MESH_FILES = {"chair": "office_chair", "desk": "office_desk", "pine": "tree_pine"}
SIGN_SIDE = 128


@functools.cache
def texture(stem: str) -> Texture:
    """The texture of one file, or of a sign that code draws, known to miniworld by its stem.

    By itself miniworld knows families of files, only those that end in _1, and takes seconds to turn RGB into RGBA.
    """
    path = str(_TEXTURES / f"{stem}.png")
    if stem in SIGNS:
        image = Image.fromarray(sign_image(stem, side=SIGN_SIDE))
    else:
        with Image.open(path) as file:
            image = file.convert("RGB")
    # OpenGL's first row is the lowest.
    pixels = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    identity = gl.GLuint()
    gl.glGenTextures(1, ctypes.byref(identity))
    gl.glBindTexture(gl.GL_TEXTURE_2D, identity)
    gl.glPixelStorei(gl.GL_UNPACK_ALIGNMENT, 1)
    shape = (gl.GL_RGB, *pixels.size, 0, gl.GL_RGB)
    gl.glTexImage2D(gl.GL_TEXTURE_2D, 0, *shape, gl.GL_UNSIGNED_BYTE, pixels.tobytes())
    gl.glGenerateMipmap(gl.GL_TEXTURE_2D)
    gl.glTexParameteri(gl.GL_TEXTURE_2D, gl.GL_TEXTURE_MAG_FILTER, gl.GL_LINEAR)
    gl.glTexParameteri(gl.GL_TEXTURE_2D, gl.GL_TEXTURE_MIN_FILTER, gl.GL_LINEAR_MIPMAP_LINEAR)
    loaded = Texture(pyglet.image.Texture(*pixels.size, gl.GL_TEXTURE_2D, identity.value), stem)
    Texture.tex_paths[stem] = [path]
    Texture.tex_cache[path] = loaded
    return loaded


class Shape(Entity):
    """Polygons drawn as they are, without culling."""

    def __init__(self, faces: Sequence[Face]) -> None:
        super().__init__()
        self.faces = faces
        self.textures = [texture(face.texture) if face.texture else None for face in faces]

    @property
    def is_static(self) -> bool:
        return False

    def render(self) -> None:
        gl.glDisable(gl.GL_CULL_FACE)
        # What lies on a floor or wall wins over it, near and far; miniworld's depth buffer has 16 bits only.
        gl.glPolygonOffset(-2.0, -4.0)
        for face, image in zip(self.faces, self.textures, strict=True):
            (gl.glEnable if face.flush else gl.glDisable)(gl.GL_POLYGON_OFFSET_FILL)
            (gl.glEnable if face.lit else gl.glDisable)(gl.GL_LIGHTING)
            if image is None:
                gl.glDisable(gl.GL_TEXTURE_2D)
            else:
                gl.glEnable(gl.GL_TEXTURE_2D)
                image.bind()
            gl.glBegin(gl.GL_POLYGON)
            gl.glNormal3f(*face.normal)
            for vertex, spot, colour in zip(face.vertices, face.spots, face.colours, strict=True):
                gl.glColor3f(*colour)
                gl.glTexCoord2f(*spot)
                gl.glVertex3f(*vertex)
            gl.glEnd()
        gl.glDisable(gl.GL_POLYGON_OFFSET_FILL)
        gl.glEnable(gl.GL_LIGHTING)
        gl.glEnable(gl.GL_CULL_FACE)
        gl.glDisable(gl.GL_TEXTURE_2D)


@functools.cache
def _keeper() -> Window:
    """A hidden window that stays open: miniworld keeps textures and meshes for ever, and new windows share its."""
    return Window(width=1, height=1, visible=False)


class SceneWorld(MiniWorldEnv):
    """An environment that shows whatever scene is given to `show`; made once, since making one takes a second."""

    def __init__(self, first: Scene, size: tuple[int, int]) -> None:
        self.scene = first
        _keeper().switch_to()
        # miniworld prints when the driver has fewer samples a pixel than it asks for.
        with contextlib.redirect_stdout(io.StringIO()):
            width, height = size
            super().__init__(obs_width=width, obs_height=height, window_width=width, window_height=height)

    def show(self, scene: Scene) -> np.ndarray:
        """The scene as its camera sees it, uint8 [H, W, 3]."""
        # miniworld switches only after it has compiled the scene, which would go to another renderer's window.
        self.shadow_window.switch_to()
        self.scene = scene
        self.params = _parameters(scene)
        # The seed is unused, every value being given, but without one gymnasium would draw it from the system.
        image, _ = self.reset(seed=0)
        return image.copy()

    def _gen_world(self) -> None:
        scene = self.scene
        for stem in (scene.wall, scene.floor, scene.ceiling or scene.wall):
            texture(stem)
        half = scene.width / 2
        self.add_rect_room(
            0,
            scene.length,
            -half,
            half,
            wall_height=scene.height,
            wall_tex=scene.wall,
            floor_tex=scene.floor,
            ceil_tex=scene.ceiling or scene.wall,
            no_ceiling=not scene.ceiling,
        )
        for thing in scene.things:
            if thing.kind in MESHES:
                # Balls have a file for each colour.
                file = f"ball_{thing.look}" if thing.kind == "ball" else _MESH_FILES.get(thing.kind, thing.kind)
                mesh = MeshEnt(file, height=thing.height, static=False)
                self.place_entity(mesh, pos=np.array([thing.x, 0.0, thing.z]), dir=thing.direction)
            else:
                self.place_entity(Shape(faces_of(scene, thing)), pos=np.zeros(3), dir=0.0)
        self.place_agent(pos=np.array([scene.camera[0], 0.0, scene.camera[2]]), dir=scene.heading)

    def close(self) -> None:
        super().close()
        self.shadow_window.close()
        _keeper().switch_to()


def _parameters(scene: Scene) -> object:
    """miniworld's parameters with the scene's light and camera, nothing random."""
    parameters = DEFAULT_PARAMS.no_random()
    parameters.set("sky_color", list(scene.sky))
    parameters.set("light_pos", list(scene.light))
    parameters.set("light_color", list(scene.brightness))
    parameters.set("light_ambient", list(scene.ambient))
    parameters.set("cam_height", scene.camera[1])
    parameters.set("cam_pitch", scene.pitch)
    return parameters
