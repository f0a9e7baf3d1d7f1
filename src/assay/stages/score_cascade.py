"""score_cascade: what every system of the cascade says of calib, tune and test, and what each costs.

    python -m assay.stages.score_cascade

Output, in data/cascade: scores_<role>.parquet (sample_id, label, group_id, generator and logits: stage1, ensemble, and each
expert's refit network alone, at its own size and, as ``<expert>@<side>``, at those of ``score_cascade.sizes``) and
costs.json (multiply-accumulates of one image, and the bytes of a picture that is sent). Thresholds, calibration, the choice
of what ships and metrics read these and run no network, so that a changed threshold takes seconds.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from assay.core.io import write_json, write_parquet
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.images.cascade.cost import count_macs
from assay.images.cascade.ensemble import ensemble_logits, load_ensemble
from assay.images.cascade.networks import load_singles
from assay.images.manifest import read_manifest
from assay.images.model.dataset import PictureSet
from assay.images.model.prediction import load_predictor
from assay.images.model.store import open_store
from assay.images.stacking import EXPERTS
from assay.params.stacking import Stacking

DATA = Path("data/processed")
STAGE1 = Path("data/stage1")
MODELS = Path("models")
OUTPUT = Path("data/cascade")
ROLES = ("calib", "tune", "test")
# Whose files tell what a picture weighs that is sent: what ships is chosen there.
SENT = "tune"


def main() -> None:
    params = load(Stacking)
    device = params.runtime.device
    set_up_torch(threads=params.runtime.threads)
    with timed("score_cascade"):
        store, ensemble = open_store(DATA), load_ensemble(MODELS, device=device)
        singles = load_singles(MODELS, EXPERTS, sizes=params.score_cascade.sizes, device=device)
        for role in ROLES:
            manifest = read_manifest(DATA, role)
            scores = pd.read_parquet(STAGE1 / f"scores_{role}.parquet").rename(columns={"logit": "stage1"})
            assert scores["sample_id"].tolist() == manifest["sample_id"].tolist()
            images = PictureSet(store, manifest, image_size=store.side)
            scores["ensemble"] = ensemble_logits(ensemble, images, scores["stage1"].to_numpy(), name=role)
            for name, extractor in singles.items():
                data = PictureSet(store, manifest, image_size=extractor.image_size)
                scores[name] = extractor.logits(data, name=f"{name} on {role}")
            write_parquet(OUTPUT / f"scores_{role}.parquet", scores)
        stage1 = load_predictor(MODELS / "stage1", device=device)
        macs = {"stage1": count_macs(stage1.from_pixels, image_size=stage1.image_size), "ensemble": ensemble.macs()}
        macs |= {name: count_macs(one.from_pixels, image_size=one.image_size) for name, one in singles.items()}
        sent = float(read_manifest(DATA, SENT)["file_bytes"].astype(float).mean())
        write_json(OUTPUT / "costs.json", {"macs": macs, "picture_bytes": sent})
    print(f"million multiply-accumulates an image: {', '.join(f'{n} {c / 1e6:.1f}' for n, c in macs.items())}")
    print(f"a picture that is sent has {sent:.0f} bytes")


if __name__ == "__main__":
    run(main)
