"""How often calibrated predictors are rejected at 5 %: the test over groups, and a floor that takes rows as independent.

    python benchmarks/calibration_level.py [--runs 1000]

Prints a Markdown table (docs/metrics.md). Nothing is trained or read; some minutes on one core.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from scipy.stats import norm

from assay.metrics.calibration_error import calibration_test

GROUPS, CORRELATIONS = (6, 9, 20), (0.0, 0.1, 0.3)
ROWS, FLOOR_DRAWS, LEVEL = 40, 100, 0.05


def scenes(
    rng: np.random.Generator, *, num_groups: int, correlation: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities [n] that are right over all scenes, labels [n] that go together within one, and scenes [n].

    A label is 1 where a normal variable, shared in part by its scene, exceeds what the probability says: whatever the
    correlation, each label is 1 with exactly its probability (a one-factor Gaussian copula).
    """
    # Sizes are log-normal with a mean of ROWS: the largest scene is often five times the median one.
    sizes = np.maximum(2, ROWS * rng.lognormal(-0.32, 0.8, num_groups)).astype(int)
    groups = np.repeat(np.arange(num_groups), sizes)
    values = 1.2 * rng.standard_normal(groups.size) + 0.8 * rng.standard_normal(num_groups)[groups]
    shared, own = rng.standard_normal(num_groups)[groups], rng.standard_normal(groups.size)
    labels = values + np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own > 0
    return norm.cdf(values), labels.astype(int), groups


def floor_p_value(rng: np.random.Generator, probs: np.ndarray, labels: np.ndarray) -> float:
    """Share of label sets drawn independently (Bröcker and Smith 2007) whose ECE (equal mass) is at least ours."""
    bins = np.digitize(probs, np.quantile(probs, np.linspace(0, 1, 16)[1:-1]))
    member = np.eye(15)[bins]
    drawn = rng.random((FLOOR_DRAWS, probs.size)) < probs
    errors = np.abs((np.vstack([labels, drawn]) - probs) @ member).sum(axis=1)
    return float((errors[1:] >= errors[0]).mean())


def rows(runs: int) -> Iterator[list[str]]:
    """Cells of the table, a row for each number of groups and correlation."""
    for num_groups in GROUPS:
        for correlation in CORRELATIONS:
            rng, rejected = np.random.default_rng(0), np.zeros(3)
            for number in range(runs):
                probs, labels, groups = scenes(rng, num_groups=num_groups, correlation=correlation)
                found = [
                    calibration_test(probs, labels, groups, binning=binning, seed=number).p_value
                    for binning in ("width", "mass")
                ]
                found.append(floor_p_value(rng, probs, labels))
                rejected += np.array(found) <= LEVEL
            yield [str(num_groups), f"{correlation:g}", *(f"{share:.1%}" for share in rejected / runs)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="simulated data sets a row (%(default)s)")
    header = ["groups", "correlation", "test, equal width", "test, equal mass", "floor of independent rows"]
    print(f"| {' | '.join(header)} |\n| {' | '.join('---' for _ in header)} |")
    for cells in rows(parser.parse_args().runs):
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
