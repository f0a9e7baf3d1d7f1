"""train_meta: search, bake-off and refit of the meta-model over X_meta, and its join with stage 1 on calib.

    python -m assay.stages.train_meta

Output: models/meta (meta.json and, if LightGBM is shipped, trees.safetensors; alignment.safetensors, without which the
meta-model can't read a fold's networks) and metrics/meta.json. No pickle: loading one runs whatever the file says. See
assay.images.stacking: meta, meta_model, bake_off and join.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from assay.core.io import read_json, read_npy, write_json
from assay.core.params import load
from assay.core.stage import run, timed
from assay.images.stacking import EXPERTS, bake_off, meta
from assay.images.stacking.join import fit_join
from assay.images.stacking.join_report import join_reports, join_words
from assay.images.stacking.meta_model import MetaModel, expert_logits
from assay.images.stacking.saved import load_alignments, save_alignments, save_meta
from assay.images.stacking.test_time import choose_mode, mode_words, view_logits
from assay.metrics.binary import flatten, summarise
from assay.params.stacking import Stacking

DATA = Path("data/meta")
STAGE1 = Path("data/stage1")
MODELS = Path("models/meta")
METRICS = Path("metrics/meta.json")
LOGITS_MODEL = {"n_estimators": 60, "num_leaves": 7, "learning_rate": 0.05, "min_child_samples": 40}
SHOWN = ("n", "fold_auc", "best_gain", "best_gain_low", "best_gain_high", "auc", "f1", "nll")


def read_calib(model: MetaModel, *, mode: str) -> tuple[pd.DataFrame, str, dict[str, float]]:
    """The calib role with the log-odds of ``stage1`` and ``ensemble``; the test-time mode and its report (`choose_mode`)."""
    keys, views = pd.read_parquet(DATA / "calib_ids.parquet"), read_npy(DATA / "X_calib.npy")
    stage1 = pd.read_parquet(STAGE1 / "scores_calib.parquet").set_index("sample_id")["logit"]
    logits = view_logits(model, views)
    mode, report = choose_mode(logits, keys, mode=mode)
    calib = keys.assign(stage1=stage1.loc[keys["sample_id"]].to_numpy(), ensemble=logits[mode])
    return calib, mode, report


def main() -> None:
    params = load(Stacking)
    settings, seed, threads = params.train_meta, params.runtime.seed, params.runtime.threads
    with timed("train_meta"):
        features, labels = read_npy(DATA / "X_meta.npy"), read_npy(DATA / "y_meta.npy")
        keys = pd.read_parquet(DATA / "sample_ids.parquet")
        base_fold, groups = keys["base_fold"].to_numpy(), keys["group_id"].to_numpy()
        best, selection_auc = meta.search(
            features, labels, base_fold, settings=settings.search, seed=seed, threads=threads
        )
        print(f"best settings {best}, leave-base-fold-out AUC {selection_auc:.4f} (a selection score, not a result)")
        model = meta.lightgbm_classifier(seed=seed, threads=threads, **best)
        logits_model = meta.lightgbm_classifier(seed=seed, threads=threads, **LOGITS_MODEL)
        singles = expit(expert_logits(features, len(EXPERTS)))
        alone = [bake_off.measure(labels, singles[:, i], groups, base_fold) for i in range(len(EXPERTS))]
        reports = {f"single.{expert}": one.summary() for expert, one in zip(EXPERTS, alone, strict=True)}
        expert = int(np.argmax([one.point["fold_auc"] for one in alone]))
        candidates = {"experts": EXPERTS, "expert": expert, "model": model, "logits_model": logits_model}
        probs = meta.candidate_probs(features, labels, base_fold, **candidates)
        measured = {name: bake_off.measure(labels, values, groups, base_fold) for name, values in probs.items()}
        shipped, gains = bake_off.choose(measured, metric="fold_auc", ship=settings.ship)
        reports |= {name: one.summary() | gains[name] for name, one in measured.items()}
        rows, inner = meta.inner_split(model, features, labels, groups, seed=seed)
        reports["inner_split"] = summarise(labels[rows], inner, groups[rows])
        final = meta.fit_meta(shipped, features, labels, **candidates)
        calib, mode, reports["calib.fold_average"] = read_calib(final, mode=settings.test_time_mode)
        join = fit_join(calib["stage1"].to_numpy(), calib["ensemble"].to_numpy(), calib["label"].to_numpy())
        reports |= join_reports(*(calib[name].to_numpy() for name in ("stage1", "ensemble", "label", "group_id")))
        info = {
            "feature_names": read_json(DATA / "feature_names.json"),
            "class_order": ["real", "forged"],
            "best_params": best,
            "alignment": params.build_meta.alignment,
            "test_time_mode": mode,
            "join": asdict(join),
            "threshold": 0.5,
            "stacking_rejected": shipped in ("single", "mean_logit"),
        }
        save_meta(MODELS, final, info)
        save_alignments(MODELS / "alignment.safetensors", load_alignments(DATA / "alignment.safetensors"))
        others = {"search.selection_auc": selection_auc, "shipped": shipped, "test_time_mode": mode}
        write_json(METRICS, flatten(reports) | others)
    print(pd.DataFrame(reports).T.loc[list(probs), list(SHOWN)].astype(float).round(4).to_string())
    print(f"90/10 inner group split: AUC {reports['inner_split']['auc']:.4f}, F1 {reports['inner_split']['f1']:.4f}")
    print(f"shipped: {shipped}" + (" (stacking rejected)" if info["stacking_rejected"] else ""))
    print(f"joined with stage 1 on calib: {join}")
    print("\n".join([*join_words(reports), mode_words(reports["calib.fold_average"], mode)]))


if __name__ == "__main__":
    run(main)
