"""prepare_vlm: roles by scene, conversations about each image, augmented copies, the processor, and a pre-flight check.

    python -m assay.stages.prepare_vlm

Output, in data/vlm/rows: {train,val,calib,tune,test}.jsonl and captions.jsonl (messages, images, sample_id, label, group,
transform), pictures (augmented copies), processor, prompt.json and rejected.csv; metrics/vlm_data.json and
plots/prepare_vlm/augmented.png.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from assay.core.io import write_csv, write_json
from assay.core.params import load
from assay.core.progress import progress
from assay.core.stage import run, timed
from assay.data.decode import decode_rgb
from assay.data.fetch.language_models import fetch_processor
from assay.data.roles import borrowed
from assay.data.tables import told
from assay.params.vlm import PrepareVlm, Vlm
from assay.report.plots import save_contact_sheet
from assay.vlm.copies import draw, move_boxes, transforms
from assay.vlm.messages import write_messages
from assay.vlm.preflight import check_conversations
from assay.vlm.processor import load_processor, save_small_processor
from assay.vlm.prompts import caption_conversations, conversations, high_prompt, risk_prompt
from assay.vlm.scoring import answer_tokens
from assay.vlm.splitting import check_classes, split, with_roles

SOURCE = Path("data/vlm/source")
OUTPUT = Path("data/vlm/rows")
PROCESSOR = OUTPUT / "processor"
METRICS = Path("metrics/vlm_data.json")
SHEET = Path("plots/prepare_vlm/augmented.png")


def known_rows(labels: tuple[str, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the source whose label is a class, and the others with the reason."""
    table = pd.read_parquet(SOURCE / "table.parquet")
    table["picture"] = [(SOURCE / picture).as_posix() for picture in table["picture"]]
    table["transform"] = "none"
    known = table["label"].isin(labels)
    rejected = table.loc[~known, ["sample_id", "name", "label"]].assign(reason="unknown_label")
    return table[known].reset_index(drop=True), rejected


def augmented(rows: pd.DataFrame, settings: PrepareVlm, *, max_pixels: int, seed: int) -> pd.DataFrame:
    """``copies`` of each training row, the transforms in turn, with their images written."""
    found, known = [], transforms(settings.augment)
    (OUTPUT / "pictures").mkdir(parents=True)
    for number, row in enumerate(progress(rows.to_dict("records"), name="augment", unit="image", total=len(rows))):
        image = decode_rgb(row["picture"], max_pixels=max_pixels)
        for copy in range(settings.augment.copies):
            transform = known[(number + copy) % len(known)]
            name = f"{row['sample_id']}-{transform}-{copy}"
            path = OUTPUT / "pictures" / f"{name}.png"
            rng = partial(np.random.default_rng, [seed, number, copy])
            changed = draw(image, transform, rng(), settings.augment)
            Image.fromarray(changed).save(path, compress_level=1)
            changes = {"sample_id": name, "picture": path.as_posix(), "transform": transform}
            if "danger" in row:
                boxes = move_boxes(json.loads(row["danger"]), transform, rng(), settings.augment, size=image.shape[:2])
                changes["danger"] = json.dumps(boxes)
            found.append(row | changes | {"original": row["picture"]})
    return pd.DataFrame(found, columns=[*rows.columns, "original"])


def save_sheet(
    rows: pd.DataFrame, copies: pd.DataFrame, names: dict[str, str], known: Sequence[str], *, max_pixels: int
) -> None:
    """A training image and its copy for each transform, a row per class; the image alone where there are no copies."""
    shown, titles = [], None
    for label in names:
        found = copies[copies["label"] == label].drop_duplicates("transform").sort_values("transform")
        pairs = found[["original", "picture"]].to_numpy().ravel()
        paths = list(pairs) if len(found) else list(rows.loc[rows["label"] == label, "picture"].head(1))
        shown.append([decode_rgb(path, max_pixels=max_pixels) for path in paths])
        if len(found) == len(known):
            titles = [title for transform in found["transform"] for title in ("original", transform)]
    title = "Training pictures and their augmented copies"
    save_contact_sheet(SHEET, shown, row_titles=list(names.values()), column_titles=titles, title=title)


def put_processor(settings: PrepareVlm, captions: list[dict[str, Any]]) -> Any:
    """Write the processor: the given one, or one over a vocabulary trained on everything that will be said."""
    if settings.processor != "config":
        fetch_processor(settings.processor, PROCESSOR, field="prepare_vlm.processor")
    else:
        prompts = risk_prompt(settings), high_prompt(settings)
        said = [text for record in captions for turn in record["messages"] for text in (turn["role"], turn["content"])]
        # As often as captions: what is asked each time should take few tokens.
        said += [prompt.question for prompt in prompts] * len(captions)
        answers = [answer for prompt in prompts for answer in prompt.answers]
        save_small_processor(PROCESSOR, said, answers=answers, vocab_size=settings.small.vocab_size)
    return load_processor(PROCESSOR, min_pixels=settings.min_pixels, max_pixels=settings.max_pixels)


def main() -> None:
    params = load(Vlm)
    settings, seed, max_pixels = params.prepare_vlm, params.runtime.data_seed, params.render_corridors.max_pixels
    prompt = risk_prompt(settings)
    with timed("prepare_vlm"):
        shutil.rmtree(OUTPUT, ignore_errors=True)
        table, rejected = known_rows(prompt.labels)
        # First, so that it is there to look into when the stage stops.
        write_csv(OUTPUT / "rejected.csv", rejected)
        names, donor = dict(zip(prompt.labels, prompt.names, strict=True)), settings.borrow_from
        roles = split(table, shares=settings.roles.model_dump(), donor=donor, seed=seed)
        unusable = pd.read_csv(SOURCE / "rejected.csv", keep_default_na=False)
        check_classes(table, roles, names, donor=donor, rejected=told(unusable))
        parts = {role: table[roles == role] for role in settings.roles.model_dump()}
        lent = borrowed(with_roles(table).assign(split=roles))
        copies = augmented(parts["train"], settings, max_pixels=max_pixels, seed=seed)
        records = {role: conversations(part, settings) for role, part in parts.items()}
        records["train"] += conversations(copies, settings)
        records["captions"] = caption_conversations(parts["train"], settings)
        processor = put_processor(settings, records["captions"])
        metrics, lines = check_conversations(processor, records, max_tokens=settings.max_tokens, max_pixels=max_pixels)
        for name, rows in records.items():
            write_messages(OUTPUT / f"{name}.jsonl", rows)
        write_json(OUTPUT / "prompt.json", {"risk": prompt.to_json(), "high": high_prompt(settings).to_json()})
        for role, part in parts.items():
            metrics[f"{role}.n"] = float(len(part))
            for label, name in names.items():
                metrics[f"{role}.{name}"] = float((part["label"] == label).sum())
        metrics |= {"augmented": float(len(copies)), "rejected": float(len(rejected) + len(unusable))}
        write_json(METRICS, metrics)
        save_sheet(parts["train"], copies, names, transforms(settings.augment), max_pixels=max_pixels)
    print(", ".join(f"{role} {len(part)}" for role, part in parts.items()), f"images, {len(copies)} augmented copies")
    print("\n".join([*([lent] if lent else []), *lines]))
    lengths = map(len, answer_tokens(processor.tokenizer, prompt.answers))
    print(f"tokens of each answer: {dict(zip(prompt.answers, lengths, strict=True))}")


if __name__ == "__main__":
    run(main)
