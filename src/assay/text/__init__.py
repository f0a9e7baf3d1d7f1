"""Which class is this text? An own encoder, fine-tuned, pooled with a linear model and calibrated.

    import assay.text

    classifier = assay.text.load("models/text/classifier")
    classifier.predict("房间很干净")              # label, confidence, probs, truncated
    classifier.batch_predict(["好", "不好"])      # a table, one row per text

``load`` is ``assay.text.command.open_classifier``, imported when it is first asked for: this package itself stays light.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.text.prediction import TextPredictor

__all__ = ["load"]


def load(folder: str | Path = "models/text/classifier", *, device: str = "cpu", verify: bool = True) -> TextPredictor:
    """The classifier that pool_text left in ``folder``; its files are compared with SHA256SUMS if ``verify``.

    Raises:
        ValueError: files missing or not fitting each other.
    """
    # By name, so that a stage that imports a sibling module does not count this one among its deps.
    found: Any = import_module("assay.text.command").open_classifier(Path(folder), device=device, verify=verify)
    return found  # type: ignore[no-any-return]
