"""score_stage1: what stage 1 says of every role but train, and what the test role is compared with.

    python -m assay.stages.score_stage1

Output, in data/stage1: scores_<role>.parquet (sample_id, label, group_id, generator, logit, distance) of val, calib,
tune, test, and test_extra: baselines.parquet (probabilities), robustness.parquet (logits of degraded images),
drawings.parquet (pictures that are no photographs), filters.parquet (logits of the plain and the distilled filter, of
which one is stage 1), external.parquet, external_audit.parquet (what tells their halves apart without a look at traces)
and external_rejected.csv (sets that no other stage has seen). In models/stage1: seen.safetensors, from which a distance
is measured: where the embeddings of the train role lie. The stages behind it run no network, so that they take seconds.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from assay.core.io import read_json, write_csv, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.images.audit import AUDITED, shortcut_words
from assay.images.manifest import read_manifest
from assay.images.model import FILTERS
from assay.images.model.dataset import PictureSet
from assay.images.model.prediction import Predictor, load_predictor
from assay.images.model.store import PixelStore, open_store
from assay.images.scoring import (
    KEYS,
    SAME_OPERATION,
    SCORES,
    baseline_probs,
    degraded_logits,
    external_set,
    score_drawings,
    score_rows,
    seen_pictures,
)
from assay.images.seen import SeenPictures
from assay.images.slices import family_slices
from assay.images.sources import GENERATED
from assay.images.unlike import Seen, save_seen
from assay.params.images import Images

DATA = Path("data/processed")
MODEL = Path("models/stage1")
TRAINED = Path("models/filters")
OUTPUT = Path("data/stage1")
EXTRA = OUTPUT / "test_extra"
ROLES = ("val", "calib", "tune", "test")


def score_filters(scores: pd.DataFrame, store: PixelStore, *, device: str) -> pd.DataFrame:
    """Logits of both filters for rows that stage 1 has scored: sample_id and a column for each of `FILTERS`."""
    shipped = read_json(MODEL / "model.json")["filter"]
    columns: dict[str, Any] = {}
    for name in FILTERS:
        if name == shipped:
            columns[name] = scores["logit"]
            continue
        other = load_predictor(TRAINED / name, device=device)
        columns[name] = other.logits(PictureSet(store, scores, image_size=other.image_size), name=f"{name} on test")
    return scores[["sample_id"]].assign(**columns)


def score_external(
    predictor: Predictor, manifests: dict[str, pd.DataFrame], store: PixelStore, params: Images, *, seen: Seen
) -> None:
    """Score the sets of ``evaluate.external``; that of the stage forge is left out where it is empty, and told so."""
    scores, rejected, audits = [pd.DataFrame(columns=["dataset", *KEYS, *SCORES])], [], []
    items = list(params.evaluate.external)
    for item in items.copy():
        if Path(item.path) == GENERATED and pd.read_csv(GENERATED).empty:
            print(f"external set {item.name}: no generated picture was fetched (fetch_photos), nothing to score")
            items.remove(item)
    # To hash every prepared picture takes a while: only where there is something to compare.
    known = manifests.values() if items else [manifests["test"].head(0)]
    options: dict[str, Any] = {"settings": params.prepare, "workers": params.runtime.workers, "seen": seen}
    options |= {"limits": params.limits, "seed": params.runtime.seed}
    options["prepared"] = SeenPictures.of(known, store, settings=params.prepare)
    for item in items:
        found = external_set(predictor, item, **options)
        scores.append(found[0])
        rejected.append(found[1])
        audits.append({"dataset": item.name, **found[2]})
        limit = params.prepare.audit.max_auc
        told = {name.removesuffix("_auc"): auc for name, auc in found[2].items()}
        for message in shortcut_words(told, found[0], max_auc=limit).values():
            warnings.warn(f"external set {item.name}: {message}", stacklevel=2)
    write_parquet(EXTRA / "external.parquet", pd.concat(scores[1:] or scores, ignore_index=True))
    write_parquet(EXTRA / "external_audit.parquet", pd.DataFrame(audits, columns=["dataset", *AUDITED]))
    if rejected:
        write_csv(EXTRA / "external_rejected.csv", pd.concat(rejected, ignore_index=True))


def main() -> None:
    params = load(Images)
    seed, robustness = params.runtime.seed, params.evaluate.robustness
    set_up_torch(threads=params.runtime.threads)
    with timed("score_stage1"):
        predictor, store = load_predictor(MODEL, device=params.runtime.device), open_store(DATA)
        manifests = {role: read_manifest(DATA, role) for role in ("train", *ROLES)}
        known = seen_pictures(predictor, manifests["train"], store, seed=seed)
        save_seen(MODEL, known)
        for role in ROLES:
            scores = score_rows(predictor, manifests[role], store, seen=known, name=role)
            write_parquet(OUTPUT / f"scores_{role}.parquet", scores)
            if role == "test":
                write_parquet(EXTRA / "filters.parquet", score_filters(scores, store, device=params.runtime.device))
        train, test = manifests["train"], manifests["test"]
        slices = family_slices(test["label"].to_numpy(), test["generator"].to_numpy(), seen=set(train["generator"]))
        seen = test[slices["test"]]
        write_parquet(EXTRA / "baselines.parquet", baseline_probs(train, seen, store, seed=seed))
        others = seen[seen["generator"] != SAME_OPERATION]
        sample = others.sample(min(len(others), robustness.max_samples), random_state=seed).sort_index()
        degraded = degraded_logits(predictor, sample, store, settings=robustness)
        write_parquet(EXTRA / "robustness.parquet", degraded)
        write_parquet(EXTRA / "drawings.parquet", score_drawings(predictor, seen=known, seed=seed))
        score_external(predictor, manifests, store, params, seen=known)
    print(
        f"{sum(len(manifests[role]) for role in ROLES)} images of {', '.join(ROLES)} scored; {len(degraded)} degraded ones"
    )


if __name__ == "__main__":
    run(main)
