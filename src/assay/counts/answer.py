"""``assay counts``: questions in, one row per question out, with what could not be used as a row that says why."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from assay.core.io import inside, read_json
from assay.core.torch_setup import pick_device
from assay.counts.conformal import intervals_from_json
from assay.counts.prediction import CountPredictor, load_predictor
from assay.counts.question import full_text, text_problem
from assay.data.path_text import plain_text
from assay.shipped.opening import Opening, patterns_of

CHOICE, INTERVALS = "choice.json", "intervals.json"
WHOLE = ("bin", "low", "high", "interval_low", "interval_high")


def pick_variant(models: Path, *, wanted: str | None, purpose: str) -> Path:
    """Folder of the variant asked for, or of the one that evaluate_counts chose for ``purpose`` (count or bin).

    Raises:
        ValueError: not trained, or no name of a folder.
    """
    choice = models / CHOICE
    if wanted is None and not choice.is_file():
        raise ValueError(f"no {choice}: run dvc repro evaluate_counts, or name a variant by --variant")
    name = wanted or str(read_json(choice)[purpose])
    if Path(name).name != name:
        # Of a folder elsewhere other files would be compared with SHA256SUMS than are read.
        raise ValueError(f"variant {name!r}: give the name of a folder in {models}, no path")
    folder = inside(models, name)
    if not (folder / "variant.json").is_file():
        trained = sorted(path.parent.name for path in models.glob("*/variant.json"))
        raise ValueError(f"variant {name!r} is not trained in {models}; trained: {', '.join(trained) or 'none'}")
    return folder


def answer(predictor: CountPredictor, questions: pd.DataFrame, *, setting: str | None) -> pd.DataFrame:
    """One row per question, in order: what ``CountPredictor.predict`` gives, then status (ok, error) and reason.

    ``setting`` stands in for a question's own where that is missing.
    """
    own = questions["setting"].where(questions["setting"].notna(), setting).fillna("")
    problems = [
        text_problem(text) or text_problem(full_text(text, value))
        for text, value in zip(questions["text"], own, strict=True)
    ]
    usable = pd.Series([problem is None for problem in problems], index=questions.index, dtype=bool)
    parts = []
    for value, rows in questions[usable].groupby(own[usable], sort=False):
        frame = predictor.predict(list(rows["text"]), setting=str(value) or None)
        parts.append(frame.set_index(rows.index))
    good = pd.concat(parts) if parts else pd.DataFrame(columns=["text"])
    found = good.reindex(questions.index)
    found["text"] = questions["text"].map(lambda text: plain_text(text) if isinstance(text, str) else text)
    found["status"] = usable.map({True: "ok", False: "error"})
    found["reason"] = [": ".join(filter(None, problem)) if problem else "" for problem in problems]
    whole = {name: "Int64" for name in WHOLE if name in found}
    return found.astype(whole | ({"truncated": "boolean"} if "truncated" in found else {}))


def sentences(rows: pd.DataFrame, *, variant: str, level: float) -> list[str]:
    """The rows in words, for a terminal; ``level`` is the share of counts that their intervals are to hold."""
    lines = []
    for row in rows.to_dict("records"):
        if row["status"] == "error":
            lines.append(f"error: {row['reason']}")
            continue
        probs = [f"{row[name]:.2f}" for name in rows.columns if str(name).startswith("p_")]
        shown = f", probabilities by bin {' '.join(probs)}" if probs else ""
        if pd.notna(row["interval_low"]):
            shown = f", {level:.0%} interval {row['interval_low']}-{row['interval_high']}{shown}"
        cut = ", text truncated" if row["truncated"] else ""
        lines.append(
            f"{row['count']:.1f} units, bin {row['bin']} ({row['low']}-{row['high']}) by {variant}{shown}{cut}"
        )
    return lines


def open_predictor(
    models: Path, *, wanted: str | None, purpose: str, device: str, verify: bool = True
) -> CountPredictor:
    """The chosen variant, ready to answer; its files are compared with SHA256SUMS if ``verify``.

    Raises:
        ValueError: something is missing, damaged or does not belong together: what, and the command that makes it.
    """
    with Opening(models, "evaluate_counts", verify) as opening:
        if wanted is None and (models / CHOICE).is_file():
            opening.check(CHOICE)
        folder = pick_variant(models, wanted=wanted, purpose=purpose)
        opening.check(*patterns_of([folder.name]), INTERVALS)
        records = read_json(models / INTERVALS)["variants"] if (models / INTERVALS).is_file() else {}
        intervals = intervals_from_json(records[folder.name]) if folder.name in records else None
        return load_predictor(folder, device=pick_device(device).type, intervals=intervals)
