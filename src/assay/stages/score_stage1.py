"""score_stage1: what stage 1 says of every role but train, and what the test role is compared with.

    python -m assay.stages.score_stage1

Output, in data/stage1: scores_<role>.parquet (sample_id, label, group_id, generator, logit, distance) of val, calib, tune,
test, and test_extra: baselines.parquet (probabilities), robustness.parquet (logits of degraded images), drawings.parquet
(pictures that are no photographs), external.parquet and external_rejected.csv (sets that no other stage has seen). In
models/stage1: seen.safetensors, from which a distance is measured: where the embeddings of the train role lie. The stages
behind it run no network, so that they take seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from assay.core.io import write_csv, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.images.manifest import read_manifest
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
from assay.images.unlike import Seen, save_seen
from assay.params.images import Images

DATA = Path("data/processed")
MODEL = Path("models/stage1")
OUTPUT = Path("data/stage1")
EXTRA = OUTPUT / "test_extra"
ROLES = ("val", "calib", "tune", "test")


def score_external(
    predictor: Predictor, manifests: dict[str, pd.DataFrame], store: PixelStore, params: Images, *, seen: Seen
) -> None:
    """Score the sets of ``evaluate.external``."""
    scores, rejected = [pd.DataFrame(columns=["dataset", *KEYS, *SCORES])], []
    # To hash every prepared picture takes a while: only where there is something to compare.
    known = manifests.values() if params.evaluate.external else [manifests["test"].head(0)]
    options: dict[str, Any] = {"settings": params.prepare, "workers": params.runtime.workers, "seen": seen}
    options["limits"] = params.limits
    options["prepared"] = SeenPictures.of(known, store, settings=params.prepare)
    for item in params.evaluate.external:
        found = external_set(predictor, item, **options)
        scores.append(found[0])
        rejected.append(found[1])
    write_parquet(EXTRA / "external.parquet", pd.concat(scores[1:] or scores, ignore_index=True))
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
