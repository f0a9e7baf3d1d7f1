"""A cascade as two networks: the first judges every image, the second those that the first is not sure of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from assay.calibration.temperature import apply_temperature
from assay.images.cascade.cost import ENSEMBLE, STAGE1, Costs
from assay.images.cascade.decision import Decisions, decide, deferred_mask
from assay.images.cascade.measure import Measured, fit_deferred_temperature
from assay.images.cascade.thresholds import Thresholds, fit_thresholds
from assay.images.stacking.join import Join, enough, fit_join
from assay.params.stacking import EvaluateCascade

Pair = tuple[str, str]


def pairs_of(costs: Costs) -> list[Pair]:
    """Every network, and behind it each that stands later in the order of costs, and the ensemble.

    Behind stage 1 all others stand: on a device it is free, whatever it costs there.
    """
    names = costs.singles
    pairs = [(one, two) for place, one in enumerate(names) for two in names[place + 1 :]]
    pairs += [(STAGE1, name) for name in names[: names.index(STAGE1)]]
    return pairs + [(name, ENSEMBLE) for name in names]


@dataclass(frozen=True)
class Fitted:
    """A cascade with all that was fitted for it.

    Attributes:
        first, second: names of its networks.
        first_temperature: of the first network, from all of calib.
        join: of the first network's logit and the second's, from all of calib; ``temperature`` (with its limits) of what
            it gives, from the rows of calib that are deferred.
        thresholds: the exits, from tune.
    """

    first: str
    second: str
    first_temperature: float
    join: Join
    temperature: Mapping[str, float]
    thresholds: Thresholds

    def probs(self, role: Measured) -> tuple[np.ndarray, np.ndarray]:
        """What both networks say of a role: calibrated probabilities of forged [n] each."""
        joined = self.join.logits(role.logits[self.first], role.logits[self.second])
        first = apply_temperature(role.logits[self.first], self.first_temperature)
        return first, apply_temperature(joined, self.temperature["temperature"])

    def decide(
        self, role: Measured, *, exits: Mapping[str, float] | None = None, unsure: Sequence[float] | None = None
    ) -> Decisions:
        """Its decisions on a role, at its own exits or at others."""
        first, second = self.probs(role)
        return decide(first, second, **(exits or self.thresholds.exits), names=(self.first, self.second), unsure=unsure)


def fit_pair(
    calib: Measured,
    tune: Measured,
    pair: Pair,
    *,
    first_temperature: float,
    settings: EvaluateCascade,
    interval: bool = False,
) -> Fitted:
    """Thresholds from tune, join and temperature from calib; ``interval``: the temperature's, over groups."""
    first, second = pair
    found = fit_thresholds(
        apply_temperature(tune.logits[first], first_temperature),
        tune.labels,
        tune.groups,
        budget_forged=settings.budget_forged,
        budget_real=settings.budget_real,
        certify=settings.certify,
        correlation=settings.assumed_correlation,
    )
    # Stage 1's logit is in the ensemble already.
    known = first == STAGE1 and second == ENSEMBLE
    one, two = calib.logits[first], calib.logits[second]
    join = Join() if known or not enough(calib.labels) else fit_join(one, two, calib.labels)
    rows, logits = deferred_mask(apply_temperature(one, first_temperature), **found.exits), join.logits(one, two)
    temperature = fit_deferred_temperature(
        logits[rows], calib.labels[rows], calib.groups[rows], system=second, interval=interval
    )
    return Fitted(first, second, first_temperature, join, temperature, found)


def exits_by_share(probs: np.ndarray, share: float) -> dict[str, float]:
    """Exits at the same distance from 0.5 on both sides, between which ``share`` of these probabilities [n] lies."""
    reach = float(np.quantile(np.abs(probs - 0.5), share))
    # Never closed: at 0.5 no verdict would be left to the first network.
    reach = max(reach, 1e-9)
    return {"exit_real": 0.5 - reach, "exit_forged": 0.5 + reach}
