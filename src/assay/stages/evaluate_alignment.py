"""evaluate_alignment: how far the folds' embeddings share coordinates, before and after alignment.

    python -m assay.stages.evaluate_alignment

What is said of anchors is said of groups of them that a map did not see. Output: metrics/alignment.json and
plots/alignment. Nothing is learned from them: build_meta does not wait for this.
"""

from __future__ import annotations

from pathlib import Path

from assay.core.io import write_json
from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.torch_setup import set_up_torch
from assay.images.stacking import EXPERTS
from assay.images.stacking.alignment_report import alignment_report, rank_warnings, save_alignment_data
from assay.images.stacking.folds import apply_alignments, fit_alignments, read_folds, refit_anchors
from assay.metrics.binary import nulled
from assay.params.stacking import Stacking

METRICS = Path("metrics/alignment.json")
PLOTS = Path("plots/alignment")
SHOWN = ("correlation", "fold_predictability", "random_cv_auc", "leave_base_fold_out_auc", "gap")


def main() -> None:
    params = load(Stacking)
    seed, threads = params.runtime.seed, params.runtime.threads
    set_up_torch(threads=threads)
    with timed("evaluate_alignment"):
        rows, anchors = read_folds(params)
        target = refit_anchors(anchors[0], device=params.runtime.device)
        maps = fit_alignments(anchors, target)
        aligned = apply_alignments(rows, maps)
        report = alignment_report(rows, aligned, anchors, maps, target.embeddings, seed=seed, threads=threads)
        write_json(METRICS, nulled(report))
        save_alignment_data(PLOTS, report)
    dims, used = report["n_dimensions"], [item.directions for item in maps.values()]
    print(f"{report['n_anchors']} anchors, {min(used)} to {max(used)} of {dims} directions used by the maps")
    for line in rank_warnings(report, EXPERTS):
        print(line)
    for name in SHOWN:
        print(f"{name:26s} raw {report[f'raw.{name}']:.4f}   aligned {report[f'aligned.{name}']:.4f}")


if __name__ == "__main__":
    run(main)
