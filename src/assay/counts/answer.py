"""``assay counts``: questions in, one row per question out, with what could not be used as a row that says why."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from assay.counts.networks import device_of
from assay.counts.prediction import CountPredictor, load_predictor
from assay.counts.table import READ_ERRORS, READERS, read_frame
from assay.io import atomic_path, read_json, write_csv, write_parquet


def pick_variant(models: Path, *, wanted: str | None, purpose: str) -> Path:
    """Folder of the variant asked for, or of the one that evaluate_counts chose for ``purpose`` (count or bin).

    Raises:
        ValueError: not trained.
    """
    choice = models / "choice.json"
    if wanted is None and not choice.is_file():
        raise ValueError(f"no {choice}: run dvc repro evaluate_counts, or name a variant by --variant")
    name = wanted or str(read_json(choice)[purpose])
    if not (models / name / "variant.json").is_file():
        trained = sorted(path.parent.name for path in models.glob("*/variant.json"))
        raise ValueError(f"variant {name!r} is not trained in {models}; trained: {', '.join(trained) or 'none'}")
    return models / name


def read_questions(path: Path | None) -> pd.DataFrame:
    """Columns text and setting of a table, or of a text file (None: standard input) with one question per line.

    Raises:
        ValueError: no such file, unreadable, or without a column text.
    """
    if path is None or path.suffix not in READERS:
        try:
            content = sys.stdin.read() if path is None else path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path or 'standard input'} can't be read as text: {error}") from error
        return pd.DataFrame({"text": content.splitlines(), "setting": None}, dtype=object)
    try:
        frame = read_frame(path)
    except READ_ERRORS as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    if "text" not in frame:
        raise ValueError(f"{path} has no column text; it has {list(frame.columns)}")
    return frame.assign(setting=frame.get("setting"))[["text", "setting"]].astype(object)


def answer(predictor: CountPredictor, questions: pd.DataFrame, *, setting: str | None) -> pd.DataFrame:
    """One row per question, in order: what ``CountPredictor.predict`` gives, then status (ok, error) and reason.

    ``setting`` stands in for a question's own where that is missing.
    """
    usable = questions["text"].map(lambda text: isinstance(text, str) and bool(text.strip()))
    own = questions["setting"].where(questions["setting"].notna(), setting)
    parts = []
    for value, rows in questions[usable].groupby(own[usable].fillna(""), sort=False):
        frame = predictor.predict(list(rows["text"]), setting=str(value) or None)
        parts.append(frame.set_index(rows.index))
    good = pd.concat(parts) if parts else pd.DataFrame(columns=["text"])
    found = good.reindex(questions.index)
    found["text"] = questions["text"]
    found["status"] = usable.map({True: "ok", False: "error"})
    found["reason"] = usable.map({True: "", False: "empty or no text"})
    whole = {name: "Int64" for name in ("bin", "low", "high") if name in found}
    return found.astype(whole | ({"truncated": "boolean"} if "truncated" in found else {}))


def sentences(rows: pd.DataFrame, *, variant: str) -> list[str]:
    """The rows in words, for a terminal."""
    lines = []
    for row in rows.to_dict("records"):
        if row["status"] == "error":
            lines.append(f"error: {row['reason']}")
            continue
        probs = [f"{row[name]:.2f}" for name in rows.columns if str(name).startswith("p_")]
        shown = f", probabilities by bin {' '.join(probs)}" if probs else ""
        cut = ", text truncated" if row["truncated"] else ""
        lines.append(
            f"{row['count']:.1f} units, bin {row['bin']} ({row['low']}-{row['high']}) by {variant}{shown}{cut}"
        )
    return lines


def write_answers(rows: pd.DataFrame, output: Path) -> None:
    """Write the rows as CSV, JSON lines or parquet, by suffix; whole or not at all."""
    suffix = output.suffix.lower()
    if suffix == ".csv":
        write_csv(output, rows)
    elif suffix == ".parquet":
        write_parquet(output, rows)
    else:
        with atomic_path(output) as temporary:
            rows.to_json(temporary, orient="records", lines=True, force_ascii=False)


def open_predictor(models: Path, *, wanted: str | None, purpose: str, device: str) -> CountPredictor:
    """The chosen variant, ready to answer."""
    return load_predictor(pick_variant(models, wanted=wanted, purpose=purpose), device=device_of(device))
