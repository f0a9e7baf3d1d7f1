"""Does "leak <= x at 95 %" hold in 95 % of the cases, when images of one scene resemble one another?

    python benchmarks/leak_bounds.py
    python benchmarks/leak_bounds.py --runs 4000 --sizes 20 70 300

1. Bounds of a leak rate. In each run every scene draws its own rate from a beta distribution with the true mean and
the given
   intra-scene correlation, and its images leak or not (beta-binomial). How often the bound is at least the true mean,
   and how large it is on average: over scenes as shipped (`SceneLeaks.upper`), Clopper-Pearson over images, and
   Hoeffding-Bentkus over scenes; and the beta-binomial bound under an assumed correlation of at most 0.1. Scenes have
   the ``--sizes`` in turn.
2. Thresholds. Scores of stage 1 with an effect of the scene on each image; both exits are fitted by `fit_thresholds`,
with a bound and
   without. How often the true leak of the threshold that was chosen keeps the budget, and how often an exit is opened
   at all.
3. What G scenes without a leak certify, without an assumption and under an assumed correlation.
4. Limits of ``unsure``, fitted on the images that the exits defer, both from the same scenes: how often a new image's
class is in its
   set, by class, on average over runs.

Not measured: scenes that differ from those of tune (another family, another camera), which no bound covers.
"""

from __future__ import annotations

import argparse
import math
from bisect import bisect_left

import numpy as np
from scipy.special import expit
from scipy.stats import beta, binom, norm

from assay.images.cascade.abstention import unsure_range
from assay.images.cascade.decision import deferred_mask
from assay.images.cascade.thresholds import NEVER_REAL, fit_thresholds
from assay.metrics.bounds import SceneLeaks, scenes_to_certify
from assay.metrics.intervals import LEVEL

SCENES = (5, 12, 40, 59)
CORRELATIONS = (0.0, 0.05, 0.1, 0.3)
ASSUMED = 0.1
# Runs that also solve for the bound, to say how large it is: for coverage, one test at the truth is enough.
SOLVED = 20


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000, help="simulated sets a row (%(default)s)")
    parser.add_argument("--threshold-runs", type=int, default=200, help="of thresholds and limits (%(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[70, 70, 210], help="images a scene (70 70 210)")
    parser.add_argument("--leak", type=float, default=0.1, help="true rate (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    return parser.parse_args()


def simulate(sizes: np.ndarray, correlation: float, *, leak: float, rng: np.random.Generator) -> SceneLeaks:
    """One sample of scenes of these sizes [G] whose images leak at a mean rate of ``leak``."""
    rates: float | np.ndarray = leak
    if correlation > 0:
        strength = 1 / correlation - 1
        rates = rng.beta(leak * strength, (1 - leak) * strength, len(sizes))
    return SceneLeaks(rng.binomial(sizes, rates), sizes)


def hoeffding_bentkus(sample: SceneLeaks, rate: float) -> float:
    """P-value of "the mean over scenes is ``rate`` or more" (Bates et al. 2021, proposition 5)."""
    scenes, seen = len(sample.sizes), min(sample.rate, rate)
    divergence = (1 - seen) * math.log((1 - seen) / (1 - rate)) + (seen * math.log(seen / rate) if seen else 0.0)
    bentkus = math.e * binom.cdf(math.ceil(scenes * sample.rate - 1e-9), scenes, rate)
    return float(min(math.exp(-scenes * divergence), bentkus))


def solve(sample: SceneLeaks) -> float:
    """The Hoeffding-Bentkus bound, on a grid of 0.5 %."""
    grid = np.arange(math.ceil(200 * sample.rate) + 1, 200) / 200
    return float(next((rate for rate in grid if hoeffding_bentkus(sample, rate) <= 1 - LEVEL), 1.0))


def rejected_below(sizes: np.ndarray, leak: float) -> int:
    """Leaks in all from which on the bound under the assumed correlation is at least ``leak``."""

    def holds(total: int) -> bool:
        first = np.minimum(total, np.cumsum(sizes)) - np.minimum(total, np.cumsum(sizes) - sizes)
        return not SceneLeaks(first, sizes).keeps(leak, correlation=ASSUMED)

    return bisect_left(range(int(sizes.sum())), True, key=holds)


def bounds_table(options: argparse.Namespace, rng: np.random.Generator) -> None:
    """Coverage and mean size of each bound."""
    leak, runs = options.leak, options.runs
    print(f"1. Bounds of a leak rate of {leak}; images a scene {options.sizes} in turn, {runs} sets a row")
    print("   held in % of the sets (mean bound in %)")
    print("   scenes  correlation   over scenes   Hoeffding-Bentkus   assumed <= 0.1   Clopper-Pearson, images")
    for scenes in SCENES:
        sizes = np.resize(options.sizes, scenes)
        rows, least = sizes.sum(), rejected_below(sizes, leak)
        for correlation in CORRELATIONS:
            samples = [simulate(sizes, correlation, leak=leak, rng=rng) for _ in range(runs)]
            totals = np.array([sample.leaked.sum() for sample in samples])
            pooled = beta.ppf(LEVEL, totals + 1, rows - totals)
            held = (
                np.mean([not sample.keeps(leak) for sample in samples]),
                np.mean([hoeffding_bentkus(sample, leak) > 1 - LEVEL for sample in samples]),
                np.mean(totals >= least),
                np.mean(pooled >= leak),
            )
            few = samples[:SOLVED]
            means = (
                np.mean([sample.upper() for sample in few]),
                np.mean([solve(sample) for sample in few]),
                math.nan,  # the assumed model is dear to solve
                np.mean(pooled),
            )
            sized = ["" if math.isnan(mean) else f" ({100 * mean:4.1f})" for mean in means]
            cells = [f"{100 * share:5.1f}{size}" for share, size in zip(held, sized, strict=True)]
            print(f"   {scenes:6}  {correlation:11}   {cells[0]}   {cells[1]:>17}   {cells[2]:>14}   {cells[3]:>23}")


class Scores:
    """Log-odds of stage 1 for images of scenes: a class effect, a scene effect, and noise."""

    separation = 2.2

    def __init__(self, correlation: float) -> None:
        self.scene, self.noise = math.sqrt(correlation), math.sqrt(1 - correlation)

    def draw(self, sizes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probabilities, labels and scenes of as many real as forged images a scene."""
        groups = np.repeat(np.arange(len(sizes)), 2 * sizes)
        labels = np.arange(len(groups)) % 2
        effects = self.scene * rng.normal(size=(len(sizes), 2))[groups, labels]
        logits = self.separation * (2 * labels - 1) / 2 + effects + self.noise * rng.normal(size=len(groups))
        return expit(2 * logits), labels, groups

    def leak(self, threshold: float) -> float:
        """True share of the forged at or below a threshold: over scenes and images the scores have variance 1."""
        if threshold == NEVER_REAL:
            return 0.0
        return float(norm.cdf(math.log(threshold / (1 - threshold)) / 2 - self.separation / 2))


def thresholds_table(options: argparse.Namespace, rng: np.random.Generator) -> None:
    """How often the exits keep the budget, and how well limits of ``unsure`` cover."""
    budget, coverage, runs = options.leak, 0.8, options.threshold_runs
    print(
        f"\n2. The exit for real, budget {budget}; 4. unsure, coverage {coverage}; {runs} sets a row, in % of the sets"
    )
    print("                         budget kept                exit opens   bound of what   its class in the set")
    print("   scenes  correlation   observed   certify: true   when so      is observed        real    forged")
    fresh = np.full(60, 70)
    for scenes in SCENES:
        for correlation in (0.0, 0.1, 0.3):
            scores = Scores(correlation)
            kept, opened, covered = np.zeros(3), 0, []
            for _ in range(runs):
                probs, labels, groups = scores.draw(np.resize(options.sizes, scenes), rng)
                for number, certify in enumerate((False, True)):
                    found = fit_thresholds(
                        probs, labels, groups, budget_forged=budget, budget_real=budget, certify=certify
                    )
                    leak = scores.leak(found.exit_real.threshold)
                    kept[number] += leak <= budget
                    if certify:
                        opened += found.exit_real.threshold != NEVER_REAL
                    else:
                        kept[2] += leak <= found.exit_real.leak_upper
                        covered.append(new_coverage(scores, found.exits, probs, labels, groups, coverage, fresh, rng))
            kept, opened = 100 * kept / runs, 100 * opened / runs
            real, forged = 100 * np.nanmean(covered, axis=0)
            row = f"{kept[0]:8.1f}   {kept[1]:13.1f}   {opened:10.1f}   {kept[2]:13.1f}   {real:9.1f}   {forged:7.1f}"
            print(f"   {scenes:6}  {correlation:11}   {row}")


def new_coverage(
    scores: Scores,
    exits: dict[str, float],
    probs: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    coverage: float,
    sizes: np.ndarray,
    rng: np.random.Generator,
) -> list[float]:
    """Share of new deferred images whose class is in their set: real, forged. Stage 1 stands for the ensemble."""
    asked = deferred_mask(probs, **exits)
    low, high = unsure_range(probs[asked], labels[asked], groups[asked], coverage=coverage)
    new, classes, scenes = scores.draw(sizes, rng)
    new_asked = deferred_mask(new, **exits)
    inside = np.where(classes == 1, (new >= 0.5) | (new > low), (new < 0.5) | (new < high))
    shares = []
    for label in (0, 1):
        rows = new_asked & (classes == label)
        shares.append(SceneLeaks.of(inside[rows], scenes[rows]).rate if rows.any() else math.nan)
    return shares


def zero_table(options: argparse.Namespace) -> None:
    """What scenes without a leak certify, and how many a budget takes."""
    rows = int(np.median(options.sizes))
    assumed = (None, 0.3, 0.1, 0.05)
    print(f"\n3. What scenes of {rows} images certify if none leaks, in %, and scenes that 5 % takes")
    print("   scenes    nothing assumed   correlation <= 0.3    <= 0.1   <= 0.05")
    for scenes in SCENES:
        sample = SceneLeaks(np.zeros(scenes, dtype=np.int64), np.full(scenes, rows))
        values = [100 * sample.upper(correlation=correlation) for correlation in assumed]
        print(f"   {scenes:6}   {values[0]:16.2f}   {values[1]:18.2f}   {values[2]:7.2f}   {values[3]:7.2f}")
    needed = [scenes_to_certify(0.05, rows=rows, correlation=correlation) for correlation in assumed]
    print(f"   for 5 %  {needed[0]:16}   {needed[1]:18}   {needed[2]:7}   {needed[3]:7}")


def main() -> None:
    options = parse_arguments()
    bounds_table(options, np.random.default_rng(options.seed))
    thresholds_table(options, np.random.default_rng(options.seed))
    zero_table(options)


if __name__ == "__main__":
    main()
