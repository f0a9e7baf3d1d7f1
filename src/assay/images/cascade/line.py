"""The line of single networks: what a cascade has to beat at its own cost.

Between two networks lies every mixture of them: a coin decides for each picture which of them judges it. Its balanced
accuracy is expected to lie on the straight line between theirs, and so does its cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from assay.metrics.binary import Resampled


@dataclass(frozen=True)
class Line:
    """The upper concave hull of networks in the plane of cost and quality: names and costs [k], both rising."""

    names: tuple[str, ...]
    costs: tuple[float, ...]

    def shares(self, cost: float) -> dict[str, float]:
        """Name -> share of the pictures, of the best mixture at a mean cost of at most ``cost``.

        Below the cheapest network that network, for want of a cheaper one.
        """
        for number in range(len(self.names) - 1):
            low, high = self.costs[number : number + 2]
            if cost < high:
                right = max(0.0, (cost - low) / (high - low))
                return {self.names[number]: 1.0 - right, self.names[number + 1]: right}
        return {self.names[-1]: 1.0}


def line_of(costs: Mapping[str, float], quality: Mapping[str, float]) -> Line:
    """The line through the networks of which no mixture of others is as good at their cost.

    Args:
        costs, quality: by name of the network; of two with the same cost the better counts.
    """
    hull: list[str] = []
    for name in sorted(costs, key=lambda name: (costs[name], -quality[name])):
        if hull and quality[name] <= quality[hull[-1]]:
            continue
        while len(hull) > 1 and _slope(hull[-2], name, costs, quality) >= _slope(hull[-2], hull[-1], costs, quality):
            hull.pop()
        hull.append(name)
    return Line(tuple(hull), tuple(costs[name] for name in hull))


def _slope(one: str, two: str, costs: Mapping[str, float], quality: Mapping[str, float]) -> float:
    return (quality[two] - quality[one]) / (costs[two] - costs[one])


def mixture(measured: Mapping[str, Resampled], shares: Mapping[str, float], *, metric: str) -> Resampled:
    """A mean over rows or classes (no AUC), as expected of a mixture of systems that were measured on the same rows."""
    first = measured[next(iter(shares))]
    point = sum(share * measured[name].point[metric] for name, share in shares.items())
    left_out = sum(share * measured[name].left_out[metric] for name, share in shares.items())
    return Resampled(first.n, first.n_groups, first.df, {metric: point}, {metric: left_out})  # type: ignore[dict-item]
