"""``assay counts``: questions in, one row per question out, with what could not be used as a row that says why."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from assay.counts.networks import device_of
from assay.counts.prediction import CountPredictor, load_predictor
from assay.io import atomic_path, read_json, write_csv, write_parquet

SUFFIXES = (".csv", ".jsonl", ".parquet")


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
    if path is None or path.suffix not in SUFFIXES:
        try:
            content = sys.stdin.read() if path is None else path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path or 'standard input'} can't be read as text: {error}") from error
        return pd.DataFrame({"text": content.splitlines(), "setting": None}, dtype=object)
    try:
        if path.suffix == ".csv":
            frame = pd.read_csv(path, dtype=object, keep_default_na=False)
        else:
            frame = pd.read_json(path, lines=True, dtype=False) if path.suffix == ".jsonl" else pd.read_parquet(path)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    if "text" not in frame:
        raise ValueError(f"{path} has no column text; it has {list(frame.columns)}")
    frame = frame.astype(object).where(frame.notna(), None)
    return frame.reindex(columns=["text", "setting"]).astype(object).where(lambda f: f.notna(), None)


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
    if output.suffix == ".csv":
        write_csv(output, rows)
    elif output.suffix == ".parquet":
        write_parquet(output, rows)
    else:
        with atomic_path(output) as temporary:
            rows.to_json(temporary, orient="records", lines=True, force_ascii=False)


def check_output(output: Path | None) -> None:
    """Refuse a file name before minutes of work.

    Raises:
        ValueError: another suffix than those that can be written.
    """
    if output is not None and output.suffix not in SUFFIXES:
        raise ValueError(f"output {output}: suffix {output.suffix!r} is not known; use {', '.join(SUFFIXES)}")


def open_predictor(models: Path, *, wanted: str | None, purpose: str, device: str) -> CountPredictor:
    """The chosen variant, ready to answer."""
    return load_predictor(pick_variant(models, wanted=wanted, purpose=purpose), device=device_of(device))
