"""prepare: every source decoded once, grouped, split into five roles, folded and audited.

    python -m assay.stages.prepare

Output in data/processed: a manifest per role, the pixel store, the fold table, rejected.csv and audit.json; and
metrics/data.json.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from itertools import compress
from pathlib import Path

import pandas as pd

from assay.core.io import write_csv, write_json
from assay.core.params import load
from assay.core.progress import progress
from assay.core.stage import run, timed
from assay.data.findings import findings_table, raise_errors
from assay.data.path_text import plain_text, unescape_path
from assay.data.roles import ROLES, borrowed
from assay.images.audit import (
    column_summary,
    corner_auc,
    flipped_parts,
    flipped_words,
    metadata_auc,
    name_auc,
    shortcut_words,
)
from assay.images.decode_set import FACTS, Refused, decode_all, decode_settings
from assay.images.duplicates import Fingerprint
from assay.images.listing import REJECTED, Listing, rejected_in_words, two_labels, with_rejected
from assay.images.lookalikes import closest_pairs, in_words
from assay.images.manifest import sample_id
from assay.images.model.store import PixelStore, open_store, open_writer
from assay.images.preflight import check_fold_table, check_prepared, pipeline_folds
from assay.images.sources import forged_folds, list_sources
from assay.images.split import MANIFEST, fold_table, group_and_split, near_duplicates
from assay.params.images import Images

OUTPUT = Path("data/processed")
REFUSED = OUTPUT / "rejected.csv"
METRICS = Path("metrics/data.json")
# Pairs of groups in different roles that audit.json lists, the most alike first.
CLOSEST = 10


def decode_into_store(listing: Listing, params: Images) -> tuple[pd.DataFrame, pd.DataFrame, list]:
    """Write the pixel store; returns the rows to use, all rejected files, and the rows' fingerprints.

    The store holds what `two_labels` rejects, too: that is known only when all is written.
    """
    settings = params.prepare
    how = decode_settings(settings, side=settings.size)
    paths = [unescape_path(path) for path in listing.rows["image_path"]]
    kept: list[int] = []
    sample_ids: list[str] = []
    facts, failed, prints, digests = [], [], [], []
    with open_writer(OUTPUT, side=settings.size, sample_ids=sample_ids) as writer:
        results = decode_all(paths, how, workers=params.runtime.workers, limits=params.limits)
        names = zip(listing.rows["image_path"], listing.rows["dataset"], strict=True)
        bar = progress(results, name="decoding", unit="image", total=len(paths))
        for number, ((image_path, dataset), result) in enumerate(zip(names, bar, strict=True)):
            if isinstance(result, Refused):
                failed.append((image_path, dataset, result.reason, plain_text(result.detail)))
                continue
            kept.append(number)
            info = result.info
            facts.append(tuple(getattr(info, name) for name in FACTS))
            prints.append(result.fingerprint)
            sample_ids.append(sample_id(image_path))
            digests.append(hashlib.sha256(result.pixels.tobytes()).digest())
            writer.append(result.pixels[None])
    rows = listing.rows.iloc[kept].reset_index(drop=True).assign(sample_id=sample_ids)
    rows = rows.join(pd.DataFrame(facts, columns=FACTS))
    # Of what forge makes none is asked: now and then it changes nothing, say where it inpaints plain black.
    forged = {source.dataset for source in settings.sources if source.kind == "forge"}
    own = ~rows["dataset"].isin(forged)
    both = two_labels(rows[own], list(compress(digests, own)))
    rejected = pd.concat([listing.rejected, pd.DataFrame(failed, columns=REJECTED), both], ignore_index=True)
    good = ~rows["image_path"].isin(both["file"])
    return rows[good].reset_index(drop=True), rejected, list(compress(prints, good))


def audit(
    frame: pd.DataFrame, prints: Sequence[Fingerprint | None], store: PixelStore, params: Images
) -> dict[str, object]:
    """What `assay.images.audit` and `assay.images.lookalikes` find; warns, or raises on a shortcut, as the user chose."""
    settings, seed = params.prepare, params.runtime.data_seed
    train, options = frame[frame["split"] == "train"], {"folds": settings.folds, "seed": seed}
    pixels = store.pixels[store.rows_of(list(train["sample_id"]))]
    aucs = {"metadata": metadata_auc(train, **options), "corners": corner_auc(train, pixels, **options)}
    shortcuts = shortcut_words(aucs, train, max_auc=settings.audit.max_auc)
    names: dict[str, str] = {}
    # Of what forge makes the names tell the family. No network sees a name: they are a hint and stop nothing.
    forged = {source.dataset for source in settings.sources if source.kind == "forge"}
    own = train[~train["dataset"].isin(forged)]
    if own.groupby("label")["group_id"].nunique().reindex([0, 1], fill_value=0).min() >= settings.folds:
        aucs["names"] = name_auc(own, **options)
        names = shortcut_words({"names": aucs["names"]}, own, max_auc=settings.audit.max_auc)
    if shortcuts and settings.audit.action == "fail":
        raise ValueError("; ".join(shortcuts.values()))
    shortcuts |= names
    flipped, pairs = flipped_parts(frame, store, seed=seed), closest_pairs(frame, prints, seed=seed)
    told = [*shortcuts.values(), *flipped_words(flipped), in_words(pairs)]
    for message in filter(None, told):
        warnings.warn(message, stacklevel=2)
    return {
        **{f"{name}_auc": auc for name, auc in aucs.items()},
        "max_auc": settings.audit.max_auc,
        "shortcuts": sorted(shortcuts),
        "flipped": flipped,
        "suspicious_pairs": int(pairs["suspicious"].sum()),
        "closest_pairs": pairs.head(CLOSEST).to_dict("records"),
        "files": column_summary(train),
    }


def main() -> None:
    params = load(Images)
    settings, seed = params.prepare, params.runtime.data_seed
    with timed("prepare"):
        listing = list_sources(settings, max_bytes=params.limits.table_bytes)
        # Written at once, since what follows may stop for want of these files.
        write_csv(REFUSED, listing.rejected)
        if listing.problem is not None:
            raise ValueError(with_rejected(listing.problem, listing.rejected, REFUSED))
        rows, rejected, prints = decode_into_store(listing, params)
        write_csv(REFUSED, rejected)
        try:
            frame = group_and_split(rows, prints, settings=settings, roles=params.roles, seed=seed)
            findings = check_prepared(frame, settings=settings, num_kfold_stages=pipeline_folds())
            raise_errors(findings, what="the images line")
            train = frame[frame["split"] == "train"]
            folds = fold_table(train, declared=forged_folds(settings), folds=settings.folds, seed=seed)
        except ValueError as error:
            raise ValueError(with_rejected(str(error), rejected, REFUSED)) from error
        for role in ROLES:
            write_csv(OUTPUT / f"{role}_manifest.csv", frame.loc[frame["split"] == role, MANIFEST])
        write_csv(OUTPUT / "folds.csv", folds)
        found = audit(frame, prints, open_store(OUTPUT), params)
        write_json(OUTPUT / "audit.json", found)
        metrics: dict[str, object] = {
            f"{role}.{name}": value
            for role, part in frame.groupby("split")
            for name, value in (
                ("n", len(part)),
                ("n_forged", int(part["label"].sum())),
                ("n_groups", part["group_id"].nunique()),
            )
        }
        metrics |= {"rejected": len(rejected)}
        metrics |= {f"audit.{name}": found[name] for name in ("metadata_auc", "corners_auc", "suspicious_pairs")}
        write_json(METRICS, metrics)
    table = frame.pivot_table(index="split", columns="generator", values="sample_id", aggfunc="count", fill_value=0)
    print(table.reindex(ROLES).to_string())
    print(findings_table([*findings, *check_fold_table(folds)]))
    for line in (borrowed(frame), near_duplicates(frame), rejected_in_words(rejected)):
        print(line, end="\n" if line else "")
    print(f"metadata-only AUC {found['metadata_auc']:.3f}, corners only {found['corners_auc']:.3f} (0.5: no shortcut)")
    print("assay check --data: what the later stages need, and the time, memory and disk that they will take")


if __name__ == "__main__":
    run(main)
