"""The cascade: a fast filter that lets the sure ones go, and an ensemble behind it for the rest.

    import assay.images.cascade

    cascade = assay.images.cascade.load("models")
    table = cascade.predict(images)    # uint8 RGB arrays [H, W, 3] -> verdict, probability, decided_by, warning

``load`` is ``assay.images.cascade.model.load``, imported when it is first asked for: this package itself stays light. Files,
folders and lists are judged by ``assay predict`` (docs/predict.md).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.images.cascade.model import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        # By name, so that a stage that imports a sibling module does not count this one among its deps.
        return import_module("assay.images.cascade.model").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
