"""What stage 1 and the baselines say of each image: the part of an evaluation that runs networks and fits classifiers."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from assay.core.progress import progress
from assay.data.path_text import plain_text, unescape_path
from assay.images.audit import metadata_classifier, metadata_features, shortcut_aucs
from assay.images.decode_set import FACTS, Refused, decode_all, decode_settings
from assay.images.drawings import drawings
from assay.images.forge.families import encode_jpeg
from assay.images.listing import rejected_in_words
from assay.images.model.dataset import PictureSet
from assay.images.model.embedding import embed_arrays, embed_set
from assay.images.model.prediction import Predictor
from assay.images.model.store import PixelStore
from assay.images.model.transforms import resize
from assay.images.pixel_statistics import pixel_classifier, pixel_statistics
from assay.images.seen import SeenPictures, stored_form
from assay.images.sources import list_path
from assay.images.unlike import MAX_ROWS, Seen, fit_seen
from assay.params.images import External, Prepare, Robustness
from assay.params.shared import Limits

KEYS = ["sample_id", "label", "group_id", "generator"]
SCORES = ["logit", "distance"]
CELL = ["jpeg_quality", "resize", "blur_sigma"]
# The family that is forged by what the grid of degradations does.
SAME_OPERATION = "resample"


def seen_pictures(predictor: Predictor, train: pd.DataFrame, store: PixelStore, *, seed: int) -> Seen:
    """Where stage 1's embeddings of the train role lie, from at most `MAX_ROWS` of its pictures."""
    rows = train if len(train) <= MAX_ROWS else train.sample(MAX_ROWS, random_state=seed)
    data = PictureSet(store, rows, image_size=predictor.image_size)
    return fit_seen(embed_set(predictor, data, name="stage 1 on train")[1])


def score_rows(
    predictor: Predictor, manifest: pd.DataFrame, store: PixelStore, *, seen: Seen, name: str
) -> pd.DataFrame:
    """The keys of a manifest's rows with stage 1's ``logit`` (float64) and their ``distance`` from pictures seen."""
    data = PictureSet(store, manifest, image_size=predictor.image_size)
    logits, distances = embed_set(predictor, data, name=f"stage 1 on {name}", reduce=seen.distances)
    return manifest[KEYS].assign(logit=logits, distance=distances)


def score_drawings(predictor: Predictor, *, seen: Seen, seed: int) -> pd.DataFrame:
    """The same of pictures that are no photographs: kind, group_id (each its own), logit, distance."""
    pixels, kinds = drawings(side=predictor.image_size, seed=seed)
    logits, distances = embed_arrays(predictor, pixels, reduce=seen.distances)
    groups = [f"{kind} {number}" for number, kind in enumerate(kinds)]
    return pd.DataFrame({"kind": kinds, "group_id": groups, "logit": logits, "distance": distances})


def baseline_probs(train: pd.DataFrame, test: pd.DataFrame, store: PixelStore, *, seed: int) -> pd.DataFrame:
    """Probabilities of what a network has to beat, each fitted on the train role: sample_id and a column per baseline.

    ``majority``: the share of forged in train for every image; ``metadata``: the audit's classifier on file metadata;
    ``pixel_statistics``: logistic regression on high-pass energy and DCT magnitudes.
    """
    labels = train["label"].to_numpy()
    metadata = metadata_classifier(seed=seed).fit(metadata_features(train), labels)
    known, new = (pixel_statistics(store.pixels[store.rows_of(list(rows["sample_id"]))]) for rows in (train, test))
    pixel = pixel_classifier().fit(known, labels)
    return pd.DataFrame(
        {
            "sample_id": test["sample_id"].to_numpy(),
            "majority": np.full(len(test), labels.mean()),
            "metadata": metadata.predict_proba(metadata_features(test))[:, 1],
            "pixel_statistics": pixel.predict_proba(new)[:, 1],
        }
    )


def degrade(image: np.ndarray, *, blur_sigma: float, resize: float, jpeg_quality: int) -> np.ndarray:
    """Blur, then make smaller and larger again, then recompress one uint8 image [S, S, 3].

    ``blur_sigma`` 0, ``resize`` 1 and ``jpeg_quality`` 100 leave it as it is. It is enlarged by a kernel (bicubic) that the
    forgery `resample` does not know.
    """
    side = image.shape[0]
    if blur_sigma > 0:
        image = cv2.GaussianBlur(image, (0, 0), blur_sigma)
    if resize < 1:
        small = max(2, round(side * resize))
        image = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    if jpeg_quality < 100:
        decoded = cv2.imdecode(np.frombuffer(encode_jpeg(image, quality=jpeg_quality), np.uint8), cv2.IMREAD_COLOR)
        image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    return image


def at_size(pixels: np.ndarray, side: int) -> np.ndarray:
    """Stored images uint8 [n, S, S, 3] as a network of this size is shown them, uint8 [n, side, side, 3]."""
    return resize(torch.from_numpy(pixels).permute(0, 3, 1, 2), side).permute(0, 2, 3, 1).numpy()


def degraded_logits(
    predictor: Predictor, rows: pd.DataFrame, store: PixelStore, *, settings: Robustness
) -> pd.DataFrame:
    """The same images blurred, made smaller and recompressed in every combination: keys, cell and ``logit`` a row.

    They are degraded as stored, before the network's own size.

    ``rows`` hold no forgery of `SAME_OPERATION`: to make a picture smaller and larger is no nuisance to it but what forged
    means. A real picture that was resized carries its trace, too, so that in those cells the order of real and forged (the
    AUC) means something, and a threshold little.
    """
    assert SAME_OPERATION not in set(rows["generator"])
    pixels = store.pixels[store.rows_of(list(rows["sample_id"]))]
    cells = list(product(settings.jpeg_quality, settings.resize, settings.blur_sigma))
    tables = []
    for quality, factor, sigma in progress(cells, name="robustness", unit="cell"):
        worse = np.stack([degrade(image, blur_sigma=sigma, resize=factor, jpeg_quality=quality) for image in pixels])
        cell = dict(zip(CELL, (quality, factor, sigma), strict=True))
        tables.append(rows[KEYS].assign(**cell, logit=predictor.array_logits(at_size(worse, predictor.image_size))))
    return pd.concat(tables, ignore_index=True)


def external_set(
    predictor: Predictor,
    item: External,
    *,
    settings: Prepare,
    workers: int,
    limits: Limits,
    prepared: SeenPictures,
    seen: Seen,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, float]]:
    """The scores of a labelled set that no other stage has seen, the files of it that could not be used, and its audit.

    The audit is `assay.images.audit.shortcut_aucs` of the set. Among the files are pictures that ``prepared`` holds, too:
    equal ones, whatever they are called, and near-duplicates. ``seen``: what the distance of each is taken from.

    Raises:
        ValueError: no such set, or fewer than two classes left.
    """
    name = item.name
    listing = list_path(
        Path(item.path), dataset=name, how=item, field="evaluate.external", max_bytes=limits.table_bytes
    )
    if listing.problem is not None:
        raise ValueError(listing.problem)
    paths = [unescape_path(path) for path in listing.rows["image_path"]]
    kept, found, forms, infos, stored, rejected = [], [], [], [], [], []
    how = decode_settings(settings, side=settings.size)
    for number, result in enumerate(decode_all(paths, how, workers=workers, limits=limits)):
        if isinstance(result, Refused):
            rejected.append((listing.rows["image_path"].iloc[number], name, result.reason, plain_text(result.detail)))
            continue
        kept.append(number)
        forms.append(stored_form(result.pixels, settings=settings))
        infos.append([getattr(result.info, name) for name in FACTS])
        stored.append(result.pixels)
        picture = at_size(result.pixels[None], predictor.image_size)
        found.append(np.concatenate(embed_arrays(predictor, picture, reduce=seen.distances)))
    twins = prepared.twins(forms, settings=settings)
    logits, distances = np.array(found, dtype=np.float64).reshape(-1, 2).T
    rows = listing.rows.iloc[kept].assign(logit=logits, distance=distances).reset_index(drop=True)
    rows = rows.join(pd.DataFrame(infos, columns=FACTS))
    rejected += [
        (path, name, "seen", f"the same picture as {twin}, or nearly")
        for path, twin in zip(rows["image_path"], twins, strict=True)
        if twin is not None
    ]
    unseen = np.array([twin is None for twin in twins])
    rows = rows[unseen]
    problems = pd.DataFrame(rejected, columns=listing.rejected.columns)
    rejections = pd.concat([listing.rejected, problems], ignore_index=True)
    if rows["label"].nunique() < 2:
        said = rejected_in_words(rejections)
        raise ValueError(
            f"external set {name}: {len(rows)} usable images of one class; real and forged are needed; {said}"
        )
    scores = rows.rename(columns={"image_path": "sample_id", "group": "group_id"}).reset_index(drop=True)
    audit = shortcut_aucs(scores, np.stack(stored)[unseen], folds=settings.folds, seed=seed)
    return scores[["dataset", *KEYS, *SCORES]], rejections, audit
