"""Which cascade, or which one network, ships: candidates against each other on tune, by each way of counting cost.

A cascade is held against the line of single networks at its own cost (`assay.images.cascade.line`). It stays only where
it is shown to lie above that line, as everywhere here the simpler candidate stays unless the other beats it beyond the
interval. Otherwise it is rejected, and one system judges every image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.images.cascade.cost import ENSEMBLE, MACS, STAGE1, WAYS, Costs
from assay.images.cascade.line import Line, line_of, mixture
from assay.images.cascade.pairs import Pair
from assay.metrics.binary import Resampled
from assay.metrics.claims import outcome
from assay.metrics.paired import gains_together

METRIC = "balanced_accuracy"
GAIN = f"{METRIC}_gain_line"


@dataclass(frozen=True)
class Choice:
    """What tune chose by one way of counting.

    Attributes:
        cascade: the one with the largest gain over the line; ``rejected``: that gain is not shown to be above 0.
        network: the one system that judges every image where the cascade is rejected.
        line: of single networks.
        report: n, n_groups and `GAIN` of the cascade on tune, with limits that hold all ``comparisons`` together.
    """

    way: str
    cascade: Pair
    rejected: bool
    network: str
    line: Line
    comparisons: int
    report: dict[str, float] = field(default_factory=dict)

    @property
    def ships(self) -> str:
        """``cascade``, or the name of the one system."""
        return self.network if self.rejected else "cascade"

    def record(self) -> dict[str, Any]:
        """Flat, for the metrics; what was measured on tune begins with ``tune_``."""
        found = {"cascade": " > ".join(self.cascade), "network": self.network, "rejected": self.rejected}
        found |= {"comparisons": self.comparisons, "line": " - ".join(self.line.names)}
        return found | {f"tune_{name}": value for name, value in self.report.items()}


def choose(
    alone: Mapping[str, Resampled],
    cascades: Mapping[Pair, Resampled],
    shares: Mapping[Pair, float],
    costs: Costs,
    *,
    way: str,
) -> Choice:
    """What ships by one way of counting, from balanced accuracies on the rows of tune.

    Args:
        alone: each single network and the ensemble.
        cascades: each at its exits, ``shares``: what it defers. Where a device counts as free, those that begin on it.

    Returns:
        The cascade is kept where its gain over the line is above 0 beyond the interval; the interval holds for all
        cascades together (`gains_together`), since the best of them was chosen by these rows. The one system is the
        cheapest that the best is not shown to beat. Too few groups for an interval show nothing.
    """
    quality = {name: alone[name].point[METRIC] for name in costs.singles}
    if way != MACS:
        cascades = {pair: found for pair, found in cascades.items() if pair[0] == STAGE1}
    line = line_of({name: costs.alone(name, way=way) for name in quality}, quality)
    rivals = {
        pair: mixture(alone, line.shares(costs.cascade(*pair, shares[pair], way=way)), metric=METRIC)
        for pair in cascades
    }
    keys = {pair: " > ".join(pair) for pair in cascades}
    together = gains_together({keys[pair]: (cascades[pair], rivals[pair], METRIC) for pair in cascades})
    best = max(cascades, key=lambda pair: together[keys[pair]])
    groups = {"n": cascades[best].n, "n_groups": cascades[best].n_groups}
    report = groups | {f"{GAIN}{end}": together[f"{keys[best]}{end}"] for end in ("", "_low", "_high")}
    rejected = outcome(report, GAIN) != "better"
    return Choice(way, best, rejected, _network(alone, costs, way=way), line, len(cascades), report)


def _network(alone: Mapping[str, Resampled], costs: Costs, *, way: str) -> str:
    """The cheapest system that the best is not shown to beat."""
    names = sorted(
        [*costs.singles, ENSEMBLE], key=lambda name: (costs.alone(name, way=way), costs.alone(name, way=MACS))
    )
    best = max(names, key=lambda name: alone[name].point[METRIC])
    gains = gains_together({name: (alone[best], alone[name], METRIC) for name in names})
    groups = {"n_groups": alone[best].n_groups}
    return next(name for name in names if outcome(gains | groups, name) != "better")


def choose_all(
    alone: Mapping[str, Resampled], cascades: Mapping[Pair, Resampled], shares: Mapping[Pair, float], costs: Costs
) -> dict[str, Choice]:
    """`choose` by every way of counting."""
    return {way: choose(alone, cascades, shares, costs, way=way) for way in WAYS}
